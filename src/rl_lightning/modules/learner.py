"""Base class of all modules: declarations, random streams and learning-rate schedules."""

from typing import Any, ClassVar, Literal

import torch
from lightning import Callback
from lightning.pytorch.cli import LRSchedulerCallable
from torch.optim import Optimizer

from rl_lightning.callbacks.needs import NeedsCallback, missing_callbacks
from rl_lightning.lightning_adapter.modules import ClippedModule, regrouped, trainer_of
from rl_lightning.runtime.constructors import CheckedConstructor
from rl_lightning.runtime.seeding import torch_stream


class Learner(CheckedConstructor, ClippedModule):
    """A module that declares what it learns from.

    Attributes:
        algorithm: Name of the algorithm, which is part of the experiment's name.
        batch_type: Type of the batches that `training_step` takes.
        needs_whole_episodes: Whether every episode in a rollout must be complete.
        gives_td_errors: Whether `training_step` returns {"loss": …, "td_error": [B]}.
        checks_compatibility: Whether it checks in `configure_callbacks` what goes together. With
            other modules, datamodules and callbacks do so in their `setup`.
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
    """

    algorithm: ClassVar[str]
    batch_type: ClassVar[type]
    needs_whole_episodes: bool = False
    gives_td_errors: ClassVar[bool] = False
    checks_compatibility: ClassVar[bool] = True
    monitor: ClassVar[tuple[str, str] | None] = None
    tested_checkpoint: ClassVar[Literal["best", "last"]] = "best"
    takes_rounded_batches: ClassVar[bool] = False
    architecture: ClassVar[tuple[str, ...]] = ()
    necessary_callbacks: ClassVar[tuple[type[NeedsCallback], ...]] = ()
    carried: ClassVar[tuple[str, ...]] = ()

    def configure_callbacks(self) -> list[Callback]:
        """Check what goes together in this run, and add missing callbacks.

        Raises:
            ConfigurationError: If datamodule, callbacks or flags do not fit this module.
        """
        # Imported here, because whoever reads an algorithm needs none of this.
        from rl_lightning.callbacks.exact_resume import ExactResume
        from rl_lightning.compatibility.check import check
        from rl_lightning.lightning_adapter.hooks import call_hooks_directly

        check(self.trainer, self, getattr(self.trainer, "datamodule", None))
        call_hooks_directly(self.trainer)
        return missing_callbacks(self.trainer, (ExactResume, *self.necessary_callbacks), self)

    @property
    def seed(self) -> int:
        """The run's seed, which is the datamodule's if it has one, else torch's."""
        seed: int | None = getattr(getattr(trainer_of(self), "datamodule", None), "seed", None)
        return torch.initial_seed() if seed is None else seed

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
        rank, device = self.global_rank, self.device
        return torch_stream(self.seed, rank=rank, update=index, stream=name, device=device)

    def with_schedule(self, optimizer: Optimizer, lr_scheduler: LRSchedulerCallable | None) -> Any:
        """What `configure_optimizers` returns: the optimizer and, if there is one, its schedule.

        The optimizer also takes states of earlier versions, which had more parameter groups.
        """
        optimizer.register_load_state_dict_pre_hook(regrouped)
        if lr_scheduler is None:
            return optimizer
        schedule = lr_scheduler(optimizer)
        # Lightning's ReduceLROnPlateau has the name of a metric, and other schedules have none.
        monitor = getattr(schedule, "monitor", None)
        return {"optimizer": optimizer, "lr_scheduler": schedule, "monitor": monitor}
