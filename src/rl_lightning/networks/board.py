"""Fully convolutional networks for board games, of which the size of the board is no parameter.

Source: Silver et al. 2016, "Mastering the game of Go with deep neural networks and tree search",
methods. The paper's last layer of the policy has a bias for each point; here it has none, so that
weights fit every board.
"""

from pathlib import Path

import torch
from torch import Tensor, nn

from rl_lightning.experience import EnvironmentSpec
from rl_lightning.networks.bodies import Cast
from rl_lightning.runtime.checkpoints import load_with_weights
from rl_lightning.runtime.errors import ConfigurationError


class BoardBody(nn.Sequential):
    """Convolutions with ReLU, 5 × 5 and then 3 × 3: planes [B, C, H, W] → [B, filters, H, W].

    Args:
        num_planes: C.
        num_layers: Number of convolutions.
        num_filters: Filters of each.

    Raises:
        ConfigurationError: If there is no layer or no filter.
    """

    def __init__(self, num_planes: int, num_layers: int, num_filters: int) -> None:
        if num_layers < 1 or num_filters < 1:
            raise ConfigurationError(
                f"num_layers is {num_layers} and num_filters is {num_filters}: make each at least 1"
            )
        layers: list[nn.Module] = [
            Cast(),
            nn.Conv2d(num_planes, num_filters, 5, padding=2),
            nn.ReLU(),
        ]
        for _ in range(num_layers - 1):
            layers += [nn.Conv2d(num_filters, num_filters, 3, padding=1), nn.ReLU()]
        super().__init__(*layers)


class BoardPolicy(nn.Module):
    """Logits of all actions: one from each point, and one for the pass from the mean over points.

    Legality is read from the observation (see `BoardGame`). Illegal actions have the logit -inf.

    Args:
        environment: Spec of the game.
        num_layers: Number of convolutions.
        num_filters: Filters of each.

    Raises:
        ConfigurationError: If an action of the environment is not a point of a board.
    """

    def __init__(self, environment: EnvironmentSpec, num_layers: int, num_filters: int) -> None:
        super().__init__()
        planes, height, width = board_shape(environment)
        self.body = BoardBody(planes, num_layers, num_filters)
        self.points = nn.Conv2d(num_filters, 1, 1)
        has_pass = environment["num_actions"] == height * width + 1
        self.passing = nn.Linear(num_filters, 1) if has_pass else None

    def forward(self, observations: Tensor) -> Tensor:
        """Planes [B, C, H, W] to logits [B, A] float, -inf for illegal actions."""
        features = self.body(observations)
        logits = self.points(features).flatten(1)
        legal = observations[:, -1].flatten(1) != 0
        if self.passing is not None:
            logits = torch.cat([logits, self.passing(features.mean((2, 3)))], 1)
            legal = torch.cat([legal, observations[:, -2, :1, 0] != 0], 1)
        return logits.masked_fill(~legal, -torch.inf)


class BoardValue(nn.Module):
    """The expected result for the player to move, from the mean and the maximum over points.

    Args:
        environment: Spec of the game.
        num_layers: Number of convolutions.
        num_filters: Filters of each.
        hidden_size: Units of the layer after the convolutions.

    Raises:
        ConfigurationError: If an action of the environment is not a point of a board.
    """

    def __init__(
        self,
        environment: EnvironmentSpec,
        num_layers: int,
        num_filters: int,
        hidden_size: int = 64,
    ) -> None:
        super().__init__()
        self.body = BoardBody(board_shape(environment)[0], num_layers, num_filters)
        self.head = nn.Sequential(
            nn.Linear(2 * num_filters, hidden_size), nn.ReLU(), nn.Linear(hidden_size, 1), nn.Tanh()
        )

    def forward(self, observations: Tensor) -> Tensor:
        """Planes [B, C, H, W] to values [B] in [-1, 1]."""
        return self.features_and_values(observations)[1]

    def features_and_values(self, observations: Tensor) -> tuple[Tensor, Tensor]:
        """Planes to the features [B, filters, H, W] of the convolutions, and to values [B]."""
        features = self.body(observations)
        values: Tensor = self.head(torch.cat([features.mean((2, 3)), features.amax((2, 3))], 1))
        return features, values.squeeze(1)


def board_shape(environment: EnvironmentSpec) -> tuple[int, int, int]:
    """Planes, rows and columns of the observations of a board game.

    Raises:
        ConfigurationError: If an action of the environment is not a point of a board.
    """
    shape = tuple(environment["observation_shape"])
    points = shape[1] * shape[2] if len(shape) == 3 else 0
    if not points or environment["num_actions"] not in (points, points + 1):
        raise ConfigurationError(
            f"{environment['env_id']} is not a board game in which each action is a point of the "
            "board: use a datamodule of games, such as ExpertGamesDataModule"
        )
    planes, height, width = shape
    return planes, height, width


def read_policy(path: Path, environment: EnvironmentSpec) -> BoardPolicy:
    """The policy network of a checkpoint of any module that has one, whatever its size.

    Args:
        path: The checkpoint.
        environment: Spec of the game to be played, which may have another komi.

    Raises:
        ConfigurationError: If the file has no policy network, or one of another game.
    """
    saved = load_with_weights(path)
    settings = saved.get("hyper_parameters", {})
    prefix = "policy."
    weights = {
        name.removeprefix(prefix): value
        for name, value in saved["state_dict"].items()
        if name.startswith(prefix)
    }
    there, shape = settings.get("environment", {}), environment["observation_shape"]
    if not weights or tuple(there.get("observation_shape", ())) != tuple(shape):
        raise ConfigurationError(
            f"{path} has no policy network for {environment['env_id']}: give a checkpoint of a "
            "policy of this game"
        )
    network = BoardPolicy(environment, settings["num_layers"], settings["num_filters"])
    network.load_state_dict(weights)
    return network.requires_grad_(False)
