"""Base class of all modules: declarations, random streams, checkpoint state and clipping."""

from collections.abc import Iterable
from typing import Any, ClassVar, Literal

import torch
from lightning import Callback, LightningModule
from lightning.fabric.plugins.precision.amp import _optimizer_handles_unscaling
from lightning.pytorch.cli import LRSchedulerCallable
from lightning.pytorch.plugins import MixedPrecision
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_, clip_grad_value_

from rl_lightning.callbacks.needs import NeedsCallback, check_needs
from rl_lightning.compatibility.pairs import check_pair
from rl_lightning.compatibility.trainer_flags import check_flags, is_fitting
from rl_lightning.experience import ExperienceSource
from rl_lightning.lightning_adapter.resume import (
    Resumption,
    correct_progress,
    monitored_metrics,
    run_due_validation,
    unlogged_metrics,
)
from rl_lightning.runtime.ranks import from_all_ranks
from rl_lightning.runtime.seeding import torch_stream


class Learner(LightningModule):
    """A module that declares what it learns from: see `rl_lightning.experience.Learner`.

    Attributes:
        algorithm: Name of the algorithm, which is part of the experiment's name.
        monitor: The metric by which the best checkpoint is chosen, with "max" or "min"; None if
            there is no best checkpoint.
        tested_checkpoint: "last" if the metric of `monitor` does not choose the checkpoint whose
            test is to be reported, such as a win rate that soon reaches 100%.
        takes_rounded_batches: Whether the module may train in bf16-true. Lightning rounds the
            batches to bfloat16 there.
        architecture: Hyperparameters that must be equal in a checkpoint and in the configuration
            that uses it.
        necessary_callbacks: Callbacks without which the module trains wrongly. Each is added if
            it fits the datamodule and the Trainer has none of its type.
        carried: Names of attributes that keep their value from update to update and are neither
            parameters nor buffers. The checkpoint holds the values of each rank.
        uncast: Names of buffers that keep their dtype when the module is cast, such as counts in
            float64. A count in float32 is exact only up to 2²⁴.
    """

    algorithm: ClassVar[str]
    batch_type: ClassVar[type]
    needs_whole_episodes: bool = False
    monitor: ClassVar[tuple[str, str] | None] = None
    tested_checkpoint: ClassVar[Literal["best", "last"]] = "best"
    takes_rounded_batches: ClassVar[bool] = False
    architecture: ClassVar[tuple[str, ...]] = ()
    necessary_callbacks: ClassVar[tuple[type[NeedsCallback], ...]] = ()
    carried: ClassVar[tuple[str, ...]] = ()
    uncast: ClassVar[tuple[str, ...]] = ()

    _resumption: Resumption | None = None
    _unlogged: dict[str, float] | None = None
    _monitored: dict[str, float] | None = None
    _gradients: dict[str, Tensor] | None = None

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        """Move and cast all tensors, but do not cast those in `uncast`."""
        before = {name: getattr(self, name) for name in self.uncast}
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for name, buffer in before.items():
            setattr(self, name, buffer.to(getattr(self, name).device))
        return self

    def configure_callbacks(self) -> list[Callback]:
        """Check that datamodule, callbacks and flags fit this module, and add missing callbacks.

        Lightning calls this hook first, before any logger or callback writes files.

        Raises:
            ConfigurationError: If one of them does not fit.
        """
        trainer = self.trainer
        data = getattr(trainer, "datamodule", None)
        check_pair(self, data)
        check_needs(trainer.callbacks, self, data)  # type: ignore[attr-defined]
        check_flags(trainer, self, is_fitting(trainer), data)
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, NeedsCallback):
                callback.check_trainer(trainer, self)
        given = trainer.callbacks  # type: ignore[attr-defined]
        missing = (
            kind()
            for kind in self.necessary_callbacks
            if not any(isinstance(each, kind) for each in given)
        )
        return [callback for callback in missing if callback.misfit(self, data) is None]

    @property
    def seed(self) -> int:
        """The run's seed, which is the datamodule's if it has one, else torch's."""
        data = None if self._trainer is None else getattr(self.trainer, "datamodule", None)
        return data.seed if isinstance(data, ExperienceSource) else torch.initial_seed()

    def random_stream(self, name: str, index: int | None = None) -> torch.Generator:
        """Make the generator of a random stream on this module's device.

        Args:
            name: Name of the stream.
            index: Number of the stream among those of this name; None is the number of the
                current training batch.

        Returns:
            A generator that depends on (seed, rank, index, name) and on nothing else.
        """
        if index is None:
            # Batches of all epochs are counted. `global_step` cannot be used, because it does not
            # change at every batch with `accumulate_grad_batches`.
            index = max(0, self.trainer.fit_loop.total_batch_idx)
        return torch_stream(
            self.seed, rank=self.global_rank, update=index, stream=name, device=self.device
        )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the state that a resume inside an epoch needs. Subclasses must call this."""
        fit_loop, automatic = self.trainer.fit_loop, self.automatic_optimization
        state: dict[str, Any] = {name: getattr(self, name) for name in self.carried}
        fitting = self.trainer.state.fn == TrainerFn.FITTING
        if fitting and automatic and fit_loop._should_accumulate():
            state["gradients"] = {
                name: parameter.grad
                for name, parameter in self.named_parameters()
                if parameter.grad is not None
            }
        checkpoint["learner"] = {
            "ranks": from_all_ranks(state),
            "unlogged": unlogged_metrics(self.trainer) if fitting else {},
            "monitored": monitored_metrics(self.trainer),
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Read the state from `on_save_checkpoint`, if training is resumed."""
        if self._trainer is None or self.trainer.state.fn != TrainerFn.FITTING:
            return
        if "loops" in checkpoint:
            self._resumption = correct_progress(
                checkpoint["loops"]["fit_loop"], self.trainer.accumulate_grad_batches
            )
        saved = checkpoint.get("learner", {"ranks": [], "unlogged": {}, "monitored": {}})
        self._unlogged, self._monitored = saved["unlogged"], saved["monitored"]
        if len(saved["ranks"]) == self.trainer.world_size:
            state = saved["ranks"][self.global_rank]
            self._gradients = state.get("gradients")
            for name in self.carried:
                setattr(self, name, state[name])

    def on_train_start(self) -> None:
        """Restore the state of a checkpoint inside an epoch. Subclasses must call this."""
        if self._resumption is not None:
            run_due_validation(self.trainer, self._resumption)
        if self._unlogged:
            self.trainer._logger_connector.log_metrics(dict[str, Any](self._unlogged))
        # EarlyStopping may use a metric of an update of this epoch that is not repeated.
        for name, value in (self._monitored or {}).items():
            self.trainer._logger_connector._callback_metrics[name] = torch.tensor(value)
        for name, parameter in self.named_parameters():
            if self._gradients and name in self._gradients:
                parameter.grad = self._gradients[name].to(parameter.device)
        self._unlogged = self._monitored = self._gradients = None

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Correct the count of logged steps, which Lightning may increment twice at a resume."""
        if self._resumption is not None:
            self.trainer.fit_loop.epoch_loop._batches_that_stepped = self._resumption.logged_step
            self._resumption = None

    def on_train_epoch_end(self) -> None:
        """Disable EarlyStopping's check after an incomplete epoch. Subclasses must call this.

        The check would use the metric of the last complete epoch a second time, or find no metric.
        """
        if not self.trainer.fit_loop.epoch_loop.batch_progress.is_last_batch:
            for callback in self.trainer.early_stopping_callbacks:
                callback._check_on_train_epoch_end = None  # Lightning sets it again in `fit`

    def with_schedule(
        self, optimizer: torch.optim.Optimizer, lr_scheduler: LRSchedulerCallable | None
    ) -> Any:
        """What `configure_optimizers` returns: the optimizer and, if there is one, its schedule."""
        if lr_scheduler is None:
            return optimizer
        schedule = lr_scheduler(optimizer)
        # Lightning's ReduceLROnPlateau has the name of a metric, and other schedules have none.
        monitor = getattr(schedule, "monitor", None)
        return {"optimizer": optimizer, "lr_scheduler": schedule, "monitor": monitor}

    def clipped_apart(self, optimizer: torch.optim.Optimizer) -> Iterable[list[nn.Parameter]]:
        """Groups of parameters. Each is clipped to the Trainer's `gradient_clip_val` separately."""
        return [[each for group in optimizer.param_groups for each in group["params"]]]

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: Any = None,
    ) -> None:
        """Clip gradients by norm or by value, as the Trainer's flags define.

        Lightning's own clipping is not used, because it refuses fused optimizers in mixed
        precision, even in bf16, where gradients are not scaled.
        """
        if not gradient_clip_val:
            return
        precision = self.trainer.precision_plugin
        scaler = precision.scaler if isinstance(precision, MixedPrecision) else None
        if scaler is not None and _optimizer_handles_unscaling(optimizer):
            # A fused optimizer divides gradients by the loss scale in its step, which is later, so
            # the limit is scaled here.
            gradient_clip_val = gradient_clip_val * scaler.get_scale()
        for parameters in self.clipped_apart(optimizer):
            if gradient_clip_algorithm == "value":
                clip_grad_value_(parameters, gradient_clip_val)
            else:
                clip_grad_norm_(parameters, gradient_clip_val)
