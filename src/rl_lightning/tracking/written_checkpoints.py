"""The checkpoints that a run has written, as its callbacks know them."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from lightning import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor


class BestCheckpoint(NamedTuple):
    """The checkpoint with the best value of a metric."""

    path: Path
    monitor: str
    score: Tensor


def best_checkpoint(trainer: Trainer) -> BestCheckpoint | None:
    """The best checkpoint by the first ModelCheckpoint that monitors a metric and has written.

    A ModelCheckpoint of the configuration comes before the default one.
    """
    for callback in _callbacks(trainer):
        path, score = Path(callback.best_model_path), callback.best_model_score
        if callback.monitor is not None and score is not None and path.is_file():
            return BestCheckpoint(path, callback.monitor, score)
    return None


def last_checkpoint(trainer: Trainer) -> Path | None:
    """The newest checkpoint that was not written because a metric was the best."""
    paths = [callback.last_model_path for callback in _callbacks(trainer)]
    paths += [each.best_model_path for each in _callbacks(trainer) if each.monitor is None]
    found = [path for path in map(Path, paths) if path.is_file()]
    return max(found, key=lambda path: path.stat().st_mtime, default=None)


def checkpoint_to_test(trainer: Trainer) -> Path | None:
    """The checkpoint whose test the module reports: see `Learner.tested_checkpoint`."""
    best, last = best_checkpoint(trainer), last_checkpoint(trainer)
    if best is None or getattr(trainer.lightning_module, "tested_checkpoint", "best") == "last":
        return last or (best and best.path)
    return best.path


def _callbacks(trainer: Trainer) -> Iterator[ModelCheckpoint]:
    return (each for each in trainer.checkpoint_callbacks if isinstance(each, ModelCheckpoint))
