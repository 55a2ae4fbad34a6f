"""Memory and speed of Atari's replay: a million transitions, batches of 32, eight copies.

    python benchmarks/replay_frames.py --threads 1

Allocates the replay's memory, 7 GB, and fills it with noise.
"""

import argparse
import resource
import time
from collections.abc import Callable

import numpy as np
import torch

from rl_lightning.experience import Rollout
from rl_lightning.replay.frame_ring import FrameRing
from rl_lightning.replay.priorities import Priorities

NUM_ENVS, STACK, CHUNK, REPEATS = 8, 4, 50, 2_000


def frames(num_steps: int) -> Rollout:
    """Noise instead of frames, because speed and memory do not depend on the pixels."""
    shape = (num_steps, NUM_ENVS)
    return Rollout(
        torch.randint(256, (num_steps + 1, NUM_ENVS, STACK, 84, 84), dtype=torch.uint8),
        torch.zeros(shape, dtype=torch.int64),
        torch.zeros(shape),
        torch.zeros(shape),
        torch.zeros(shape).bool(),
        torch.ones(shape).bool(),
    )


def milliseconds(name: str, work: Callable[[], object]) -> None:
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        work()
        times.append(1e3 * (time.perf_counter() - start))
    least, median, most = np.quantile(times, [0, 0.5, 0.95])
    print(f"{name}: median {median:.3f} ms, least {least:.3f}, 95% below {most:.3f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--capacity", type=int, default=1_000_000)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    ring, chunk, one = FrameRing(arguments.capacity, NUM_ENVS, STACK), frames(CHUNK), frames(1)
    while ring.inserted < ring.num_rows + CHUNK:
        ring.extend(chunk)
    resident = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    print(f"{len(ring):,} transitions: {resident / 1e9:.2f} GB resident", flush=True)

    rng = np.random.default_rng(0)
    milliseconds("insert a step of 8 copies", lambda: ring.extend(one))
    milliseconds("sample a batch of 32", lambda: ring.sample(32, rng))
    priorities = Priorities(ring, exponent=0.6)

    def prioritised() -> None:
        rows, copies, _ = priorities.draw(32, rng, 0.4)
        ring.gather(rows, copies)
        priorities.renew(rng.random(32, np.float32))

    milliseconds("the same by priority, and renew", prioritised)


if __name__ == "__main__":
    main()
