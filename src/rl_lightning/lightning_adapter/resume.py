"""Corrects Lightning's counts of epochs and batches, so that a run can resume after any update.

A checkpoint is written after a batch, after a validation, or at the end of an epoch. `max_steps`,
`max_time` or a callback may have ended this epoch early. Lightning 2.6 resumes correctly from a
checkpoint after a validation and from one at the end of a complete epoch. After a resume from a
checkpoint after a batch, it skips a validation that was due. It also counts an epoch that ended
early as complete. So the counts are corrected here when a checkpoint is loaded.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from lightning import Trainer
from lightning.pytorch.loops.evaluation_loop import RestartStage


class Resumption(NamedTuple):
    """The state of a resume that is not in Lightning's counts."""

    logged_step: int  # updates so far, in the count that decides when metrics are logged
    before_validation: bool  # the checkpoint was written before a validation that may be due


def correct_progress(checkpoint: dict[str, Any], accumulate_grad_batches: int) -> Resumption | None:
    """Correct the counts of the fit loop in a checkpoint, in place.

    Args:
        checkpoint: A checkpoint of Lightning.
        accumulate_grad_batches: The Trainer's flag.

    Returns:
        The argument of `run_due_validation`; None if the checkpoint has no counts.
    """
    if "loops" not in checkpoint:
        return None
    loops = checkpoint["loops"]["fit_loop"]
    epochs, batches = loops["epoch_progress"], loops["epoch_loop.batch_progress"]
    done = batches["current"]["ready"]
    steps = batches["is_last_batch"] or done % accumulate_grad_batches == 0
    logged_step = loops["epoch_loop.state_dict"]["_batches_that_stepped"]
    before_validation = batches["total"]["completed"] < batches["total"]["processed"]
    if before_validation:
        for count in (batches["total"], batches["current"]):
            count["completed"] = count["processed"]
    if epochs["total"]["processed"] < epochs["total"]["started"]:
        # Lightning increments this count after the validation, so the last update is missing.
        logged_step += steps
    elif done and not batches["is_last_batch"]:
        for count in (epochs["total"], epochs["current"]):
            count["processed"] = count["completed"] = count["started"] - 1
    elif done:
        for count in (epochs["total"], epochs["current"]):
            count["completed"] = count["processed"]
        _begin_epoch(loops)
    return Resumption(logged_step, before_validation)


def _begin_epoch(loops: dict[str, Any]) -> None:
    """Set the counts of one epoch to 0, which Lightning does not do if `max_steps` is set."""
    optimizer = loops["epoch_loop.automatic_optimization.optim_progress"]["optimizer"]
    batches = loops["epoch_loop.batch_progress"]
    batches["is_last_batch"] = False
    for progress in (batches, loops["epoch_loop.scheduler_progress"], *optimizer.values()):
        progress["current"] = dict.fromkeys(progress["current"], 0)
    validation = loops["epoch_loop.val_loop.batch_progress"]
    validation["total"] = dict.fromkeys(validation["total"], 0)


def run_due_validation(trainer: Trainer, resumption: Resumption) -> None:
    """At the start of training, let Lightning run a validation that is due before the update."""
    loop = trainer.fit_loop.epoch_loop
    fetcher = trainer.fit_loop._data_fetcher
    if not resumption.before_validation or fetcher is None:
        return
    if loop._should_check_val_fx(fetcher):
        loop.val_loop.batch_progress.reset_on_run()
        loop.val_loop._restart_stage = RestartStage.RESTARTED_MID_EVALUATION


def correct_logged_step(trainer: Trainer, resumption: Resumption) -> None:
    """Set the count of updates that decides when metrics are logged."""
    trainer.fit_loop.epoch_loop._batches_that_stepped = resumption.logged_step


def accumulates_gradients(trainer: Trainer) -> bool:
    """Whether the gradients of the last batch wait for those of the next one."""
    return trainer.fit_loop._should_accumulate()


def unlogged_metrics(trainer: Trainer) -> dict[str, float]:
    """Metrics of the last update that Lightning has not logged when a checkpoint is written."""
    loop, connector = trainer.fit_loop.epoch_loop, trainer._logger_connector
    count: Any = loop.batch_progress.total
    # Lightning logs nothing between two optimizer steps.
    if count.completed == count.processed or not connector.should_update_logs:
        return {}
    if accumulates_gradients(trainer):
        return {}
    metrics = {name: float(value) for name, value in connector.metrics["log"].items()}
    if metrics and "step" not in metrics:  # Lightning then adds both of these
        metrics |= {
            "step": float(loop._batches_that_stepped),
            "epoch": float(trainer.current_epoch),
        }
    return metrics


def monitored_metrics(trainer: Trainer) -> dict[str, float]:
    """The newest values of the metrics that callbacks such as EarlyStopping monitor."""
    monitored = {getattr(each, "monitor", None) for each in trainer.callbacks}  # type: ignore[attr-defined]
    return {
        name: float(value) for name, value in trainer.callback_metrics.items() if name in monitored
    }


def log_again(trainer: Trainer, metrics: Mapping[str, float]) -> None:
    """Log metrics from `unlogged_metrics`, at their step."""
    trainer._logger_connector.log_metrics(dict[str, Any](metrics))


def restore_monitored(trainer: Trainer, metrics: Mapping[str, float]) -> None:
    """Add metrics from `monitored_metrics` to those that callbacks read."""
    for name, value in metrics.items():
        trainer._logger_connector._callback_metrics[name] = torch.tensor(value)


def skip_early_stopping(trainer: Trainer) -> None:
    """Let EarlyStopping not check its metric at the end of this epoch."""
    for callback in trainer.early_stopping_callbacks:
        callback._check_on_train_epoch_end = None  # Lightning sets it again in `fit`
