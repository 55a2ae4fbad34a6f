"""What every module here shares: it declares itself, and draws from streams of its own."""

from collections.abc import Iterable
from typing import Any, ClassVar

import torch
from lightning import LightningModule
from torch import nn
from torch.nn.utils import clip_grad_norm_, clip_grad_value_

from rl_lightning.experience import ExperienceSource, check_pair
from rl_lightning.runtime.seeding import torch_stream


class Learner(LightningModule):
    """A module that says what it learns from: see `rl_lightning.experience.Learner`.

    Attributes:
        algorithm: Its name in those of experiments.
        monitor: The metric that the best checkpoint has, and "max" or "min" of it; None where
            there is none.
        architecture: Hyperparameters that a checkpoint must share with a configuration that
            goes on with it.
    """

    algorithm: ClassVar[str]
    batch_type: ClassVar[type]
    needs_whole_episodes: bool = False
    monitor: ClassVar[tuple[str, str] | None] = None
    architecture: ClassVar[tuple[str, ...]] = ()

    def setup(self, stage: str) -> None:
        """Compare this module with the datamodule.

        Raises:
            ConfigurationError: If they do not fit.
        """
        if self._trainer is not None:
            check_pair(self, getattr(self.trainer, "datamodule", None))

    @property
    def seed(self) -> int:
        """The run's seed: that of the datamodule, else torch's."""
        data = None if self._trainer is None else getattr(self.trainer, "datamodule", None)
        return data.seed if isinstance(data, ExperienceSource) else torch.initial_seed()

    def random_stream(self, name: str, index: int | None = None) -> torch.Generator:
        """A random stream on this module's device.

        Args:
            name: What the numbers are for.
            index: Which of the streams of that name; None is that of the training batch.

        Returns:
            A generator that depends on (seed, rank, index, name) and on nothing else.
        """
        if index is None:
            # Counted over epochs; `global_step` stands still under `accumulate_grad_batches`.
            index = max(0, self.trainer.fit_loop.total_batch_idx)
        return torch_stream(
            self.seed, rank=self.global_rank, update=index, stream=name, device=self.device
        )

    def clipped_apart(self) -> Iterable[list[nn.Parameter]]:
        """Groups of parameters, each clipped to the Trainer's `gradient_clip_val` by itself."""
        return [list(self.parameters())]

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: Any = None,
    ) -> None:
        """Clip by norm or by value, as the Trainer's flags say.

        Not by Lightning's own way, which refuses fused optimizers in mixed precision, also in
        bf16, where gradients are not scaled.
        """
        if not gradient_clip_val:
            return
        for parameters in self.clipped_apart():
            if gradient_clip_algorithm == "value":
                clip_grad_value_(parameters, gradient_clip_val)
            else:
                clip_grad_norm_(parameters, gradient_clip_val)
