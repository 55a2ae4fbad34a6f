"""Base class of deep Q-learning: a Q-network and an ε-greedy policy."""

from collections.abc import Sequence
from typing import ClassVar, TypedDict

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn

from rl_lightning.experience import Decision, EnvironmentSpec, Exploration
from rl_lightning.functional.exploration import epsilon_greedy, linear_schedule
from rl_lightning.lightning_adapter.modules import should_log
from rl_lightning.modules.agent import Agent
from rl_lightning.networks.bodies import Body, FullPrecisionLinear, NetworkName, make_body
from rl_lightning.runtime.constructors import require_range
from rl_lightning.runtime.errors import ConfigurationError


class QAgentOptions(TypedDict, total=False):
    """The options of `QAgent` that its subclasses pass on."""

    network: NetworkName
    hidden_sizes: Sequence[int]
    layer_norm: bool
    dueling: bool
    normalise_observations: bool
    epsilon_start: float
    epsilon_end: float
    epsilon_env_steps: int
    optimizer: OptimizerCallable
    lr_scheduler: LRSchedulerCallable | None


class QAgent(Agent):
    """An agent with a network Q(s, a; θ) of discrete actions, whose policy is ε-greedy.

    Subclasses have the loss in their `training_step`.

    Args:
        environment: Spaces of the environment; the command line takes them from the datamodule.
        network: "mlp", or one of the two Atari networks, of 2013 and of 2015 ("nature").
        hidden_sizes: Units of the mlp's hidden layers.
        layer_norm: Whether each hidden layer has layer normalisation before its activation.
        dueling: Whether Q is the sum of V and the advantages of the actions.
        normalise_observations: Whether to subtract the running mean from observations and divide
            them by their running standard deviation.
        epsilon_start: Probability ε of a random action at the start.
        epsilon_end: ε after `epsilon_env_steps`.
        epsilon_env_steps: Environment steps over which ε changes linearly.
        optimizer: Makes the optimizer from the parameters.
        lr_scheduler: Makes the learning rate's schedule, which is stepped after every epoch.

    Raises:
        ConfigurationError: If the actions are not discrete, an argument is out of range or the
            network does not fit.
    """

    architecture: ClassVar[tuple[str, ...]] = (
        "environment",
        "network",
        "hidden_sizes",
        "layer_norm",
        "dueling",
        "normalise_observations",
    )
    carried: ClassVar[tuple[str, ...]] = ("epsilon",)

    def __init__(
        self,
        environment: EnvironmentSpec,
        network: NetworkName = "mlp",
        hidden_sizes: Sequence[int] = (128, 128),
        layer_norm: bool = False,
        dueling: bool = False,
        normalise_observations: bool = False,
        epsilon_start: float = 1.0,
        epsilon_end: float = 0.05,
        epsilon_env_steps: int = 10_000,
        optimizer: OptimizerCallable = torch.optim.Adam,
        lr_scheduler: LRSchedulerCallable | None = None,
    ) -> None:
        require_range(0, 1, epsilon_start=epsilon_start, epsilon_end=epsilon_end)
        require_range(0, epsilon_env_steps=epsilon_env_steps)
        super().__init__(environment, optimizer, normalise_observations, lr_scheduler)
        num_actions = environment["num_actions"]
        if num_actions is None:
            raise ConfigurationError(
                f"{type(self).__name__} needs discrete actions for its maximum, and "
                f"{environment['env_id']} has continuous ones: use SAC, PPO or A2C there"
            )
        self.num_actions = num_actions
        self.epsilon_start = epsilon_start
        self.epsilon_end = epsilon_end
        self.epsilon_env_steps = epsilon_env_steps
        self.epsilon = epsilon_start
        body = make_body(environment, network, hidden_sizes, layer_norm=layer_norm)
        self.q_network = QNetwork(body, num_actions, dueling)

    def act(
        self, observations: Tensor, exploration: Exploration | None = None
    ) -> Tensor | Decision:
        """Act ε-greedily, with a random number for each environment copy; else greedily."""
        return self.choose(self.q_network(self._normalised(observations)), exploration)

    def choose(self, q_values: Tensor, exploration: Exploration | None) -> Tensor:
        """Choose actions [N] by their Q-values [N, A], ε-greedily with exploration."""
        greedy = q_values.argmax(dim=1)
        if exploration is None:
            return greedy
        self.epsilon = linear_schedule(
            exploration.env_steps, self.epsilon_start, self.epsilon_end, self.epsilon_env_steps
        )
        return epsilon_greedy(greedy, self.num_actions, self.epsilon, exploration.generator)

    def values(self, observations: Tensor) -> Tensor:
        """The values V(s) = max_a Q(s, a) [B]."""
        best: Tensor = self.q_network(self._normalised(observations)).amax(dim=1)
        return best

    def log_loss(self, loss: Tensor, q_values: Tensor) -> None:
        """Log the loss [] of an update, the mean of its Q-values, and ε."""
        if should_log(self.trainer):
            q_mean = q_values.detach().mean()
            metrics = {"train/loss": loss.detach(), "train/q_mean": q_mean}
            self.log_dict({**metrics, "train/epsilon": self.epsilon}, sync_dist=True)


class QNetwork(nn.Module):
    """Maps observations [B, *observation_shape] → Q-values [B, A], one for each action.

    With `dueling`, Q = V + A − mean A over actions (Wang et al. 2016, equation 9).
    """

    def __init__(self, body: Body, num_actions: int, dueling: bool) -> None:
        super().__init__()
        self.body = body
        self.advantages = FullPrecisionLinear(body.features, num_actions)
        self.value = FullPrecisionLinear(body.features, 1) if dueling else None

    def forward(self, observations: Tensor) -> Tensor:
        """Compute the Q-values of all actions."""
        features = self.body(observations)
        q_values: Tensor = self.advantages(features)
        if self.value is None:
            return q_values
        centred: Tensor = q_values - q_values.mean(dim=1, keepdim=True)
        return torch.add(self.value(features), centred)
