"""Base class of all modules: declarations, random streams and learning-rate schedules."""

from typing import Any, ClassVar

import torch
from lightning import Callback
from lightning.pytorch.cli import LRSchedulerCallable

from rl_lightning.callbacks.exact_resume import ExactResume
from rl_lightning.callbacks.needs import NeedsCallback, check_needs
from rl_lightning.compatibility.pairs import check_pair
from rl_lightning.compatibility.trainer_flags import check_flags, is_fitting
from rl_lightning.experience import ExperienceSource
from rl_lightning.lightning_adapter.clipping import ClippedModule
from rl_lightning.lightning_adapter.trainers import trainer_of
from rl_lightning.runtime.seeding import torch_stream


class Learner(ClippedModule):
    """A module that declares what it learns from: see `rl_lightning.experience.Learner`.

    Attributes:
        algorithm: Name of the algorithm, which is part of the experiment's name.
        monitor: The metric by which the best checkpoint is chosen, with "max" or "min"; None if
            there is no best checkpoint.
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
    monitor: ClassVar[tuple[str, str] | None] = None
    takes_rounded_batches: ClassVar[bool] = False
    architecture: ClassVar[tuple[str, ...]] = ()
    necessary_callbacks: ClassVar[tuple[type[NeedsCallback], ...]] = ()
    carried: ClassVar[tuple[str, ...]] = ()

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
        kinds: tuple[type[NeedsCallback], ...] = (ExactResume, *self.necessary_callbacks)
        missing = (kind() for kind in kinds if not any(isinstance(each, kind) for each in given))
        return [callback for callback in missing if callback.misfit(self, data) is None]

    @property
    def seed(self) -> int:
        """The run's seed, which is the datamodule's if it has one, else torch's."""
        data = getattr(trainer_of(self), "datamodule", None)
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
