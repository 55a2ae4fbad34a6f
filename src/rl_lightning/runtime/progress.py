"""Lightning's counts of epochs and batches, so that a run goes on after any update.

A checkpoint is written in one of three places: after a batch, after a validation, or at the end
of an epoch, which `max_steps`, `max_time` or a callback may have cut short. Lightning 2.6 resumes
exactly from the second and from a complete epoch. From the first it skips a validation that was
due, and it counts an epoch that was cut short as complete. Here the counts are corrected when a
checkpoint is loaded, so that checkpoints of any callback can be used.
"""

from typing import Any, NamedTuple

from lightning import Trainer
from lightning.pytorch.loops.evaluation_loop import RestartStage


class Resumption(NamedTuple):
    """What is not in Lightning's counts."""

    logged_step: int  # updates so far, in the count that decides when metrics are logged
    owes_validation: bool  # the validation after the last update, if one is due, has not run


def correct_progress(loops: dict[str, Any], accumulate_grad_batches: int) -> Resumption:
    """Correct the state of the fit loop in a checkpoint, in place.

    Args:
        loops: `checkpoint["loops"]["fit_loop"]`.
        accumulate_grad_batches: Of the Trainer.

    Returns:
        What to hand to `go_on`.
    """
    epochs, batches = loops["epoch_progress"], loops["epoch_loop.batch_progress"]
    done = batches["current"]["ready"]
    steps = batches["is_last_batch"] or done % accumulate_grad_batches == 0
    logged_step = loops["epoch_loop.state_dict"]["_batches_that_stepped"]
    owes_validation = batches["total"]["completed"] < batches["total"]["processed"]
    if owes_validation:
        for count in (batches["total"], batches["current"]):
            count["completed"] = count["processed"]
    if epochs["total"]["processed"] < epochs["total"]["started"]:
        # The last update is counted after the validation that follows it.
        logged_step += steps
    elif done and not batches["is_last_batch"]:
        for count in (epochs["total"], epochs["current"]):
            count["processed"] = count["completed"] = count["started"] - 1
    elif done:
        for count in (epochs["total"], epochs["current"]):
            count["completed"] = count["processed"]
        _begin_epoch(loops)
    return Resumption(logged_step, owes_validation)


def _begin_epoch(loops: dict[str, Any]) -> None:
    """Set the counts of one epoch to 0, which Lightning leaves out where `max_steps` is given."""
    optimizer = loops["epoch_loop.automatic_optimization.optim_progress"]["optimizer"]
    batches = loops["epoch_loop.batch_progress"]
    batches["is_last_batch"] = False
    for progress in (batches, loops["epoch_loop.scheduler_progress"], *optimizer.values()):
        progress["current"] = dict.fromkeys(progress["current"], 0)
    validation = loops["epoch_loop.val_loop.batch_progress"]
    validation["total"] = dict.fromkeys(validation["total"], 0)


def go_on(trainer: Trainer, resumption: Resumption) -> None:
    """At the start of training: run the validation that is still due before the next update."""
    loop = trainer.fit_loop.epoch_loop
    fetcher = trainer.fit_loop._data_fetcher
    if not resumption.owes_validation or fetcher is None:
        return
    if loop._should_check_val_fx(fetcher):
        loop.val_loop.batch_progress.reset_on_run()
        loop.val_loop._restart_stage = RestartStage.RESTARTED_MID_EVALUATION


def unlogged_metrics(trainer: Trainer) -> dict[str, float]:
    """Metrics of the last update that Lightning logs only after this checkpoint is written."""
    loop, connector = trainer.fit_loop.epoch_loop, trainer._logger_connector
    count: Any = loop.batch_progress.total
    # Between two optimizer steps Lightning logs none.
    if count.completed == count.processed or not connector.should_update_logs:
        return {}
    if trainer.fit_loop._should_accumulate():
        return {}
    metrics = {name: float(value) for name, value in connector.metrics["log"].items()}
    if metrics:
        metrics.setdefault("step", float(loop._batches_that_stepped))
    return metrics
