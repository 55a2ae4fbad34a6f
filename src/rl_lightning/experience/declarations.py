"""What modules and datamodules declare of themselves, for each other and for callbacks."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol, runtime_checkable

from torch import Tensor, nn
from torchmetrics import Metric

from rl_lightning.experience.batches import Dynamics, RecordedEpisode


@runtime_checkable
class Learner(Protocol):
    """The declarations of a module."""

    batch_type: type  # of the batches that `training_step` takes
    needs_whole_episodes: bool  # whether every episode in a rollout must be complete


@runtime_checkable
class ExperienceSource(Protocol):
    """The declarations of a datamodule."""

    batch_type: type  # of the batches that it provides to `training_step`
    gives_whole_episodes: bool  # whether every episode in a rollout is complete
    seed: int  # every random stream is a function of this, the rank, the update and a name


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
class ReusesRollouts(Protocol):
    """A module that may learn from rollouts of an earlier version of its policy."""

    reuses_rollouts: bool


@runtime_checkable
class RepeatsRollouts(Protocol):
    """A datamodule that may give a rollout in several batches."""

    updates_per_rollout: int


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


@runtime_checkable
class HasConfusion(Protocol):
    """A classifier that has a confusion matrix of its test."""

    protocols: tuple[str, ...]  # names of the error rates that a test reports; the first is main

    def confusion(self, protocol: str) -> Metric:
        """The torchmetrics MulticlassConfusionMatrix for one of `protocols`."""
        ...
