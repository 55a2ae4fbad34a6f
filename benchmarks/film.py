"""Makes a GIF for a page from a video of `predict`.

python benchmarks/film.py runs/…/episodes/episode_0.mp4 --out docs/halfcheetah.gif
"""

import argparse
from pathlib import Path

MOST_BYTES = 1_500_000


def main() -> None:
    from moviepy import VideoFileClip

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("video", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--start", type=float, default=1.0, help="first second")
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--width", type=int, default=280, help="pixels")
    parser.add_argument("--frames_per_second", type=int, default=12)
    args = parser.parse_args()
    with VideoFileClip(str(args.video)) as clip:
        part = clip.subclipped(args.start, min(clip.duration, args.start + args.seconds))
        part.resized(width=args.width).write_gif(args.out, fps=args.frames_per_second)
    size = args.out.stat().st_size
    if size > MOST_BYTES:
        parser.exit(1, f"{args.out} has {size:,} bytes, more than {MOST_BYTES:,}: shorten it\n")


if __name__ == "__main__":
    main()
