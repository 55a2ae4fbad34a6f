"""Base class of modules that play board games with a policy and a value network."""

from typing import Any, ClassVar

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn

from rl_lightning.experience import (
    CheckedMoves,
    EnvironmentSpec,
    MatchResults,
    RecordedGame,
    example_observations,
)
from rl_lightning.modules.learner import Learner
from rl_lightning.networks.board import BoardPolicy, BoardValue
from rl_lightning.runtime.ranks import sum_over_ranks


class BoardPlayer(Learner):
    """A module with the networks of AlphaGo, which counts the results of matches.

    `wins_against_<opponent>`, `draws_…` and `losses_…` are numbers of games, and `win_rate_…` is
    the part of games that the player wins, with a draw as half of a win.

    Args:
        environment: Spec of the game, from the datamodule.
        num_layers: Convolutions of each network.
        num_filters: Filters of each convolution.
        optimizer: Makes the optimizer from the parameters.
        lr_scheduler: Makes the learning rate's schedule, which is stepped after every epoch.
    """

    # Validation plays against the policy of the start, or measures the value network alone.
    tested_checkpoint = "last"
    architecture: ClassVar[tuple[str, ...]] = ("environment", "num_layers", "num_filters")

    def __init__(
        self,
        environment: EnvironmentSpec,
        num_layers: int,
        num_filters: int,
        optimizer: OptimizerCallable,
        lr_scheduler: LRSchedulerCallable | None,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(ignore=["optimizer", "lr_scheduler"])
        self.environment = environment
        self.example_input_array = example_observations(environment)
        self.policy: nn.Module = BoardPolicy(environment, num_layers, num_filters)
        self.value = BoardValue(environment, num_layers, num_filters)
        self.optimizer = optimizer
        self.lr_scheduler = lr_scheduler
        # By opponent: wins, draws and losses of this rank.
        self._results: dict[str, Tensor] = {}
        self._mistakes = torch.zeros(2, dtype=torch.float64)  # mistakes, positions

    def forward(self, observations: Tensor) -> Tensor:
        """Planes [B, C, H, W] to logits [B, A], -inf for illegal moves."""
        logits: Tensor = self.policy(observations)
        return logits

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The groups of parameters that are trained."""
        raise NotImplementedError

    def configure_optimizers(self) -> Any:
        """The optimizer and, if there is one, its learning-rate schedule."""
        optimizer = self.optimizer(self.parameter_groups())
        return self.with_schedule(optimizer, self.lr_scheduler)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Count the results of a match."""
        self._count(batch, "val")

    def test_step(self, batch: Any, batch_idx: int) -> None:
        """Count the results of a match, or the mistakes of the policy."""
        self._count(batch, "test")

    def on_validation_epoch_end(self) -> None:
        """Log the results of all matches."""
        self._log_counts("val")

    def on_test_epoch_end(self) -> None:
        """Log the results of all matches."""
        self._log_counts("test")

    def predict_step(self, batch: RecordedGame, batch_idx: int) -> Tensor:
        """The values of the positions of a game [T], for the first player."""
        return batch.values

    def _count(self, batch: MatchResults | CheckedMoves, stage: str) -> None:
        if isinstance(batch, CheckedMoves):
            self._mistakes[0] += batch.mistakes.sum().cpu()
            self._mistakes[1] += len(batch.mistakes)
            return
        signs = torch.tensor([[1.0], [0.0], [-1.0]], dtype=torch.float64)
        counts = (batch.outcomes.cpu().double() == signs).sum(1).double()
        self._results[batch.opponent] = self._results.get(batch.opponent, 0) + counts

    def _log_counts(self, stage: str) -> None:
        metrics: dict[str, Tensor] = {}
        for name, counts in self._results.items():
            totals = dict(zip(("wins", "draws", "losses"), sum_over_ranks(counts), strict=True))
            rate = (totals["wins"] + totals["draws"] / 2) / sum(totals.values())
            metrics[f"{stage}/win_rate_against_{name}"] = rate
            metrics |= {f"{stage}/{each}_against_{name}": sum_ for each, sum_ in totals.items()}
        mistakes, positions = sum_over_ranks(self._mistakes)
        if positions:
            metrics |= {f"{stage}/policy_mistakes": mistakes, f"{stage}/positions": positions}
        self._results = {}
        self._mistakes = torch.zeros_like(self._mistakes)
        self.log_dict({name: value.float() for name, value in metrics.items()}, sync_dist=True)
