"""The checkpoints that a run has written, as its callbacks know them."""

from os.path import getmtime
from pathlib import Path

from lightning import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint


def best_checkpoint(trainer: Trainer) -> ModelCheckpoint | None:
    """The first ModelCheckpoint that monitors a metric and has written a file.

    A ModelCheckpoint of the configuration comes before the default one.
    """
    for each in _callbacks(trainer):
        has_score = each.monitor is not None and each.best_model_score is not None
        if has_score and Path(each.best_model_path).is_file():
            return each
    return None


def last_checkpoint(trainer: Trainer) -> Path | None:
    """The newest checkpoint that was not written because a metric was the best."""
    paths = [each.last_model_path for each in _callbacks(trainer)]
    paths += [each.best_model_path for each in _callbacks(trainer) if each.monitor is None]
    found = [path for path in map(Path, paths) if path.is_file()]
    return max(found, key=getmtime, default=None)


def checkpoint_to_test(trainer: Trainer) -> Path | None:
    """The checkpoint whose test the module reports: see `Learner.tested_checkpoint`."""
    callback, last = best_checkpoint(trainer), last_checkpoint(trainer)
    best = None if callback is None else Path(callback.best_model_path)
    tests_last = getattr(trainer.lightning_module, "tested_checkpoint", "best") == "last"
    return last or best if tests_last else best or last


def _callbacks(trainer: Trainer) -> list[ModelCheckpoint]:
    return [each for each in trainer.checkpoint_callbacks if isinstance(each, ModelCheckpoint)]
