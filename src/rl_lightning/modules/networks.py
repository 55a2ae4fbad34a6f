"""Networks: bodies that turn observations into features, and the Q-network's heads."""

import itertools
import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from rl_lightning.errors import ConfigurationError
from rl_lightning.experience import EnvironmentSpec

NetworkName = Literal["mlp", "atari_2013", "nature"]
Activation = Literal["relu", "tanh"]


class MLP(nn.Sequential):
    """Fully connected layers, an activation after each: [B, *shape] → [B, features]."""

    def __init__(
        self,
        observation_shape: Sequence[int],
        hidden_sizes: Sequence[int],
        activation: Activation = "relu",
    ) -> None:
        if min(hidden_sizes, default=1) < 1:
            raise ConfigurationError(f"hidden_sizes are {[*hidden_sizes]}: each is at least 1")
        sizes = [math.prod(observation_shape), *hidden_sizes]
        layers: list[nn.Module] = [nn.Flatten()] if len(observation_shape) > 1 else []
        for fan_in, fan_out in itertools.pairwise(sizes):
            layers += [nn.Linear(fan_in, fan_out), nn.Tanh() if activation == "tanh" else nn.ReLU()]
        super().__init__(*layers)
        self.features = sizes[-1]


class AtariNetwork2013(nn.Sequential):
    """The convolutional body of Mnih et al. 2013: uint8 [B, C, 84, 84] → [B, 256]."""

    def __init__(self, observation_shape: Sequence[int]) -> None:
        channels = _image_channels("atari_2013", observation_shape)
        super().__init__(
            Scale(),
            nn.Conv2d(channels, 16, kernel_size=8, stride=4),
            nn.ReLU(),
            nn.Conv2d(16, 32, kernel_size=4, stride=2),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(32 * 9 * 9, 256),
            nn.ReLU(),
        )
        self.features = 256


class NatureNetwork(nn.Sequential):
    """The convolutional body of Mnih et al. 2015: uint8 [B, C, 84, 84] → [B, 512]."""

    def __init__(self, observation_shape: Sequence[int]) -> None:
        channels = _image_channels("nature", observation_shape)
        super().__init__(
            Scale(),
            nn.Conv2d(channels, 32, kernel_size=8, stride=4),
            nn.ReLU(),
            nn.Conv2d(32, 64, kernel_size=4, stride=2),
            nn.ReLU(),
            nn.Conv2d(64, 64, kernel_size=3, stride=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(64 * 7 * 7, 512),
            nn.ReLU(),
        )
        self.features = 512


class Scale(nn.Module):
    """uint8 pixels to float in [0, 1], as late as this so that they travel and rest as bytes.

    Floats, which a normaliser has been at, keep their size.

    Channels come to lie innermost, which convolutions on the CPU learn from in two thirds
    of the time.
    """

    def forward(self, pixels: Tensor) -> Tensor:
        """[B, C, H, W] uint8 or float32 → the same, float32."""
        scale = 1.0 if pixels.is_floating_point() else 255.0
        return (pixels / scale).contiguous(memory_format=torch.channels_last)


def _image_channels(name: str, observation_shape: Sequence[int]) -> int:
    if len(observation_shape) != 3 or tuple(observation_shape[1:]) != (84, 84):
        raise ConfigurationError(
            f"network {name} takes images of shape (channels, 84, 84), and the observations have "
            f"shape {tuple(observation_shape)}: use network mlp"
        )
    return observation_shape[0]


def make_body(
    environment: EnvironmentSpec,
    network: NetworkName,
    hidden_sizes: Sequence[int],
    activation: Activation = "relu",
) -> MLP | AtariNetwork2013 | NatureNetwork:
    """The network that turns this environment's observations into `features` features.

    Raises:
        ConfigurationError: If there is no such network for its observations.
    """
    if environment["num_observations"] is not None:
        raise ConfigurationError(
            f"{environment['env_id']} has discrete observations, which no network here takes: "
            "use QLearning or ValueIteration, whose values stand in a table"
        )
    shape = environment["observation_shape"]
    if network == "atari_2013":
        return AtariNetwork2013(shape)
    if network == "nature":
        return NatureNetwork(shape)
    return MLP(shape, hidden_sizes, activation)


def initialise_orthogonally(module: nn.Module, gain: float = math.sqrt(2)) -> None:
    """Orthogonal weights times `gain` and zero biases in every layer (Saxe et al. 2014)."""
    for layer in module.modules():
        if isinstance(layer, (nn.Linear, nn.Conv2d)):
            nn.init.orthogonal_(layer.weight, gain)
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)


class QNetwork(nn.Module):
    """One output an action: [B, *observation_shape] → [B, A].

    With `dueling`, Q = V + A − mean A over actions (Wang et al. 2016, equation 9).
    """

    def __init__(
        self, body: MLP | AtariNetwork2013 | NatureNetwork, num_actions: int, dueling: bool
    ) -> None:
        super().__init__()
        self.body = body
        self.advantages = nn.Linear(body.features, num_actions)
        self.value = nn.Linear(body.features, 1) if dueling else None

    def forward(self, observations: Tensor) -> Tensor:
        """Q-values of every action."""
        features = self.body(observations)
        q_values: Tensor = self.advantages(features)
        if self.value is None:
            return q_values
        centred: Tensor = q_values - q_values.mean(dim=1, keepdim=True)
        return torch.add(self.value(features), centred)
