"""What modules and datamodules declare of themselves, for each other and for callbacks.

A module declares by class attributes which batches it learns from: see
`rl_lightning.modules.learner.Learner`. The protocols here are for callers that may not import the
class that they call.
"""

from collections.abc import Sequence
from inspect import getmembers, isfunction, isroutine
from types import UnionType
from typing import (
    Any,
    NamedTuple,
    Protocol,
    get_args,
    get_origin,
    get_type_hints,
    runtime_checkable,
)

from torch import Tensor, nn
from torchmetrics import Metric

from rl_lightning.experience.batches import Dynamics, RecordedEpisode, Rollout


def unmet(given: object, protocol: type) -> list[str]:
    """Names of a protocol's members that an object does not have as they are declared.

    `isinstance` only compares names. Here a method must be a method, a value must have its declared
    type, and a declared bool must be True.
    """
    values = get_type_hints(protocol)
    methods = [name for name, _ in getmembers(protocol, isfunction) if not name.startswith("_")]
    return [
        *(name for name, kind in values.items() if not _is(getattr(given, name, _MISSING), kind)),
        *(name for name in methods if not isroutine(getattr(given, name, None))),
    ]


_MISSING = object()


def _is(value: object, kind: Any) -> bool:
    if isinstance(kind, UnionType):
        return any(_is(value, each) for each in get_args(kind))
    if kind is bool:
        return value is True
    return isinstance(value, get_origin(kind) or kind)


@runtime_checkable
class ExperienceSource(Protocol):
    """The declarations of a datamodule."""

    batch_type: type  # of the batches that it provides to `training_step`
    gives_whole_episodes: bool  # whether every episode in a rollout is complete
    seed: int  # every random stream is a function of this, the rank, the update and a name


@runtime_checkable
class PreparesRollouts(Protocol):
    """A module that learns from each rollout in several minibatches."""

    def prepare(self, rollout: Rollout) -> Rollout:
        """Compute what all updates with a rollout have in common, such as targets.

        It is called once for each rollout, just after it was collected and before the first update
        with it.

        Args:
            rollout: On the module's device, with the extras of `act`.

        Returns:
            The rollout with the observations and extras that the minibatches are to have.
        """
        ...


class TargetNetworks(NamedTuple):
    """The target networks of a module, and how they follow where the user sets nothing else."""

    pairs: Sequence[tuple[nn.Module, nn.Module]]  # online and target network, of equal structure
    every_n_updates: int
    tau: float


@runtime_checkable
class HasTargetNetworks(Protocol):
    """A module whose target networks follow its online networks."""

    def target_networks(self) -> TargetNetworks:
        """The networks that the callback `TargetNetwork` updates."""
        ...


@runtime_checkable
class GivesTDErrors(Protocol):
    """A module whose `training_step` returns {"loss": …, "td_error": [B]}."""

    gives_td_errors: bool


@runtime_checkable
class HasPriorities(Protocol):
    """A datamodule with prioritised replay."""

    is_prioritised: bool  # whether minibatches are drawn by priority

    def renew_priorities(self, td_errors: Tensor) -> None:
        """Set the priorities of the last sampled minibatch from its TD errors [B]."""
        ...


@runtime_checkable
class HasStatistics(Protocol):
    """A datamodule that counts its environment steps and episodes."""

    def statistics(self) -> dict[str, float]:
        """Metrics over all ranks by name, including "env_steps". Every rank must call it."""
        ...


@runtime_checkable
class RecordsEpisodes(Protocol):
    """A datamodule that can record an episode."""

    def record_episode(self) -> RecordedEpisode:
        """Record one greedy episode."""
        ...


@runtime_checkable
class HasDynamics(Protocol):
    """A datamodule with the dynamics of its environment."""

    dynamics: Dynamics
    grid_shape: tuple[int, int] | None  # rows and columns, where the environment is a grid


@runtime_checkable
class HasActionValues(Protocol):
    """A module with a table of action values."""

    action_values: Tensor  # [S, A]

    def evaluated_policy(self, dynamics: Dynamics) -> Tensor | None:
        """The fixed policy π(a | s) [S, A] of the action values; None if max_a Q is learned."""
        ...


@runtime_checkable
class HasConfusion(Protocol):
    """A classifier that has a confusion matrix of its test."""

    protocols: tuple[str, ...]  # names of the error rates that a test reports; the first is main

    def confusion(self, protocol: str) -> Metric:
        """The torchmetrics MulticlassConfusionMatrix for one of `protocols`."""
        ...
