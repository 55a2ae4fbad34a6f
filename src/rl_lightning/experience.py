"""The seam between what learns and where experience comes from.

A policy's `act` goes one way, typed batches go the other, and nothing else crosses. Both
sides declare what they give and need, callbacks too, and `check_pair` compares them.
Time-major shapes: T environment steps, N environment copies, B sampled transitions.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypedDict, runtime_checkable

import torch
from lightning import LightningDataModule
from torch import Tensor, nn
from torchmetrics import Metric

from rl_lightning.runtime.errors import ConfigurationError


class EnvironmentSpec(TypedDict):
    """What a module must know of its environment, in primitives that a checkpoint can hold.

    Actions of a Box space have bounds, one for each number of an action, flattened; an
    unbounded one is ±inf. Discrete observations and actions are counted from 0 here,
    whatever the environment counts from.
    """

    env_id: str
    observation_shape: tuple[int, ...]
    observation_dtype: str  # as observations reach the module: "float32", "uint8", …
    num_observations: int | None  # of a Discrete observation space, else None
    action_shape: tuple[int, ...]
    num_actions: int | None  # of a Discrete action space, else None
    action_low: list[float] | None  # of a Box action space, else None
    action_high: list[float] | None  # of a Box action space, else None


class Exploration(NamedTuple):
    """What a policy needs to explore."""

    env_steps: int  # environment steps so far, all copies and ranks: schedules count these
    generator: torch.Generator  # the exploration stream, on the policy's device


class Decision(NamedTuple):
    """Actions, and what is remembered with them."""

    actions: Tensor  # [N, *action_shape]
    extras: Mapping[str, Tensor] = {}  # by name, [N, ...]: a log-probability, a value


class Policy(Protocol):
    """The part of an agent that a collector sees."""

    @property
    def device(self) -> torch.device:
        """Where observations must be put."""
        ...

    def act(
        self, observations: Tensor, exploration: Exploration | None = None
    ) -> Tensor | Decision:
        """Choose one action for each environment copy.

        Args:
            observations: [N, *observation_shape].
            exploration: Explore with this; None acts greedily.

        Returns:
            Actions [N, *action_shape], or a `Decision`, whose extras stand in the batch.
        """
        ...


class Rollout(NamedTuple):
    """T steps of N environment copies under one policy version.

    `observations[t + 1]` is always what followed `actions[t]`: vector environments
    reset on the step after an episode's end, so the true final observation stands
    in the row of the reset, whose own action did nothing and whose `mask` is False.
    """

    observations: Tensor  # [T + 1, N, *observation_shape]
    actions: Tensor  # [T, N, *action_shape]
    rewards: Tensor  # [T, N] float32, raw or clipped to ±1
    discounts: Tensor  # [T, N] float32: γ, or 0 where the value of what follows is 0
    ends: Tensor  # [T, N] bool: the episode ended here, by termination or truncation
    mask: Tensor  # [T, N] bool: False in rows that are no environment step of an episode
    extras: Mapping[str, Tensor] = {}  # by name, [T, N, ...]: what `act` gave beside actions


def join_rollouts(rollouts: Sequence[Rollout]) -> Rollout:
    """Join rollouts, each of which goes on where the one before stopped."""
    observations = [rollout.observations[:-1] for rollout in rollouts]
    columns = zip(*(rollout[1:6] for rollout in rollouts), strict=True)
    extras = {
        name: torch.cat([rollout.extras[name] for rollout in rollouts])
        for name in rollouts[0].extras
    }
    return Rollout._make(
        [
            torch.cat([*observations, rollouts[-1].observations[-1:]]),
            *(torch.cat(column) for column in columns),
            extras,
        ]
    )


class Transitions(NamedTuple):
    """Sampled n-step transitions: bootstrapped targets are rewards + discounts · V(next)."""

    observations: Tensor  # [B, *observation_shape]
    actions: Tensor  # [B, *action_shape]
    rewards: Tensor  # [B] float32: Σ_{k<n} γ^k r_{t+k}
    discounts: Tensor  # [B] float32: γⁿ, or 0 at a true terminal
    next_observations: Tensor  # [B, *observation_shape]
    importance_weights: Tensor | None = None  # [B] float32, where the draw was not uniform
    extras: Mapping[str, Tensor] = {}  # by name, [B, ...]: what `act` gave beside actions


class Dynamics(NamedTuple):
    """A finite Markov decision process (S, A, R, P, γ) as tensors.

    γ and the terminal flag are folded into the transition matrix, as they are into a
    transition's discount: what follows a true terminal has the value 0.
    """

    rewards: Tensor  # [S, A] float64: E[r | s, a]
    transitions: Tensor  # [S·A, S] float64 sparse CSR: row s·A + a holds γ P(s', not ended | s, a)
    initial: Tensor  # [S] float64: probability that an episode starts in each state


class LabelledImages(NamedTuple):
    """A batch of images to classify."""

    images: Tensor  # [B, C, H, W] float32 in [0, 1]
    labels: Tensor  # [B] int64


class Episodes(NamedTuple):
    """Whole episodes, one of each environment copy."""

    returns: Tensor  # [N] float64: undiscounted, unclipped sum of rewards
    lengths: Tensor  # [N] int64: environment steps


class RecordedEpisode(NamedTuple):
    """One whole episode of one environment copy, with its pictures."""

    rollout: Rollout  # N = 1
    frames: Tensor  # [T + 1, H, W, 3] uint8, RGB
    frames_per_second: int


@runtime_checkable
class Learner(Protocol):
    """What a module declares."""

    batch_type: type  # what `training_step` takes
    needs_whole_episodes: bool  # whether a rollout must hold no part of an episode


@runtime_checkable
class ExperienceSource(Protocol):
    """What a datamodule declares."""

    batch_type: type  # what it gives to `training_step`
    gives_whole_episodes: bool  # whether a rollout holds whole episodes only
    seed: int  # of every random stream of the run, with rank, update and name


@runtime_checkable
class HasTargetNetworks(Protocol):
    """A module whose target networks follow its online networks."""

    def target_networks(self) -> Sequence[tuple[nn.Module, nn.Module]]:
        """Pairs of an online network and its target network, of equal parameters."""
        ...


@runtime_checkable
class GivesTDErrors(Protocol):
    """A module whose `training_step` returns {"loss": …, "td_error": [B]}."""

    gives_td_errors: bool


@runtime_checkable
class HasPriorities(Protocol):
    """A datamodule with prioritised replay."""

    def renew_priorities(self, td_errors: Tensor) -> None:
        """Set the priorities of the last minibatch by its TD errors [B]."""
        ...


@runtime_checkable
class HasStatistics(Protocol):
    """A datamodule that counts its environment steps and episodes."""

    def statistics(self) -> dict[str, float]:
        """Metrics of all ranks by name, "env_steps" among them; every rank must call it."""
        ...


@runtime_checkable
class RecordsEpisodes(Protocol):
    """A datamodule that can record an episode."""

    def record_episode(self) -> RecordedEpisode:
        """Record one greedy episode."""
        ...


@runtime_checkable
class HasDynamics(Protocol):
    """A datamodule that knows the dynamics of its environment."""

    dynamics: Dynamics
    grid_shape: tuple[int, int] | None  # rows and columns, where the environment is a grid


@runtime_checkable
class HasActionValues(Protocol):
    """A module whose action values stand in a table."""

    action_values: Tensor  # [S, A]


@runtime_checkable
class HasConfusion(Protocol):
    """A classifier that counts its answers while it is tested."""

    protocols: tuple[str, ...]  # names of the errors that a test reports, the main one first

    def confusion(self, protocol: str) -> Metric:
        """The torchmetrics MulticlassConfusionMatrix of one of `protocols`."""
        ...


def check_pair(module: Any, data: Any) -> None:
    """Compare what a module needs with what a datamodule gives.

    A module or datamodule that declares nothing is not checked.

    Raises:
        ConfigurationError: If the pair does not fit, saying what would.
    """
    check_batch_types(type(module), type(data))
    if not isinstance(module, Learner) or not isinstance(data, ExperienceSource):
        return
    here, there = type(module).__name__, type(data).__name__
    if module.needs_whole_episodes and not data.gives_whole_episodes:
        raise ConfigurationError(
            f"{here} learns from whole episodes, and {there} has rollout_length, which cuts them: "
            "set episodes_per_update in place of rollout_length"
        )
    ours, theirs = getattr(module, "environment", None), getattr(data, "environment", None)
    if ours is None or theirs is None:
        return
    for key, value in theirs.items():
        if not _equal(ours.get(key), value):
            raise ConfigurationError(
                f"{here} was made for {key} {ours.get(key)} and {there} plays {key} {value}: make "
                "it with the environment of the datamodule (environment=data.environment)"
            )


def check_batch_types(module: type, data: type) -> None:
    """Compare the declared batch types of two classes, before either is instantiated.

    Raises:
        ConfigurationError: If they differ, naming classes that fit.
    """
    needed, given = getattr(module, "batch_type", None), getattr(data, "batch_type", None)
    if needed is None or given is None or needed is given:
        return
    fitting = sorted(
        each.__name__
        for each in _subclasses(LightningDataModule)
        if getattr(each, "batch_type", None) is needed and not each.__name__.startswith("_")
    )
    advice = f"use {' or '.join(fitting)} as data" if fitting else "no datamodule here gives that"
    raise ConfigurationError(
        f"{module.__name__} learns from {needed.__name__}, and {data.__name__} gives "
        f"{given.__name__}: {advice}"
    )


def _subclasses(base: type) -> set[type]:
    direct: set[type] = set(base.__subclasses__())
    return direct.union(*(_subclasses(each) for each in direct))


def _equal(one: Any, other: Any) -> bool:
    # A checkpoint or a YAML file makes lists of tuples.
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return [*one] == [*other]
    return bool(one == other)
