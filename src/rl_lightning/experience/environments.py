"""What a module knows of its environment, and how it acts in it."""

from collections.abc import Mapping
from typing import NamedTuple, Protocol, TypedDict

import torch
from torch import Tensor


class EnvironmentSpec(TypedDict):
    """Properties of the environment that a module needs, as primitives for the checkpoint.

    Each component of a Box action has a lower and an upper bound, which are ±inf where it is
    unbounded; the lists of bounds are flattened. Discrete observations and actions are counted
    from 0 here, even where the environment's space starts at another number.
    """

    env_id: str
    observation_shape: tuple[int, ...]
    observation_dtype: str  # of the observations that the module receives: "float32", "uint8", …
    num_observations: int | None  # of a Discrete observation space, else None
    action_shape: tuple[int, ...]
    num_actions: int | None  # of a Discrete action space, else None
    action_low: list[float] | None  # of a Box action space, else None
    action_high: list[float] | None  # of a Box action space, else None


def example_observations(environment: EnvironmentSpec) -> Tensor:
    """Two observations [2, *observation_shape] of zeros, in the dtype that a module receives.

    They are two, because `torch.export` makes a constant of a dimension of size 1.
    """
    dtype: torch.dtype = getattr(torch, environment["observation_dtype"])
    return torch.zeros((2, *environment["observation_shape"]), dtype=dtype)


class Exploration(NamedTuple):
    """The inputs of exploration."""

    env_steps: int  # so far, over all environment copies and ranks; schedules count these
    generator: torch.Generator  # the exploration stream, on the policy's device


class Decision(NamedTuple):
    """Actions, with further tensors that the batch stores with them."""

    actions: Tensor  # [N, *action_shape]
    extras: Mapping[str, Tensor] = {}  # by name, [N, ...], such as log-probabilities or values


class Policy(Protocol):
    """The part of an agent that a collector uses."""

    @property
    def device(self) -> torch.device:
        """The device on which `act` expects observations."""
        ...

    def act(
        self, observations: Tensor, exploration: Exploration | None = None
    ) -> Tensor | Decision:
        """Choose one action for each environment copy.

        Args:
            observations: [N, *observation_shape].
            exploration: The inputs of exploration; with None the actions are greedy.

        Returns:
            Actions [N, *action_shape], or a `Decision`, whose extras become part of the batch.
        """
        ...
