"""Heads of stochastic policies, which compute the distribution of actions from features."""

import math

import torch
from torch import Tensor, nn
from torch.distributions import Categorical, Distribution, Independent, Normal

from rl_lightning.experience import EnvironmentSpec
from rl_lightning.networks.bodies import FullPrecisionLinear


class CategoricalHead(nn.Module):
    """Features [B, F] → a probability for each of A actions."""

    def __init__(self, features: int, num_actions: int) -> None:
        super().__init__()
        self.linear = FullPrecisionLinear(features, num_actions)

    def forward(self, features: Tensor) -> Distribution:
        """The distribution π(· | s)."""
        return Categorical(logits=self.linear(features), validate_args=False)

    def act(self, features: Tensor, generator: torch.Generator | None) -> Tensor:
        """Draw an action for each row [B] with `generator`; without one, take the mode.

        The argmax of logits plus Gumbel noise has the distribution softmax(logits) (Gumbel 1954).
        torch's own `sample` cannot be used, because it has no argument for a generator.
        """
        logits: Tensor = self.linear(features)
        if generator is not None:
            arrivals = torch.empty_like(logits).exponential_(generator=generator)
            logits = logits - arrivals.log_()
        return logits.argmax(dim=-1)


class GaussianHead(nn.Module):
    """Features [B, F] → a diagonal Gaussian over actions [B, *action_shape].

    If a component of the action has a lower and an upper bound, half the distance between them is
    the unit of its mean and σ, and the middle between them is the origin of its mean. So features
    of 0 give the middle, and log σ = 0 gives a σ of half the distance. log σ is a parameter that
    does not depend on the state.

    Samples are not squashed or clipped here. They are clipped just before the environment step,
    and the log-probability is that of the unclipped sample.

    Args:
        features: F.
        environment: Its spec has the shape and bounds of actions.
        initial_log_std: Initial log σ, where the unit of σ is half the distance between bounds.
    """

    centre: Tensor
    scale: Tensor

    def __init__(self, features: int, environment: EnvironmentSpec, initial_log_std: float) -> None:
        super().__init__()
        self.action_shape = tuple(environment["action_shape"])
        low = torch.tensor(environment["action_low"]).view(self.action_shape)
        high = torch.tensor(environment["action_high"]).view(self.action_shape)
        half = high / 2 - low / 2
        # Some environments use the largest float as a bound, which means that there is none, and
        # the square is then infinite. If both bounds are equal, the scale must not become 0.
        bounded = half.square().isfinite() & (half > 0)
        self.register_buffer("centre", torch.where(bounded, low / 2 + high / 2, 0.0))
        self.register_buffer("scale", torch.where(bounded, half, 1.0))
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
        mean: Tensor = self.linear(features)
        return torch.addcmul(self.centre, mean.view(len(features), *self.action_shape), self.scale)


def make_head(
    environment: EnvironmentSpec, features: int, initial_log_std: float
) -> CategoricalHead | GaussianHead:
    """Make the head for an environment's action space."""
    num_actions = environment["num_actions"]
    if num_actions is not None:
        return CategoricalHead(features, num_actions)
    return GaussianHead(features, environment, initial_log_std)
