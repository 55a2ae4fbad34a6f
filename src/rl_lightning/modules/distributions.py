"""What a stochastic policy draws its actions from."""

import math

import torch
from torch import Tensor, nn
from torch.distributions import Categorical, Distribution, Independent, Normal

from rl_lightning.experience import EnvironmentSpec


class CategoricalHead(nn.Module):
    """Features [B, F] → a probability for each of A actions."""

    def __init__(self, features: int, num_actions: int) -> None:
        super().__init__()
        self.linear = nn.Linear(features, num_actions)

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

    log σ is a parameter of its own, the same in every state. The sample is not
    squashed or clipped here: the environment's door clips, and the log-probability
    stays that of the sample.
    """

    def __init__(
        self, features: int, action_shape: tuple[int, ...], initial_log_std: float
    ) -> None:
        super().__init__()
        self.action_shape = action_shape
        self.linear = nn.Linear(features, math.prod(action_shape))
        self.log_std = nn.Parameter(torch.full(action_shape, initial_log_std))

    def forward(self, features: Tensor) -> Distribution:
        """π(· | s)."""
        mean = self._mean(features)
        normal = Normal(mean, self.log_std.exp().expand_as(mean), validate_args=False)
        return Independent(normal, len(self.action_shape), validate_args=False)

    def act(self, features: Tensor, generator: torch.Generator | None) -> Tensor:
        """An action of each copy [B, *action_shape], drawn from `generator`; the mode without."""
        mean = self._mean(features)
        if generator is None:
            return mean
        noise = torch.empty_like(mean).normal_(generator=generator)
        return torch.addcmul(mean, self.log_std.exp(), noise)

    def _mean(self, features: Tensor) -> Tensor:
        mean: Tensor = self.linear(features)
        return mean.unflatten(-1, self.action_shape)


def make_head(
    environment: EnvironmentSpec, features: int, initial_log_std: float
) -> CategoricalHead | GaussianHead:
    """The head for this environment's actions."""
    num_actions = environment["num_actions"]
    if num_actions is not None:
        return CategoricalHead(features, num_actions)
    return GaussianHead(features, tuple(environment["action_shape"]), initial_log_std)
