"""The value network of AlphaGo, which predicts the result of games of a policy."""

from typing import Any

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn
from torch.nn import functional as F

from rl_lightning.experience import (
    CheckedMoves,
    EnvironmentSpec,
    MatchResults,
    ScoredPositions,
)
from rl_lightning.lightning_adapter.modules import should_log
from rl_lightning.modules.alphago.board_player import BoardPlayer
from rl_lightning.modules.alphago.stage_means import StageMeans
from rl_lightning.runtime.constructors import require_range
from rl_lightning.runtime.errors import ConfigurationError


class GameValue(BoardPlayer):
    """The value network descends the squared error (z − v(s))² to the result z of the game.

    The policy, which plays the games, does not change. It comes from a checkpoint of another
    module (`--weights_path`).

    In Go the features of the network can learn more than one number from a game: whom each point
    belongs to at its end (`ownership_weight`). A layer beside the value's head predicts the
    probability o(s) of each point to be the player's. The loss is

        (z − v(s))² − w · mean over points of [y log o(s) + (1 − y) log(1 − o(s))],

    with y = 1 for own points, 0 for those of the opponent and ½ for neutral ones. The search does
    not use o.

    `val/mse` is the mean squared error on results of 1, 0 and -1, and `val/sign` the part of
    positions of won and lost games in which the sign of the value is that of the result.

    Source: Silver et al. 2016, equation 3; Wu 2019, "Accelerating Self-Play Learning in Go",
    section 4.1, for the owners.

    Args:
        environment: Spec of the game, from the datamodule.
        num_layers: Convolutions of each network.
        num_filters: Filters of each convolution.
        optimizer: Makes the optimizer from the parameters.
        lr_scheduler: Makes the learning rate's schedule, which is stepped after every epoch.
        ownership_weight: w of the owners in the loss; 0 learns the results alone.
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
        ownership_weight: float = 0.0,
    ) -> None:
        require_range(0, ownership_weight=ownership_weight)
        if ownership_weight and not environment["env_id"].startswith("go"):
            raise ConfigurationError(
                f"ownership_weight is {ownership_weight}, and points of {environment['env_id']} "
                "have no owner: set it to 0"
            )
        super().__init__(environment, num_layers, num_filters, optimizer, lr_scheduler)
        self.policy.requires_grad_(False)
        self.ownership_weight = ownership_weight
        self.owners: nn.Module | None = nn.Conv2d(num_filters, 1, 1) if ownership_weight else None
        self.means = StageMeans("mse", "sign")

    def forward(self, observations: Tensor) -> Tensor:
        """Planes [B, C, H, W] to values [B] in [-1, 1], for the player to move."""
        values: Tensor = self.value(observations)
        return values

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The parameters of the value network, and of the layer of owners."""
        layers = [self.value] if self.owners is None else [self.value, self.owners]
        return [{"params": [each for layer in layers for each in layer.parameters()]}]

    def training_step(self, batch: ScoredPositions) -> Tensor:
        """Compute the loss of a batch."""
        terms = self.losses(batch)
        loss = terms["value_loss"]
        if self.owners is not None:
            loss = loss + self.ownership_weight * terms["ownership_loss"]
        if should_log(self.trainer):
            logged = {f"train/{name}": term.detach() for name, term in terms.items()}
            self.log_dict({"train/loss": loss.detach(), **logged}, sync_dist=True)
        return loss

    def losses(self, batch: ScoredPositions) -> dict[str, Tensor]:
        """The squared error of a batch, and the cross-entropy of the owners if they are learned."""
        features, values = self.value.features_and_values(batch.observations)
        assert values.shape == batch.outcomes.shape, f"v {values.shape}, z {batch.outcomes.shape}"
        terms = {"value_loss": F.mse_loss(values.float(), batch.outcomes)}
        if self.owners is not None:
            logits = self.owners(features).squeeze(1).float()
            targets = (batch.owners.float() + 1) / 2
            terms["ownership_loss"] = F.binary_cross_entropy_with_logits(logits, targets)
        return terms

    def upgrade_checkpoint(self, saved: dict[str, Any]) -> None:
        """Give a checkpoint without owners this module's layer, so that its value can be used."""
        if self.owners is not None:
            own = {name: w for name, w in self.state_dict().items() if name.startswith("owners.")}
            saved["state_dict"] = {**own, **saved["state_dict"]}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Load a checkpoint of a training without owners, too."""
        self.upgrade_checkpoint(checkpoint)

    def _count(self, batch: MatchResults | CheckedMoves | ScoredPositions, stage: str) -> None:
        if not isinstance(batch, ScoredPositions):
            super()._count(batch, stage)
            return
        values = self.value(batch.observations).float()
        decided = batch.outcomes != 0
        right = ((values > 0) == (batch.outcomes > 0))[decided].float()
        self.means.update(stage, mse=(values - batch.outcomes).square(), sign=right)

    def _log_counts(self, stage: str) -> None:
        self.log_dict(self.means.compute(stage), sync_dist=True)
        super()._log_counts(stage)
