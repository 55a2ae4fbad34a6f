"""What a stochastic policy draws its actions from."""

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
        """π(· | s)."""
        return Categorical(logits=self.linear(features), validate_args=False)

    def act(self, features: Tensor, generator: torch.Generator | None) -> Tensor:
        """An action of each copy [B], drawn from `generator`; the mode without one.

        The largest of the logits plus Gumbel noise is distributed as their softmax, which
        need not be computed (Gumbel 1954); torch's own `sample` takes no generator.
        """
        logits: Tensor = self.linear(features)
        if generator is not None:
            arrivals = torch.empty_like(logits).exponential_(generator=generator)
            logits = logits - arrivals.log_()
        return logits.argmax(dim=-1)


class GaussianHead(nn.Module):
    """Features [B, F] → a diagonal Gaussian over actions [B, *action_shape].

    Where a number of an action has two bounds, its mean and σ are counted in half the distance
    between them, from the middle: features of 0 give the middle, and log σ = 0 a σ of that half.
    log σ is a parameter of its own, the same in every state. The sample is not squashed or
    clipped here: it is clipped where it enters the environment, and the log-probability
    stays that of the sample.

    Args:
        features: F.
        environment: Shape and bounds of its actions.
        initial_log_std: log σ at first, in half the distance between the bounds.
    """

    centre: Tensor
    scale: Tensor

    def __init__(self, features: int, environment: EnvironmentSpec, initial_log_std: float) -> None:
        super().__init__()
        self.action_shape = tuple(environment["action_shape"])
        low = torch.tensor(environment["action_low"]).view(self.action_shape)
        high = torch.tensor(environment["action_high"]).view(self.action_shape)
        half = high / 2 - low / 2
        # Bounds of the largest number that a float can be mean none, and σ must not be 0.
        bounded = half.square().isfinite() & (half > 0)
        self.register_buffer("centre", torch.where(bounded, low / 2 + high / 2, 0.0))
        self.register_buffer("scale", torch.where(bounded, half, 1.0))
        self.linear = FullPrecisionLinear(features, math.prod(self.action_shape))
        self.log_std = nn.Parameter(torch.full(self.action_shape, initial_log_std))

    def forward(self, features: Tensor) -> Distribution:
        """π(· | s)."""
        mean = self._mean(features)
        normal = Normal(mean, self._std.expand_as(mean), validate_args=False)
        return Independent(normal, len(self.action_shape), validate_args=False)

    def act(self, features: Tensor, generator: torch.Generator | None) -> Tensor:
        """An action of each copy [B, *action_shape], drawn from `generator`; the mode without."""
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
    """The head for this environment's actions."""
    num_actions = environment["num_actions"]
    if num_actions is not None:
        return CategoricalHead(features, num_actions)
    return GaussianHead(features, environment, initial_log_std)
