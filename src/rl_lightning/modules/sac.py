"""The soft actor-critic: an actor and two Q-functions with experience replay."""

import copy
import math
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from lightning import Callback
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn

from rl_lightning.callbacks.renew_priorities import RenewPriorities
from rl_lightning.callbacks.target_network import TargetNetwork
from rl_lightning.experience import EnvironmentSpec, Exploration, TargetNetworks, Transitions
from rl_lightning.functional.maximum_entropy import (
    soft_policy_loss,
    soft_q_target,
    temperature_loss,
)
from rl_lightning.lightning_adapter.modules import should_log
from rl_lightning.modules.agent import Agent
from rl_lightning.networks.bodies import make_body
from rl_lightning.networks.policy_heads import SquashedGaussianHead
from rl_lightning.networks.q_ensemble import QEnsemble
from rl_lightning.runtime.constructors import require_range
from rl_lightning.runtime.errors import ConfigurationError


class SAC(Agent):
    """The lecture's actor-critic with Q-learning tricks: the critic is Q, and experience replayed.

    The actor ascends min_i Q_i(s, a) − α log π(a | s), and each Q-function descends
    ½ (Q_i(s, a) − y)² with y = r + γ (min_i Q_i(s', a'; θ⁻) − α log π(a' | s')). The temperature α
    is learned such that the entropy of the policy is `target_entropy`.

    Each of these three losses has a gradient for its own parameters only. So the gradient of their
    sum is that of each, and one backward pass and one optimizer step update everything. The paper
    updates the Q-functions first, and then the actor with the new Q-functions. Here the actor's
    loss uses the Q-functions before their update.

    Source: Haarnoja et al. 2018, "Soft Actor-Critic Algorithms and Applications" (algorithm 1).

    Args:
        environment: Spaces of the environment; the command line takes them from the datamodule.
        hidden_sizes: Units of the hidden layers of the actor and of each Q-function.
        normalise_observations: Whether to subtract the running mean from observations and divide
            them by their running standard deviation.
        temperature: α at the start, in units of rewards per nat.
        learn_temperature: Whether α is learned; otherwise it is fixed.
        target_entropy: Entropy in nats, for actions scaled to bounds of ±1. With None it is
            −|A|, where |A| is the number of the action's components.
        actor_learning_rate: With None it is the optimizer's `lr`, as is that of α.
        num_q_functions: E. Targets and the actor use the smallest of E values.
        layer_norm: Whether each hidden layer of the Q-functions has layer normalisation before its
            activation (Hiraoka et al. 2022).
        optimizer: Makes the optimizer from the parameters.
        lr_scheduler: Makes the learning rate's schedule, which is stepped after every epoch.

    Raises:
        ConfigurationError: If the actions are discrete or unbounded, or an argument is out of
            range. When training starts, if the datamodule has an `n_step` above 1 and the
            temperature is learned.
    """

    algorithm = "sac"

    batch_type = Transitions
    gives_td_errors = True
    necessary_callbacks = (TargetNetwork, RenewPriorities)
    architecture: ClassVar[tuple[str, ...]] = (
        "environment",
        "hidden_sizes",
        "normalise_observations",
        "num_q_functions",
        "layer_norm",
        "learn_temperature",
    )

    def __init__(
        self,
        environment: EnvironmentSpec,
        hidden_sizes: Sequence[int] = (256, 256),
        normalise_observations: bool = False,
        temperature: float = 1.0,
        learn_temperature: bool = True,
        target_entropy: float | None = None,
        actor_learning_rate: float | None = None,
        num_q_functions: int = 2,
        layer_norm: bool = False,
        optimizer: OptimizerCallable = torch.optim.Adam,
        lr_scheduler: LRSchedulerCallable | None = None,
    ) -> None:
        super().__init__(environment, optimizer, normalise_observations, lr_scheduler)
        if environment["num_actions"] is not None:
            raise ConfigurationError(
                f"SAC needs continuous actions, and {environment['env_id']} has discrete ones: use "
                "DQN or A2C there"
            )
        require_range(0, actor_learning_rate=actor_learning_rate)
        require_range(1, num_q_functions=num_q_functions)
        if temperature <= 0:
            raise ConfigurationError(f"temperature is {temperature}: choose it above 0")
        self.actor = make_body(environment, "mlp", hidden_sizes)
        self.head = SquashedGaussianHead(self.actor.features, environment)
        self.q_functions = QEnsemble(environment, hidden_sizes, num_q_functions, layer_norm)
        self.target_q_functions = copy.deepcopy(self.q_functions).requires_grad_(False)
        self.log_temperature = nn.Parameter(
            torch.tensor(math.log(temperature)), requires_grad=learn_temperature
        )
        actions = math.prod(environment["action_shape"])
        self.target_entropy = float(-actions if target_entropy is None else target_entropy)
        self.actor_learning_rate = actor_learning_rate

    def target_networks(self) -> TargetNetworks:
        """θ⁻ ← 0.995 θ⁻ + 0.005 θ after each update, as in the paper."""
        pairs = [(self.q_functions, self.target_q_functions)]
        return TargetNetworks(pairs, every_n_updates=1, tau=0.005)

    def configure_callbacks(self) -> list[Callback]:
        """Check that transitions have one step, if the temperature is learned.

        The target of n steps leaves out the entropy of the n − 1 steps in between. With a small
        fixed temperature this is a small error. A learned temperature would be learned for an
        objective that Q does not have.
        """
        n_step = getattr(getattr(self.trainer, "datamodule", None), "n_step", 1)
        if n_step > 1 and self.log_temperature.requires_grad:
            raise ConfigurationError(
                f"n_step is {n_step} and learn_temperature is true, and SAC's target leaves out "
                "the entropy of the steps in between: set n_step to 1, or learn_temperature to "
                "false with a small temperature"
            )
        return super().configure_callbacks()

    def act(self, observations: Tensor, exploration: Exploration | None = None) -> Tensor:
        """Draw an action for each environment copy; without exploration, tanh of the mean."""
        features = self.actor(self._normalised(observations))
        return self.head.act(features, None if exploration is None else exploration.generator)

    def values(self, observations: Tensor) -> Tensor:
        """The values min_i Q_i(s, a) [B] of the greedy action a; they include future entropy."""
        normalised = self._normalised(observations)
        mean, _ = self.head(self.actor(normalised))
        lowest: Tensor = self.q_functions(normalised, mean.tanh()).amin(dim=0)
        return lowest

    def training_step(self, batch: Transitions) -> dict[str, Tensor]:
        """Compute the sum of the losses of Q, π and α of one minibatch, and its TD errors [B].

        The TD error of a transition is the mean of |y − Q_i(s, a)| over the Q-functions.
        """
        generator = self.random_stream("sac actions")
        temperature = self.log_temperature.detach().exp()
        observations = self._normalised(batch.observations)

        # Q: ½ (y − Q_i(s, a))²
        targets = self._targets(batch, temperature, generator)
        q_values = self.q_functions(observations, self.head.from_environment(batch.actions))
        assert q_values.shape[1:] == targets.shape, f"Q {q_values.shape}, y {targets.shape}"
        errors = targets - q_values
        losses = 0.5 * errors.square().sum(dim=0)
        if batch.importance_weights is not None:
            losses = losses * batch.importance_weights
        q_loss = losses.mean()

        # π: α log π(a | s) − min_i Q_i(s, a)
        actions, log_probs = self.head.sample(self.actor(observations), generator)
        action_values = self.q_functions(observations, actions, frozen=True)
        policy_loss = soft_policy_loss(action_values, log_probs, temperature)
        loss = q_loss + policy_loss

        # α: −log α (log π(a | s) + target entropy)
        if self.log_temperature.requires_grad:
            loss = loss + temperature_loss(self.log_temperature, log_probs, self.target_entropy)

        if self.normaliser is not None:
            self.normaliser.update(batch.observations)
        if should_log(self.trainer):
            self.log_dict(
                {
                    "train/loss": loss.detach(),
                    "train/q_loss": q_loss.detach(),
                    "train/policy_loss": policy_loss.detach(),
                    "train/q_mean": q_values.detach().mean(),
                    "train/entropy": -log_probs.detach().mean(),
                    "train/temperature": temperature,
                },
                sync_dist=True,
            )
        return {"loss": loss, "td_error": errors.detach().abs().mean(dim=0)}

    @torch.no_grad()
    def _targets(
        self, batch: Transitions, temperature: Tensor, generator: torch.Generator
    ) -> Tensor:
        """The targets y [B], each with an action drawn from π(· | s')."""
        next_observations = self._normalised(batch.next_observations)
        actions, log_probs = self.head.sample(self.actor(next_observations), generator)
        q_values = self.target_q_functions(next_observations, actions)
        return soft_q_target(batch.rewards, batch.discounts, q_values, log_probs, temperature)

    def configure_optimizers(self) -> Any:
        """One optimizer, in which the actor is a group if it has its own rate, and its schedule."""
        actor, *others = self._parts()
        rest = [parameter for part in others for parameter in part]
        groups: list[dict[str, Any]] = [{"params": actor + rest}]
        if self.actor_learning_rate is not None:
            groups = [{"params": actor, "lr": self.actor_learning_rate}, {"params": rest}]
        return self.with_schedule(self.optimizer(groups), self.lr_scheduler)

    def clipped_apart(self, optimizer: torch.optim.Optimizer) -> list[list[nn.Parameter]]:
        """Actor, Q-functions and temperature, because their gradients have different scales."""
        return self._parts()

    def _parts(self) -> list[list[nn.Parameter]]:
        actor = [*self.actor.parameters(), *self.head.parameters()]
        temperature = [self.log_temperature] if self.log_temperature.requires_grad else []
        return [part for part in (actor, [*self.q_functions.parameters()], temperature) if part]
