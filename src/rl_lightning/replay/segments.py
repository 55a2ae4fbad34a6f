"""Saves the replay ring beside the checkpoints, in files that are never changed."""

import uuid
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple

import torch

from rl_lightning.experience import Rollout
from rl_lightning.replay.ring import ReplayRing
from rl_lightning.runtime.checkpoints import load_plain, save_atomically
from rl_lightning.runtime.errors import ConfigurationError

PIECE_BYTES = 64 * 2**20  # of observations in one file


class Segment(NamedTuple):
    """A file with rows `start` to `stop`, counted from the first that was ever inserted."""

    name: str
    start: int
    stop: int


class ReplaySegments:
    """Saves one rank's ring to files in a folder beside the checkpoints.

    Each checkpoint adds files with the rows since the checkpoint before, and contains a list of
    all files that it needs. One file for each checkpoint would be simpler, but would write the
    whole ring every time, which is 28 GB for a million stacks of frames. A file has at most
    `PIECE_BYTES`, because rows are copied before they are written. Files are never changed, so
    older checkpoints remain valid. A file that is in no checkpoint's list is removed.

    Args:
        folder: Folder of the files, inside the folder of the checkpoints.
        rank: Global rank of this process.
    """

    def __init__(self, folder: Path, rank: int) -> None:
        self.folder = folder
        self.rank = rank
        self.segments: list[Segment] = []

    def save(self, ring: ReplayRing) -> list[tuple[str, int, int]]:
        """Write the rows that are in no file yet, and return the list for the checkpoint."""
        start = max(ring.oldest, self.segments[-1].stop if self.segments else 0)
        while start < ring.inserted:
            stop = min(ring.inserted, start + max(1, PIECE_BYTES // ring.bytes_of_a_row))
            # The random part makes the name unique. A run that was resumed from an earlier
            # checkpoint may have written a file for the same row numbers before.
            name = f"rank{self.rank}-{start}-{stop}-{uuid.uuid4().hex[:8]}.pt"
            save_atomically(tuple(ring.rows(start, stop)), self.folder / name)
            self.segments.append(Segment(name, start, stop))
            start = stop
        self.segments = [segment for segment in self.segments if segment.stop > ring.oldest]
        self._remove_unlisted()
        return [(name, start, stop) for name, start, stop in self.segments]

    def load(self, ring: ReplayRing, listed: list[tuple[str, int, int]], folder: Path) -> None:
        """Fill an empty ring with the rows of a checkpoint's list, from `folder`.

        Raises:
            ConfigurationError: If a file is missing or truncated.
        """
        segments = [Segment(*each) for each in listed]
        for segment in segments:
            if not (folder / segment.name).is_file():
                raise ConfigurationError(
                    f"the checkpoint's replay needs the missing file {folder / segment.name}: put "
                    "it back, or set data.init_args.keep_replay to false to collect a new replay"
                )
        if not segments:
            return
        # Rows keep their numbers. If this ring is smaller than the saved one, it gets the newest
        # rows.
        first = max(segments[0].start, segments[-1].stop - ring.num_rows + 1 + ring.history)
        ring.begin_at(first)
        for segment in segments:
            # Files of older versions have one more field, which is not needed.
            rows = Rollout(*load_plain(folder / segment.name)[: len(Rollout._fields)])
            skip = max(0, first - segment.start)
            if skip < segment.stop - segment.start:
                ring.extend(rows.each(itemgetter(slice(skip, None))))
        # If the files are in the folder of another run, the next checkpoint writes the whole ring.
        self.segments = segments if folder.resolve() == self.folder.resolve() else []

    def _remove_unlisted(self) -> None:
        kept = {segment.name for segment in self.segments}
        mine = {path.name: path for path in self.folder.glob(f"rank{self.rank}-*")}
        if not mine.keys() - kept:
            return
        for checkpoint in self.folder.parent.glob("*.ckpt"):
            try:
                kept |= _listed(checkpoint, self.rank)
            except FileNotFoundError:  # replaced or removed in between
                continue
            except Exception:  # truncated: zipfile, pickle and torch raise their own types
                return  # it may need any file
        for name in mine.keys() - kept:
            mine[name].unlink(missing_ok=True)


def _listed(checkpoint: Path, rank: int) -> set[str]:
    """The names of the files that a checkpoint needs for one rank."""
    saved = torch.load(checkpoint, weights_only=True, mmap=True, map_location="cpu")
    states = (value for value in saved.values() if isinstance(value, dict) and "ranks" in value)
    return {name for state in states for name, *_ in state["ranks"][rank].get("replay", [])}
