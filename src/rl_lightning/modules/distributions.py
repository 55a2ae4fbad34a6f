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
        mean = self.linear(features).unflatten(-1, self.action_shape)
        normal = Normal(mean, self.log_std.exp().expand_as(mean), validate_args=False)
        return Independent(normal, len(self.action_shape), validate_args=False)


def make_head(
    environment: EnvironmentSpec, features: int, initial_log_std: float
) -> CategoricalHead | GaussianHead:
    """The head for this environment's actions."""
    num_actions = environment["num_actions"]
    if num_actions is not None:
        return CategoricalHead(features, num_actions)
    return GaussianHead(features, tuple(environment["action_shape"]), initial_log_std)


def sample(distribution: Distribution, generator: torch.Generator) -> Tensor:
    """One action for each copy, drawn from `generator`.

    torch's own `sample` takes no generator.
    """
    if isinstance(distribution, Categorical):
        # The first arrival of exponential races, at rates p, is distributed as p.
        rates = distribution.probs
        arrivals = torch.empty_like(rates).exponential_(generator=generator)
        return (rates / arrivals).argmax(dim=-1)
    mean, std = distribution.mean, distribution.stddev
    noise = torch.empty_like(mean).normal_(generator=generator)
    return torch.addcmul(mean, std, noise)
