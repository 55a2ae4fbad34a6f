"""Network bodies, which compute features from observations."""

import itertools
import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from rl_lightning.experience import EnvironmentSpec
from rl_lightning.runtime.errors import ConfigurationError

NetworkName = Literal["mlp", "atari_2013", "nature"]
Activation = Literal["relu", "tanh"]


class Body(nn.Sequential):
    """Computes features [B, features] from observations."""

    features: int


class MLP(Body):
    """Fully connected layers with an activation after each: [B, *shape] → [B, features].

    Args:
        observation_shape: Of one observation, with any number of dimensions.
        hidden_sizes: Units of each layer.
        activation: Activation after each layer.
        num_observations: Size of a Discrete observation space, whose observations are encoded
            one-hot; else None.
    """

    def __init__(
        self,
        observation_shape: Sequence[int],
        hidden_sizes: Sequence[int],
        activation: Activation = "relu",
        num_observations: int | None = None,
    ) -> None:
        if min(hidden_sizes, default=1) < 1:
            raise ConfigurationError(f"hidden_sizes are {[*hidden_sizes]}: make each at least 1")
        sizes = [num_observations or math.prod(observation_shape), *hidden_sizes]
        layers: list[nn.Module] = [
            Flatten() if num_observations is None else OneHot(num_observations)
        ]
        for fan_in, fan_out in itertools.pairwise(sizes):
            layers += [nn.Linear(fan_in, fan_out), nn.Tanh() if activation == "tanh" else nn.ReLU()]
        super().__init__(*layers)
        self.features = sizes[-1]


class Cast(nn.Module):
    """Converts observations of any dtype to the dtype of the network's weights.

    Bytes are also scaled from [0, 255] to [0, 1]. This is done here, in the network, so that
    observations are stored and moved between devices as bytes. Floats are not scaled, because a
    normaliser may already have scaled them.
    """

    like: Tensor

    def __init__(self) -> None:
        super().__init__()
        # A buffer has the dtype of the weights under every precision of the Trainer.
        self.register_buffer("like", torch.empty(0), persistent=False)

    def forward(self, observations: Tensor) -> Tensor:
        """Convert and scale."""
        floats = observations.to(self.like.dtype)
        return floats / 255.0 if observations.dtype == torch.uint8 else floats


class Flatten(Cast):
    """Observations [B, *shape] → [B, features]; a shape of () becomes one feature."""

    def forward(self, observations: Tensor) -> Tensor:
        """Convert, scale and flatten all dimensions except the batch."""
        if observations.ndim == 2 and observations.dtype == self.like.dtype:
            return observations  # the usual case, in which the operations below change nothing
        return super().forward(observations).reshape(observations.shape[0], -1)


class OneHot(Cast):
    """Discrete observations [B] → [B, number], 1 at each observation and 0 elsewhere."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number

    def forward(self, observations: Tensor) -> Tensor:
        """Encode the observations."""
        return super().forward(functional.one_hot(observations.long(), self.number))


class FullPrecisionLinear(nn.Linear):
    """A linear layer without autocast.

    In mixed precision the bodies compute in 16 bits. The last layers compute in the dtype of the
    weights, because losses use differences of their outputs, which are too inexact in 16 bits.
    """

    def forward(self, features: Tensor) -> Tensor:
        """Map [B, in_features] → [B, out_features]."""
        if not torch.is_autocast_enabled(features.device.type):
            return super().forward(features)
        with torch.autocast(features.device.type, enabled=False):
            return super().forward(features.to(self.weight.dtype))


def make_body(
    environment: EnvironmentSpec,
    network: NetworkName,
    hidden_sizes: Sequence[int],
    activation: Activation = "relu",
) -> Body:
    """Make the network body for an environment's observations.

    Raises:
        ConfigurationError: If the network does not fit the observations.
    """
    shape = environment["observation_shape"]
    if network == "mlp":
        return MLP(shape, hidden_sizes, activation, environment["num_observations"])
    from rl_lightning.networks.atari import AtariNetwork

    return AtariNetwork(network, shape)


def initialise_orthogonally(module: nn.Module, gain: float = math.sqrt(2)) -> None:
    """Set the weights of every layer orthogonal times `gain`, and the biases 0 (Saxe 2014)."""
    for layer in module.modules():
        if isinstance(layer, (nn.Linear, nn.Conv2d)):
            nn.init.orthogonal_(layer.weight, gain)
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)
