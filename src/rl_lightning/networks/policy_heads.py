"""Heads of stochastic policies, which compute the distribution of actions from features.

As in `MLP`, the `forward` of their layer is called directly.
"""

import math

import torch
from torch import Tensor, nn
from torch.distributions import Categorical, Distribution, Independent, Normal

from rl_lightning.experience import EnvironmentSpec
from rl_lightning.functional.maximum_entropy import squashed_log_probs
from rl_lightning.networks.bodies import FullPrecisionLinear
from rl_lightning.runtime.errors import ConfigurationError

LOG_STD_RANGE = (-20.0, 2.0)  # of squashed Gaussians; other values make losses overflow


class CategoricalHead(nn.Module):
    """Features [..., F] → a probability for each of A actions."""

    def __init__(self, features: int, num_actions: int) -> None:
        super().__init__()
        self.linear = FullPrecisionLinear(features, num_actions)

    def forward(self, features: Tensor) -> Distribution:
        """The distribution π(· | s)."""
        return Categorical(logits=self.linear.forward(features), validate_args=False)

    def act(self, features: Tensor, generator: torch.Generator | None) -> Tensor:
        """Draw an action for each row [B] with `generator`; without one, take the mode.

        The argmax of logits plus Gumbel noise has the distribution softmax(logits) (Gumbel 1954).
        torch's own `sample` cannot be used, because it has no argument for a generator.
        """
        logits: Tensor = self.linear.forward(features)
        if generator is not None:
            arrivals = torch.empty_like(logits).exponential_(generator=generator)
            logits = logits - arrivals.log_()
        return logits.argmax(dim=-1)


class ContinuousHead(nn.Module):
    """Base class of heads for Box actions, with the unit and the origin of each component.

    If a component has a lower and an upper bound, half the distance between them is its unit, and
    the middle between them is its origin. So the bounds are ±1 in this unit. Other components
    keep the environment's unit.

    Args:
        environment: Its spec has the shape and bounds of actions.
    """

    centre: Tensor
    scale: Tensor

    def __init__(self, environment: EnvironmentSpec) -> None:
        super().__init__()
        self.action_shape = tuple(environment["action_shape"])
        low = torch.tensor(environment["action_low"]).view(self.action_shape)
        high = torch.tensor(environment["action_high"]).view(self.action_shape)
        half = high / 2 - low / 2
        # Some environments use the largest float as a bound, which means that there is none, and
        # the square is then infinite. If both bounds are equal, the scale must not become 0.
        finite = half.square().isfinite()
        bounded = finite & (half > 0)
        self.is_bounded = bool(finite.all())
        self.register_buffer("centre", torch.where(bounded, low / 2 + high / 2, 0.0))
        self.register_buffer("scale", torch.where(bounded, half, 1.0))


class GaussianHead(ContinuousHead):
    """Features [..., F] → a diagonal Gaussian over actions [..., *action_shape].

    Features of 0 give the origin of `ContinuousHead`, and log σ = 0 gives a σ of its unit. log σ
    is a parameter that does not depend on the state.

    Samples are not squashed or clipped here. They are clipped just before the environment step,
    and the log-probability is that of the unclipped sample.

    Args:
        features: F.
        environment: Its spec has the shape and bounds of actions.
        initial_log_std: Initial log σ, in the unit of `ContinuousHead`.
    """

    def __init__(self, features: int, environment: EnvironmentSpec, initial_log_std: float) -> None:
        super().__init__(environment)
        self.linear = FullPrecisionLinear(features, math.prod(self.action_shape))
        self.log_std = nn.Parameter(torch.full(self.action_shape, initial_log_std))

    def forward(self, features: Tensor) -> Distribution:
        """The distribution π(· | s)."""
        mean = self._mean(features)
        normal = Normal(mean, self._std.expand_as(mean), validate_args=False)
        return Independent(normal, len(self.action_shape), validate_args=False)

    def act(self, features: Tensor, generator: torch.Generator | None) -> Tensor:
        """Draw an action for each row [B, *action_shape]; without `generator`, take the mode."""
        mean = self._mean(features)
        if generator is None:
            return mean
        noise = torch.empty_like(mean).normal_(generator=generator)
        return torch.addcmul(mean, self._std, noise)

    @property
    def _std(self) -> Tensor:
        return self.log_std.exp() * self.scale

    def _mean(self, features: Tensor) -> Tensor:
        mean: Tensor = self.linear.forward(features)
        return torch.addcmul(
            self.centre, mean.view(*features.shape[:-1], *self.action_shape), self.scale
        )


class SquashedGaussianHead(ContinuousHead):
    """Features [B, F] → tanh of a diagonal Gaussian, whose mean and σ depend on the state.

    Actions here are in the unit of `ContinuousHead`, in which all bounds are ±1.
    `to_environment` and `from_environment` convert them.

    Source: Haarnoja et al. 2018, "Soft Actor-Critic Algorithms and Applications", appendix C.

    Args:
        features: F.
        environment: Its spec has the shape and bounds of actions.

    Raises:
        ConfigurationError: If a component of the action is unbounded.
    """

    def __init__(self, features: int, environment: EnvironmentSpec) -> None:
        super().__init__(environment)
        if not self.is_bounded:
            raise ConfigurationError(
                f"the actions of {environment['env_id']} have no bounds, and a squashed Gaussian "
                "needs them for its scale: use A2C, whose Gaussian needs none, or a "
                "gymnasium.ActionWrapper in data.wrappers with a bounded action_space"
            )
        self.linear = FullPrecisionLinear(features, 2 * math.prod(self.action_shape))

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log σ [B, A] of the Gaussian, where A is the number of components."""
        mean, log_std = self.linear.forward(features).chunk(2, dim=-1)
        return mean, log_std.clamp(*LOG_STD_RANGE)

    def sample(self, features: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw actions [B, A] with their log-probabilities [B], both with a gradient."""
        mean, log_std = self.forward(features)
        noise = torch.empty_like(mean).normal_(generator=generator)
        unsquashed = mean + log_std.exp() * noise
        return unsquashed.tanh(), squashed_log_probs(unsquashed, mean, log_std)

    def act(self, features: Tensor, generator: torch.Generator | None) -> Tensor:
        """Draw an action for each row [B, *action_shape]; without `generator`, tanh of the mean.

        The result is in the environment's unit.
        """
        mean, log_std = self.forward(features)
        if generator is not None:
            noise = torch.empty_like(mean).normal_(generator=generator)
            mean = mean + log_std.exp() * noise
        return self.to_environment(mean.tanh())

    def to_environment(self, actions: Tensor) -> Tensor:
        """Convert actions [B, A] to those of the environment [B, *action_shape]."""
        return torch.addcmul(self.centre, actions.view(-1, *self.action_shape), self.scale)

    def from_environment(self, actions: Tensor) -> Tensor:
        """Convert actions of the environment [B, *action_shape] to [B, A]."""
        return ((actions - self.centre) / self.scale).view(len(actions), -1)


def make_head(
    environment: EnvironmentSpec, features: int, initial_log_std: float
) -> CategoricalHead | GaussianHead:
    """Make the head for an environment's action space."""
    num_actions = environment["num_actions"]
    if num_actions is not None:
        return CategoricalHead(features, num_actions)
    return GaussianHead(features, environment, initial_log_std)
