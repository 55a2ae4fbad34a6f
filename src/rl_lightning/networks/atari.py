"""Convolutional network bodies for images, as DQN's papers use them for Atari games."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from rl_lightning.networks.bodies import Body, Cast
from rl_lightning.runtime.errors import ConfigurationError

SMALLEST_IMAGE = 36  # pixels per side that the three convolutions of the Nature network need

# Filters, kernel size and stride of each convolution, and the units of the layer after them.
LAYERS = {
    "atari_2013": (((16, 8, 4), (32, 4, 2)), 256),
    "nature": (((32, 8, 4), (64, 4, 2), (64, 3, 1)), 512),
}


class AtariNetwork(Body):
    """Convolutions and one fully connected layer, with ReLU after each: images → [B, features].

    Source: "atari_2013": Mnih et al. 2013; "nature": Mnih et al. 2015.

    Args:
        name: One of `LAYERS`.
        observation_shape: Of one image; see `Images`.

    Raises:
        ConfigurationError: If the observations are not images of at least 36 × 36 pixels.
    """

    def __init__(self, name: str, observation_shape: Sequence[int]) -> None:
        images = Images(name, observation_shape)
        convolutions, features = LAYERS[name]
        layers: list[nn.Module] = [images]
        channels, *size = images.shape
        for filters, kernel_size, stride in convolutions:
            layers += [nn.Conv2d(channels, filters, kernel_size, stride), nn.ReLU()]
            channels = filters
            size = [(length - kernel_size) // stride + 1 for length in size]
        layers += [nn.Flatten(), nn.Linear(channels * math.prod(size), features), nn.ReLU()]
        super().__init__(*layers)
        self.features = features


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
