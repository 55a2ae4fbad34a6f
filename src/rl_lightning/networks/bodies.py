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


SMALLEST_IMAGE = 36  # pixels per side that the three convolutions of the Nature network need

# Filters, kernel size and stride of each convolution, and the units of the layer after them.
LAYERS = {
    "atari_2013": (((16, 8, 4), (32, 4, 2)), 256),
    "nature": (((32, 8, 4), (64, 4, 2), (64, 3, 1)), 512),
}


class Body(nn.Sequential):
    """Computes features [B, features] from observations."""

    features: int


class MLP(Body):
    """Fully connected layers with an activation after each: [B, *shape] → [B, features].

    Args:
        observation_shape: Shape of one observation, with any number of dimensions.
        hidden_sizes: Units of each layer.
        activation: Activation after each layer.
        num_observations: Size of a Discrete observation space, whose observations are encoded
            one-hot; else None.
        layer_norm: Whether each layer has layer normalisation before its activation.
    """

    def __init__(
        self,
        observation_shape: Sequence[int],
        hidden_sizes: Sequence[int],
        activation: Activation = "relu",
        num_observations: int | None = None,
        layer_norm: bool = False,
    ) -> None:
        if min(hidden_sizes, default=1) < 1:
            raise ConfigurationError(f"hidden_sizes are {[*hidden_sizes]}: make each at least 1")
        sizes = [num_observations or math.prod(observation_shape), *hidden_sizes]
        layers: list[nn.Module] = [
            Flatten() if num_observations is None else OneHot(num_observations)
        ]
        for fan_in, fan_out in itertools.pairwise(sizes):
            layers += [
                nn.Linear(fan_in, fan_out),
                *([nn.LayerNorm(fan_out)] if layer_norm else []),
                nn.Tanh() if activation == "tanh" else nn.ReLU(),
            ]
        super().__init__(*layers)
        self.features = sizes[-1]

    def forward(self, observations: Tensor) -> Tensor:
        """Compute the features.

        Each layer's `forward` is called directly, because small layers take less time than the
        search for hooks in the call of a module. So hooks of single layers are not called.
        """
        features = observations
        for layer in self:
            features = layer.forward(features)
        return features


class AtariNetwork(Body):
    """Convolutions and one fully connected layer, with ReLU after each: images → [B, features].

    Source: "atari_2013": Mnih et al. 2013; "nature": Mnih et al. 2015.

    Args:
        name: One of `LAYERS`.
        observation_shape: Shape of one image; see `Images`.
        layer_norm: Whether each layer has layer normalisation before its activation.

    Raises:
        ConfigurationError: If the observations are not images of at least 36 × 36 pixels.
    """

    def __init__(
        self, name: str, observation_shape: Sequence[int], layer_norm: bool = False
    ) -> None:
        images = Images(name, observation_shape)
        convolutions, features = LAYERS[name]
        layers: list[nn.Module] = [images]
        channels, *size = images.shape
        for filters, kernel_size, stride in convolutions:
            # Layer normalisation over channels and pixels is group normalisation with one group.
            norm = [nn.GroupNorm(1, filters)] if layer_norm else []
            layers += [nn.Conv2d(channels, filters, kernel_size, stride), *norm, nn.ReLU()]
            channels = filters
            size = [(length - kernel_size) // stride + 1 for length in size]
        layers += [
            nn.Flatten(),
            nn.Linear(channels * math.prod(size), features),
            *([nn.LayerNorm(features)] if layer_norm else []),
            nn.ReLU(),
        ]
        super().__init__(*layers)
        self.features = features


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


class Images(Cast):
    """Images [B, C, H, W] or [B, H, W, C] of any dtype → [B, C, H, W] float.

    The result has the memory format `channels_last`, with which convolutions on the CPU take two
    thirds of the time.

    Attributes:
        shape: (C, H, W) of one image of the result.

    Args:
        network: Name of the network, for error messages.
        observation_shape: (C, H, W), (H, W, C), or (H, W) for images with one channel.

    Raises:
        ConfigurationError: If the observations are not images of at least 36 × 36 pixels.
    """

    def __init__(self, network: str, observation_shape: Sequence[int]) -> None:
        super().__init__()
        shape = tuple(observation_shape)
        self.one_channel = len(shape) == 2
        # Gymnasium's images have their channels last, and stacks of frames have them first.
        self.channels_last = len(shape) == 3 and shape[2] == min(shape) < shape[0]
        if self.one_channel:
            shape = (1, *shape)
        if self.channels_last:
            shape = (shape[2], *shape[:2])
        if len(shape) != 3 or min(shape[1:]) < SMALLEST_IMAGE:
            raise ConfigurationError(
                f"network {network} needs images of at least {SMALLEST_IMAGE} x {SMALLEST_IMAGE} "
                f"pixels, and the observations have shape {tuple(observation_shape)}: use network "
                "mlp"
            )
        self.shape = shape

    def forward(self, images: Tensor) -> Tensor:
        """Move the channels to dimension 1, convert and scale."""
        if self.one_channel:
            images = images.unsqueeze(1)
        if self.channels_last:
            images = images.movedim(-1, 1)
        return super().forward(images).contiguous(memory_format=torch.channels_last)


class FullPrecisionLinear(nn.Linear):
    """A linear layer without autocast.

    In mixed precision the bodies compute in 16 bits. The last layers compute in the dtype of the
    weights, because losses use differences of their outputs, which are too inexact in 16 bits.
    """

    def forward(self, features: Tensor) -> Tensor:
        """Map [B, in_features] → [B, out_features]."""
        if not torch.is_autocast_enabled(features.device.type):
            return functional.linear(features, self.weight, self.bias)
        with torch.autocast(features.device.type, enabled=False):
            return functional.linear(features.to(self.weight.dtype), self.weight, self.bias)


def make_body(
    environment: EnvironmentSpec,
    network: NetworkName,
    hidden_sizes: Sequence[int],
    activation: Activation = "relu",
    layer_norm: bool = False,
) -> Body:
    """Make the network body for an environment's observations.

    Raises:
        ConfigurationError: If the network does not fit the observations.
    """
    shape = environment["observation_shape"]
    if network == "mlp":
        return MLP(shape, hidden_sizes, activation, environment["num_observations"], layer_norm)
    return AtariNetwork(network, shape, layer_norm)


def initialise_orthogonally(module: nn.Module, gain: float = math.sqrt(2)) -> None:
    """Set the weights of every layer orthogonal times `gain`, and the biases 0 (Saxe 2014)."""
    for layer in module.modules():
        if isinstance(layer, (nn.Linear, nn.Conv2d)):
            nn.init.orthogonal_(layer.weight, gain)
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)
