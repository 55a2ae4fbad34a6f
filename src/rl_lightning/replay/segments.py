"""The replay beside the checkpoint, in files that are written once."""

import uuid
from pathlib import Path
from typing import NamedTuple

import torch

from rl_lightning.experience import Rollout
from rl_lightning.replay.ring import ReplayRing
from rl_lightning.runtime.checkpoints import load_plain, save_atomically
from rl_lightning.runtime.errors import ConfigurationError


class Segment(NamedTuple):
    """A file of rows, `start` to `stop`, counted from the first that was ever inserted."""

    name: str
    start: int
    stop: int


class ReplaySegments:
    """Keeps one rank's ring in a folder beside the checkpoints.

    Each checkpoint adds one file, the rows since the last one, and lists all that it
    needs. Files are never changed, so older checkpoints stay valid; a file that no
    checkpoint in the folder above lists is removed.

    Args:
        folder: Where the files lie: a folder within that of the checkpoints.
        rank: This process.
    """

    def __init__(self, folder: Path, rank: int) -> None:
        self.folder = folder
        self.rank = rank
        self.segments: list[Segment] = []

    def save(self, ring: ReplayRing) -> list[tuple[str, int, int]]:
        """Write the rows that no file holds yet; returns all that a checkpoint must list."""
        start = max(ring.oldest, self.segments[-1].stop if self.segments else 0)
        if start < ring.inserted:
            # Of a name of its own: rows of these numbers may belong to an abandoned future.
            name = f"rank{self.rank}-{start}-{ring.inserted}-{uuid.uuid4().hex[:8]}.pt"
            save_atomically(tuple(ring.rows(start, ring.inserted)), self.folder / name)
            self.segments.append(Segment(name, start, ring.inserted))
        self.segments = [segment for segment in self.segments if segment.stop > ring.oldest]
        self._remove_unlisted()
        return [(name, start, stop) for name, start, stop in self.segments]

    def load(self, ring: ReplayRing, listed: list[tuple[str, int, int]], folder: Path) -> None:
        """Fill an empty ring with the rows of a checkpoint's list, from `folder`.

        Raises:
            ConfigurationError: If a file is missing or not whole.
        """
        segments = [Segment(*each) for each in listed]
        for segment in segments:
            if not (folder / segment.name).is_file():
                raise ConfigurationError(
                    f"the checkpoint's replay lacks {folder / segment.name}: put it back, or set "
                    "data.init_args.keep_replay to false to refill the replay by playing"
                )
        if not segments:
            return
        # Rows keep their numbers. A smaller ring than the one that was kept holds the newest.
        first = max(segments[0].start, segments[-1].stop - ring.num_rows + 1 + ring.history)
        ring.begin_at(first)
        for segment in segments:
            rows = Rollout(*load_plain(folder / segment.name))
            skip = max(0, first - segment.start)
            if skip < segment.stop - segment.start:
                ring.extend(_without_first(rows, skip))
        # Elsewhere, the next checkpoint has the whole ring to write.
        self.segments = segments if folder.resolve() == self.folder.resolve() else []

    def _remove_unlisted(self) -> None:
        kept = {segment.name for segment in self.segments}
        mine = {path.name: path for path in self.folder.glob(f"rank{self.rank}-*")}
        if not mine.keys() - kept:
            return
        for checkpoint in self.folder.parent.glob("*.ckpt"):
            kept |= _listed(checkpoint, self.rank)
        for name in mine.keys() - kept:
            mine[name].unlink(missing_ok=True)


def _without_first(rows: Rollout, count: int) -> Rollout:
    columns = (column[count:] for column in rows[:6])
    extras = {name: values[count:] for name, values in rows.extras.items()}
    return Rollout._make([*columns, extras])


def _listed(checkpoint: Path, rank: int) -> set[str]:
    """The names of the files that a checkpoint needs for one rank."""
    try:
        saved = torch.load(checkpoint, weights_only=True, mmap=True, map_location="cpu")
    except FileNotFoundError:  # replaced or removed in between
        return set()
    states = (value for value in saved.values() if isinstance(value, dict) and "ranks" in value)
    return {name for state in states for name, *_ in state["ranks"][rank].get("replay", [])}
