"""Networks: bodies that turn observations into features, and the Q-network's heads."""

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

SMALLEST_IMAGE = 36  # what the three convolutions of the Nature network need


class MLP(nn.Sequential):
    """Fully connected layers, an activation after each: [B, *shape] → [B, features].

    Args:
        observation_shape: Of one observation, of any number of dimensions.
        hidden_sizes: Units of each layer.
        activation: After each layer.
        num_observations: Of a Discrete observation space, which enters one-hot; else None.
    """

    def __init__(
        self,
        observation_shape: Sequence[int],
        hidden_sizes: Sequence[int],
        activation: Activation = "relu",
        num_observations: int | None = None,
    ) -> None:
        if min(hidden_sizes, default=1) < 1:
            raise ConfigurationError(f"hidden_sizes are {[*hidden_sizes]}: each is at least 1")
        sizes = [num_observations or math.prod(observation_shape), *hidden_sizes]
        layers: list[nn.Module] = [
            Flatten() if num_observations is None else OneHot(num_observations)
        ]
        for fan_in, fan_out in itertools.pairwise(sizes):
            layers += [nn.Linear(fan_in, fan_out), nn.Tanh() if activation == "tanh" else nn.ReLU()]
        super().__init__(*layers)
        self.features = sizes[-1]


class AtariNetwork2013(nn.Sequential):
    """The convolutional body of Mnih et al. 2013: images → [B, 256]."""

    def __init__(self, observation_shape: Sequence[int]) -> None:
        images = Images("atari_2013", observation_shape)
        super().__init__(
            images,
            nn.Conv2d(images.channels, 16, kernel_size=8, stride=4),
            nn.ReLU(),
            nn.Conv2d(16, 32, kernel_size=4, stride=2),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(32 * images.pixels_after((8, 4), (4, 2)), 256),
            nn.ReLU(),
        )
        self.features = 256


class NatureNetwork(nn.Sequential):
    """The convolutional body of Mnih et al. 2015: images → [B, 512]."""

    def __init__(self, observation_shape: Sequence[int]) -> None:
        images = Images("nature", observation_shape)
        super().__init__(
            images,
            nn.Conv2d(images.channels, 32, kernel_size=8, stride=4),
            nn.ReLU(),
            nn.Conv2d(32, 64, kernel_size=4, stride=2),
            nn.ReLU(),
            nn.Conv2d(64, 64, kernel_size=3, stride=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(64 * images.pixels_after((8, 4), (4, 2), (3, 1)), 512),
            nn.ReLU(),
        )
        self.features = 512


Body = MLP | AtariNetwork2013 | NatureNetwork


class Cast(nn.Module):
    """Observations of any dtype to the floats that the network's weights are.

    Bytes are scaled from [0, 255] to [0, 1], as late as this, so that they are moved and kept
    as bytes. Floats, which a normaliser may have made, keep their scale.
    """

    like: Tensor

    def __init__(self) -> None:
        super().__init__()
        # Has the dtype of the weights under every precision of the Trainer.
        self.register_buffer("like", torch.empty(0), persistent=False)

    def forward(self, observations: Tensor) -> Tensor:
        """Cast and scale."""
        floats = observations.to(self.like.dtype)
        return floats / 255.0 if observations.dtype == torch.uint8 else floats


class Flatten(Cast):
    """Observations [B, *shape] → [B, features]; a shape of () becomes one feature."""

    def forward(self, observations: Tensor) -> Tensor:
        """Cast, scale and flatten all but the batch."""
        if observations.ndim == 2 and observations.dtype == self.like.dtype:
            return observations  # the usual case, spared three calls at every forward pass
        return super().forward(observations).reshape(len(observations), -1)


class OneHot(Cast):
    """Discrete observations [B] → [B, number], 1 at each observation and 0 elsewhere."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number

    def forward(self, observations: Tensor) -> Tensor:
        """Encode."""
        return super().forward(functional.one_hot(observations.long(), self.number))


class Images(Cast):
    """Images [B, C, H, W] or [B, H, W, C] of any dtype → [B, C, H, W] float.

    Channels come to stand innermost in memory, which convolutions on the CPU learn from in
    two thirds of the time.

    Args:
        network: Name of the network, for errors.
        observation_shape: (C, H, W), (H, W, C) or, of one channel, (H, W).

    Raises:
        ConfigurationError: If they are no images of at least 36 × 36 pixels.
    """

    def __init__(self, network: str, observation_shape: Sequence[int]) -> None:
        super().__init__()
        shape = tuple(observation_shape)
        if len(shape) not in (2, 3) or sorted(shape)[-2] < SMALLEST_IMAGE:
            raise ConfigurationError(_no_images(network, shape))
        self.one_channel = len(shape) == 2
        # Gymnasium's images have their channels last, stacks of frames have them first.
        self.channels_last = len(shape) == 3 and shape[2] == min(shape) and shape[0] != min(shape)
        if self.one_channel:
            shape = (1, *shape)
        self.channels, self.height, self.width = (
            (shape[2], shape[0], shape[1]) if self.channels_last else shape
        )
        if min(self.height, self.width) < SMALLEST_IMAGE:
            raise ConfigurationError(_no_images(network, tuple(observation_shape)))

    def pixels_after(self, *layers: tuple[int, int]) -> int:
        """Pixels that convolutions of (kernel_size, stride) leave of an image."""
        height, width = self.height, self.width
        for kernel_size, stride in layers:
            height = (height - kernel_size) // stride + 1
            width = (width - kernel_size) // stride + 1
        return height * width

    def forward(self, images: Tensor) -> Tensor:
        """Bring channels to the front, cast and scale."""
        if self.one_channel:
            images = images.unsqueeze(1)
        if self.channels_last:
            images = images.movedim(-1, 1)
        return super().forward(images).contiguous(memory_format=torch.channels_last)


class FullPrecisionLinear(nn.Linear):
    """A linear layer outside of autocast.

    In mixed precision bodies compute in 16 bits; values, targets and log-probabilities are
    differences of near numbers and stay in the dtype of the weights.
    """

    def forward(self, features: Tensor) -> Tensor:
        """[B, in_features] → [B, out_features]."""
        if not torch.is_autocast_enabled(features.device.type):
            return super().forward(features)
        with torch.autocast(features.device.type, enabled=False):
            return super().forward(features.to(self.weight.dtype))


def _no_images(network: str, shape: tuple[int, ...]) -> str:
    return (
        f"network {network} takes images of at least {SMALLEST_IMAGE} x {SMALLEST_IMAGE} pixels, "
        f"and the observations have shape {shape}: use network mlp"
    )


def make_body(
    environment: EnvironmentSpec,
    network: NetworkName,
    hidden_sizes: Sequence[int],
    activation: Activation = "relu",
) -> Body:
    """The network that turns this environment's observations into `features` features.

    Raises:
        ConfigurationError: If there is no such network for its observations.
    """
    shape = environment["observation_shape"]
    if network == "atari_2013":
        return AtariNetwork2013(shape)
    if network == "nature":
        return NatureNetwork(shape)
    return MLP(shape, hidden_sizes, activation, environment["num_observations"])


def initialise_orthogonally(module: nn.Module, gain: float = math.sqrt(2)) -> None:
    """Orthogonal weights times `gain` and zero biases in every layer (Saxe et al. 2014)."""
    for layer in module.modules():
        if isinstance(layer, (nn.Linear, nn.Conv2d)):
            nn.init.orthogonal_(layer.weight, gain)
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)
