"""The value network of AlphaGo, which predicts the result of games of a policy."""

from typing import Any

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor
from torch.nn import functional as F
from torchmetrics import MeanMetric

from rl_lightning.experience import (
    CheckedMoves,
    EnvironmentSpec,
    MatchResults,
    ScoredPositions,
)
from rl_lightning.lightning_adapter.modules import should_log
from rl_lightning.modules.alphago.board_player import BoardPlayer


class GameValue(BoardPlayer):
    """The value network descends the squared error (z − v(s))² to the result z of the game.

    The policy, which plays the games, does not change. It comes from a checkpoint of another
    module (`--weights_path`).

    `val/mse` is the mean squared error on results of 1, 0 and -1, and `val/sign` the part of
    positions of won and lost games in which the sign of the value is that of the result.

    Source: Silver et al. 2016, equation 3.

    Args:
        environment: Spec of the game, from the datamodule.
        num_layers: Convolutions of each network.
        num_filters: Filters of each convolution.
        optimizer: Makes the optimizer from the parameters.
        lr_scheduler: Makes the learning rate's schedule, which is stepped after every epoch.
    """

    algorithm = "game_value"
    batch_type = ScoredPositions
    takes_rounded_batches = True  # -1, 0 and 1 are exact
    monitor = ("val/mse", "min")

    def __init__(
        self,
        environment: EnvironmentSpec,
        num_layers: int = 4,
        num_filters: int = 64,
        optimizer: OptimizerCallable = torch.optim.Adam,
        lr_scheduler: LRSchedulerCallable | None = None,
    ) -> None:
        super().__init__(environment, num_layers, num_filters, optimizer, lr_scheduler)
        self.policy.requires_grad_(False)
        # `test` resets its metrics in inference mode, so validation cannot use the same ones.
        self.val_mse, self.val_sign = MeanMetric(), MeanMetric()
        self.test_mse, self.test_sign = MeanMetric(), MeanMetric()

    @property
    def _errors(self) -> dict[str, tuple[MeanMetric, MeanMetric]]:
        return {
            "val": (self.val_mse, self.val_sign),
            "test": (self.test_mse, self.test_sign),
        }

    def forward(self, observations: Tensor) -> Tensor:
        """Planes [B, C, H, W] to values [B] in [-1, 1], for the player to move."""
        values: Tensor = self.value(observations)
        return values

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The parameters of the value network."""
        return [{"params": [*self.value.parameters()]}]

    def training_step(self, batch: ScoredPositions) -> Tensor:
        """Compute the squared error of a batch."""
        values = self.value(batch.observations)
        assert values.shape == batch.outcomes.shape, f"v {values.shape}, z {batch.outcomes.shape}"
        loss = F.mse_loss(values, batch.outcomes)
        if should_log(self.trainer):
            self.log("train/loss", loss.detach(), sync_dist=True)
        return loss

    def _count(self, batch: MatchResults | CheckedMoves | ScoredPositions, stage: str) -> None:
        if not isinstance(batch, ScoredPositions):
            super()._count(batch, stage)
            return
        squared_error, right_sign = self._errors[stage]
        values = self.value(batch.observations).float()
        squared_error.update((values - batch.outcomes).square())
        decided = batch.outcomes != 0
        right_sign.update(((values > 0) == (batch.outcomes > 0))[decided].float())

    def _log_counts(self, stage: str) -> None:
        # torchmetrics sums the counts of all ranks before it divides.
        names = (f"{stage}/mse", f"{stage}/sign")
        errors = dict(zip(names, self._errors[stage], strict=True))
        self.log_dict({name: each.compute() for name, each in errors.items()}, sync_dist=True)
        for each in errors.values():
            each.reset()
        super()._log_counts(stage)
