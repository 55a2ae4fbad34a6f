"""The interface between modules, which learn, and datamodules, which collect experience.

A datamodule calls the policy's `act`; the module receives typed batches. They exchange nothing
else. Modules declare the batch type that they need, datamodules the one that they provide, and
`check_pair` compares the two declarations. Callbacks declare their needs in the same way.

Shapes are time-major: T environment steps, N environment copies, B sampled transitions.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TextIO, TypedDict, runtime_checkable

import torch
from lightning import LightningDataModule
from torch import Tensor, nn
from torchmetrics import Metric

from rl_lightning.runtime.errors import ConfigurationError


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
    """Actions, with further tensors that the batch stores beside them."""

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


class Rollout(NamedTuple):
    """T steps of N environment copies under one policy version.

    `observations[t + 1]` is always the observation that followed `actions[t]`. Vector
    environments reset on the step after the end of an episode. So the row of the reset holds
    the true final observation, its action had no effect, and its `mask` is False.
    """

    observations: Tensor  # [T + 1, N, *observation_shape]
    actions: Tensor  # [T, N, *action_shape]
    rewards: Tensor  # [T, N] float32, raw or clipped to ±1
    discounts: Tensor  # [T, N] float32: γ, or 0 where the next observation has the value 0
    ends: Tensor  # [T, N] bool: the episode ended here, by termination or truncation
    mask: Tensor  # [T, N] bool: False in rows that are not an environment step of an episode
    extras: Mapping[str, Tensor] = {}  # by name, [T, N, ...]: the extras that `act` returned
    is_last_use: bool = True  # no later batch holds these steps


def join_rollouts(rollouts: Sequence[Rollout]) -> Rollout:
    """Join rollouts of which each continues the one before."""
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
            rollouts[-1].is_last_use,
        ]
    )


class Transitions(NamedTuple):
    """Sampled n-step transitions. A bootstrapped target is rewards + discounts · V(next)."""

    observations: Tensor  # [B, *observation_shape]
    actions: Tensor  # [B, *action_shape]
    rewards: Tensor  # [B] float32: Σ_{k<n} γ^k r_{t+k}
    discounts: Tensor  # [B] float32: γⁿ, or 0 at a true terminal
    next_observations: Tensor  # [B, *observation_shape]
    importance_weights: Tensor | None = None  # [B] float32, where sampling was not uniform
    extras: Mapping[str, Tensor] = {}  # by name, [B, ...]: the extras that `act` returned


class Dynamics(NamedTuple):
    """A finite Markov decision process (S, A, R, P, γ) as tensors.

    The transition matrix includes γ and the terminal flag, as a transition's discount does: an
    entry is 0 where the episode terminates, because the value after a true terminal is 0.
    """

    rewards: Tensor  # [S, A] float64: E[r | s, a]
    transitions: Tensor  # [S·A, S] float64 CSR; row s·A + a is γ P(s', not terminated | s, a)
    initial: Tensor  # [S] float64: probability that an episode starts in each state


class LabelledImages(NamedTuple):
    """A batch of images to classify."""

    images: Tensor  # [B, C, H, W] float32 in [0, 1]
    labels: Tensor  # [B] int64


class LabelledPositions(NamedTuple):
    """Positions of finished games, each with the move that was played and the game's result."""

    observations: Tensor  # [B, C, H, W] bool: planes, from the view of the player to move
    actions: Tensor  # [B] int64
    outcomes: Tensor  # [B] float32, for the player to move: 1 for a win, -1 a loss, 0 a draw


class SelfPlayGames(NamedTuple):
    """The moves of the policy in whole games against opponents, game after game."""

    observations: Tensor  # [B, C, H, W] bool: planes, from the view of the policy
    playable: Tensor  # [B, A] bool: the actions among which the policy chose
    actions: Tensor  # [B] int64
    lengths: Tensor  # [N] int64: moves of the policy in each game; their sum is B
    outcomes: Tensor  # [N] float32, for the policy: 1 for a win, -1 a loss, 0 a draw


class ScoredPositions(NamedTuple):
    """Positions, no two of one game, with the result of their games."""

    observations: Tensor  # [B, C, H, W] bool: planes, from the view of the player to move
    outcomes: Tensor  # [B] float32, for the player to move: 1 for a win, -1 a loss, 0 a draw


class MatchResults(NamedTuple):
    """Results of this rank's games of a match. Every rank has the same matches."""

    opponent: str  # name of the opponent in the names of metrics
    outcomes: Tensor  # [N] float64: 1 where the player won, -1 where it lost, 0 for a draw


class CheckedMoves(NamedTuple):
    """The moves of the most probable actions, compared with exact ones; rank 0 has all of them."""

    mistakes: Tensor  # [N] bool: the action is worse than the best one by minimax


class RecordedGame(NamedTuple):
    """One whole board game. Moves without an evaluation have zeros, and the value NaN."""

    game: str  # OpenSpiel's name
    players: tuple[str, str]  # names, the first to move first
    actions: Tensor  # [T] int64
    priors: Tensor  # [T, A] float32: probabilities of the policy before each move
    visits: Tensor  # [T, A] int64: simulations through each action; zeros without a search
    values: Tensor  # [T] float64, for the first player: of the search, else of the value network
    outcome: float  # for the first player


class Episodes(NamedTuple):
    """Whole episodes, one from each environment copy."""

    returns: Tensor  # [N] float64: undiscounted, unclipped sum of rewards
    lengths: Tensor  # [N] int64: environment steps


class RecordedEpisode(NamedTuple):
    """One whole episode of one environment copy, with its rendered frames."""

    rollout: Rollout  # N = 1
    frames: Tensor  # [T + 1, H, W, 3] uint8, RGB
    frames_per_second: int


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


@runtime_checkable
class HasTargetNetworks(Protocol):
    """A module whose target networks follow its online networks."""

    def target_networks(self) -> Sequence[tuple[nn.Module, nn.Module]]:
        """Pairs of an online network and its target network, which have the same structure."""
        ...


@runtime_checkable
class PlaysBoardGames(Protocol):
    """A module with networks for board games."""

    policy: nn.Module  # planes [N, C, H, W] to logits [N, A]
    value: nn.Module  # planes to expected results [N] for the player to move


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
class RecordsGames(Protocol):
    """A datamodule that can record board games."""

    def record_game(self, number: int) -> RecordedGame:
        """Record the game with this number."""
        ...


@runtime_checkable
class ServesGtp(Protocol):
    """A datamodule with which `predict` can serve the Go Text Protocol."""

    def serve_gtp(self, commands: TextIO, answers: TextIO) -> None:
        """Let `predict` answer these commands."""
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


def check_pair(module: Any, data: Any) -> None:
    """Check that a datamodule provides what a module needs.

    A module or datamodule without declarations is not checked.

    Raises:
        ConfigurationError: If the pair does not fit. The message names a pair that does.
    """
    check_batch_types(type(module), type(data))
    if not isinstance(module, Learner) or not isinstance(data, ExperienceSource):
        return
    here, there = type(module).__name__, type(data).__name__
    prioritised = isinstance(data, HasPriorities) and data.is_prioritised
    if prioritised and not isinstance(module, GivesTDErrors):
        raise ConfigurationError(
            f"{there} has priority_exponent, and {here} gives no TD errors to renew the priorities "
            "with: leave priority_exponent out"
        )
    updates = data.updates_per_rollout if isinstance(data, RepeatsRollouts) else 1
    if updates > 1 and not (isinstance(module, ReusesRollouts) and module.reuses_rollouts):
        raise ConfigurationError(
            f"{here} learns from a rollout once, with the policy that collected it, and {there} "
            f"gives each rollout in {updates} batches: leave out passes and minibatches"
        )
    if module.needs_whole_episodes and not data.gives_whole_episodes:
        raise ConfigurationError(
            f"{here} learns from whole episodes, and rollout_length of {there} cuts episodes: "
            "set episodes_per_update in place of rollout_length"
        )
    ours, theirs = getattr(module, "environment", None), getattr(data, "environment", None)
    if ours is None or theirs is None:
        return
    for key, value in theirs.items():
        if not _equal(ours.get(key), value):
            raise ConfigurationError(
                f"{here} was made for {key} {ours.get(key)}, and {there} has {key} {value}: make "
                f"{here} with the environment of the datamodule (environment=data.environment)"
            )


def check_batch_types(module: type, data: type) -> None:
    """Compare the declared batch types of two classes, before either is instantiated.

    Raises:
        ConfigurationError: If they differ. The message names datamodules that fit.
    """
    needed, given = getattr(module, "batch_type", None), getattr(data, "batch_type", None)
    if needed is None or given is None or needed is given:
        return
    fitting = sorted(
        each.__name__
        for each in _subclasses(LightningDataModule)
        if getattr(each, "batch_type", None) is needed and not each.__name__.startswith("_")
    )
    advice = f"use {' or '.join(fitting)} as data" if fitting else "no datamodule provides these"
    raise ConfigurationError(
        f"{module.__name__} learns from {needed.__name__}, and {data.__name__} provides "
        f"{given.__name__}: {advice}"
    )


def _subclasses(base: type) -> set[type]:
    direct: set[type] = set(base.__subclasses__())
    return direct.union(*(_subclasses(each) for each in direct))


def _equal(one: Any, other: Any) -> bool:
    # Tuples become lists in YAML files and in checkpoints, so compare both as lists.
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return [*one] == [*other]
    return bool(one == other)
