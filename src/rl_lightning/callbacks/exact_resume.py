"""Resumes training inside an epoch as if it had not stopped."""

from collections.abc import Mapping
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn

from rl_lightning.callbacks.needs import NeedsCallback
from rl_lightning.lightning_adapter import resume
from rl_lightning.runtime.ranks import from_all_ranks

_EMPTY: Mapping[str, Any] = {"ranks": [], "unlogged": {}, "monitored": {}}


class ExactResume(NeedsCallback):
    """Adds what Lightning leaves out of a checkpoint, so that a resume equals an unstopped run.

    This is the state inside an epoch: accumulated gradients, metrics that are not logged yet,
    metrics that callbacks monitor, and the attributes in the module's `carried`, of each rank. It
    also corrects Lightning's counts of epochs and batches.

    `Learner` adds this callback to every Trainer.
    """

    def __init__(self) -> None:
        self._resumption: resume.Resumption | None = None
        self._saved: Mapping[str, Any] = _EMPTY

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add the state. Every rank must call this."""
        state: dict[str, Any] = {name: getattr(pl_module, name) for name in _carried(pl_module)}
        fitting = trainer.state.fn == TrainerFn.FITTING
        if fitting and pl_module.automatic_optimization and resume.accumulates_gradients(trainer):
            state["gradients"] = {
                name: parameter.grad
                for name, parameter in pl_module.named_parameters()
                if parameter.grad is not None
            }
        checkpoint["learner"] = {
            "ranks": from_all_ranks(state),
            "unlogged": resume.unlogged_metrics(trainer) if fitting else {},
            "monitored": resume.monitored_metrics(trainer),
        }

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Read the state and correct the counts in the checkpoint, if training is resumed."""
        if trainer.state.fn != TrainerFn.FITTING:
            return
        self._resumption = resume.correct_progress(checkpoint, trainer.accumulate_grad_batches)
        self._saved = checkpoint.get("learner", _EMPTY)
        state = self._state_of(trainer)
        for name in state.keys() & {*_carried(pl_module)}:
            setattr(pl_module, name, state[name])

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Restore metrics and gradients, and let Lightning run a validation that is due."""
        if self._resumption is not None:
            resume.run_due_validation(trainer, self._resumption)
        resume.log_again(trainer, self._saved["unlogged"])
        # EarlyStopping may use a metric of an update of this epoch that is not repeated.
        resume.restore_monitored(trainer, self._saved["monitored"])
        gradients = self._state_of(trainer).get("gradients", {})
        for name, parameter in pl_module.named_parameters():
            if name in gradients:
                parameter.grad = gradients[name].to(parameter.device)
        self._saved = _EMPTY

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Correct the count of logged steps, which Lightning may increment twice at a resume."""
        if self._resumption is not None:
            resume.correct_logged_step(trainer, self._resumption)
            self._resumption = None

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave out EarlyStopping's check after an incomplete epoch.

        It would use the metric of the last complete epoch a second time, or find no metric.
        """
        if not trainer.fit_loop.epoch_loop.batch_progress.is_last_batch:
            resume.skip_early_stopping(trainer)

    def _state_of(self, trainer: Trainer) -> Mapping[str, Any]:
        """The saved state of this rank. It is empty if the number of ranks has changed."""
        ranks = self._saved["ranks"]
        return ranks[trainer.global_rank] if len(ranks) == trainer.world_size else {}


def _carried(module: LightningModule) -> tuple[str, ...]:
    return getattr(module, "carried", ())
