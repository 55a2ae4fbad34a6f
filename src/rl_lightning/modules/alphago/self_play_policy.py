"""Policy gradient by self-play, the second step of AlphaGo."""

import copy
from typing import Any

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn

from rl_lightning.experience import EnvironmentSpec, SelfPlayGames
from rl_lightning.functional.returns import game_advantages
from rl_lightning.lightning_adapter.modules import should_log
from rl_lightning.modules.alphago.board_player import BoardPlayer
from rl_lightning.networks.normalisation import standardised_over_ranks
from rl_lightning.runtime.errors import ConfigurationError
from rl_lightning.runtime.ranks import ddp_scale


class SelfPlayPolicy(BoardPlayer):
    """REINFORCE on the results of games, with the value network as baseline.

    The policy ascends the mean of (z − v(s)) ∇ log π(a | s) over its moves, where z is 1 if it won
    the game, -1 if it lost and 0 for a draw. With `gae_lambda` below 1 the advantage z − v(s) is
    replaced by the generalised advantage, which has less variance and the bias of v. The value
    network descends the squared error (z − v(s))².

    Source: Silver et al. 2016, equation 2 and methods, "Policy network: reinforcement learning".

    Args:
        environment: Spec of the game, from the datamodule.
        num_layers: Convolutions of each network.
        num_filters: Filters of each convolution.
        gae_lambda: λ of the advantages; 1 is z − v(s).
        normalise_advantages: Whether to scale advantages to zero mean and unit variance in each
            batch.
        entropy_coefficient: Weight of the entropy bonus in the loss. The paper has none.
        kl_coefficient: Weight of KL(π ‖ π_0) in the loss, where π_0 is the policy at the start of
            the run, such as a supervised one. With 0 there is no copy of π_0.
        value_coefficient: Weight of the squared error in the loss.
        value_learning_rate: Learning rate of the value network; None is the optimizer's `lr`.
        optimizer: Makes the optimizer from the parameters.
        lr_scheduler: Makes the learning rate's schedule, which is stepped after every epoch.

    Raises:
        ConfigurationError: If an argument is out of range, or the environment is no board game.
    """

    algorithm = "self_play_policy"
    batch_type = SelfPlayGames
    monitor = ("val/win_rate_against_start", "max")

    def __init__(
        self,
        environment: EnvironmentSpec,
        num_layers: int = 4,
        num_filters: int = 64,
        gae_lambda: float = 1.0,
        normalise_advantages: bool = False,
        entropy_coefficient: float = 0.0,
        kl_coefficient: float = 0.0,
        value_coefficient: float = 1.0,
        value_learning_rate: float | None = None,
        optimizer: OptimizerCallable = torch.optim.Adam,
        lr_scheduler: LRSchedulerCallable | None = None,
    ) -> None:
        if not 0 <= gae_lambda <= 1:
            raise ConfigurationError(f"gae_lambda is {gae_lambda}: choose it in [0, 1]")
        if min(entropy_coefficient, kl_coefficient, value_coefficient) < 0:
            raise ConfigurationError(
                f"entropy_coefficient is {entropy_coefficient}, kl_coefficient is {kl_coefficient} "
                f"and value_coefficient is {value_coefficient}: make each at least 0"
            )
        super().__init__(environment, num_layers, num_filters, optimizer, lr_scheduler)
        self.gae_lambda = gae_lambda
        self.normalise_advantages = normalise_advantages
        self.entropy_coefficient = entropy_coefficient
        self.kl_coefficient = kl_coefficient
        self.value_coefficient = value_coefficient
        self.value_learning_rate = value_learning_rate
        self.reference: nn.Module | None = None
        if kl_coefficient:
            self.reference = copy.deepcopy(self.policy).requires_grad_(False)

    def setup(self, stage: str) -> None:
        """Take the policy at the start of the run as π_0. A resume replaces it by the saved one."""
        if stage == "fit" and self.reference is not None:
            self.reference.load_state_dict(self.policy.state_dict())

    def training_step(self, batch: SelfPlayGames) -> Tensor:
        """Compute the loss of a batch of games."""
        log_probs = self._log_probs(self.policy, batch)
        values = self.value(batch.observations).float()
        results = batch.outcomes.repeat_interleave(batch.lengths, output_size=len(values))
        assert values.shape == results.shape, f"V {values.shape}, z {results.shape}"
        advantages = game_advantages(
            values.detach(), batch.lengths, batch.outcomes, self.gae_lambda
        )
        if self.normalise_advantages:
            advantages = standardised_over_ranks(advantages)
        chosen = log_probs.gather(1, batch.actions[:, None]).squeeze(1)
        probs = log_probs.exp()
        terms = {
            "policy_loss": -(chosen * advantages).mean(),
            "value_loss": (results - values).square().mean(),
            "entropy": -_mean_over_actions(probs, log_probs, batch.playable),
        }
        if self.reference is not None:
            with torch.no_grad():
                reference = self._log_probs(self.reference, batch)
            terms["kl"] = _mean_over_actions(probs, log_probs - reference, batch.playable)
        loss = (
            terms["policy_loss"]
            + self.value_coefficient * terms["value_loss"]
            - self.entropy_coefficient * terms["entropy"]
            + self.kl_coefficient * terms.get("kl", torch.zeros_like(values[0]))
        )
        if should_log(self.trainer):
            logged = {f"train/{name}": value.detach() for name, value in terms.items()}
            self.log_dict({"train/loss": loss.detach(), **logged}, sync_dist=True)
        return loss * ddp_scale(batch.lengths.sum())

    def _log_probs(self, policy: nn.Module, batch: SelfPlayGames) -> Tensor:
        """Log-probabilities [B, A] of the distribution that the moves were drawn from."""
        logits = policy(batch.observations).float()
        log_probs: Tensor = logits.masked_fill(~batch.playable, -torch.inf).log_softmax(1)
        return log_probs

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The parameters of the policy, and those of the value network."""
        value: dict[str, Any] = {"params": [*self.value.parameters()]}
        if self.value_learning_rate is not None:
            value["lr"] = self.value_learning_rate
        return [{"params": [*self.policy.parameters()]}, value]

    def clipped_apart(self, optimizer: torch.optim.Optimizer) -> list[list[nn.Parameter]]:
        """Policy and value network, which share no parameter."""
        return [group["params"] for group in optimizer.param_groups]


def _mean_over_actions(probs: Tensor, values: Tensor, playable: Tensor) -> Tensor:
    """The mean of Σ_a π(a | s) f(s, a) over positions; f is infinite for actions not playable."""
    return (probs * values.masked_fill(~playable, 0)).sum(1).mean()
