"""The interface between modules, which learn, and datamodules, which collect experience.

What they exchange:

- A datamodule of environments calls the module's `act` on the module's `device` (`Policy`).
- A datamodule that gives each rollout in minibatches calls `prepare` once for each rollout
  (`PreparesRollouts`).
- A datamodule of board games evaluates the module's networks `policy` and `value`
  (`PlaysBoardGames`), and copies `policy` with its `state_dict()` for opponents.
- A datamodule of images and one of recorded games use nothing of the module.
- A module receives typed batches, and reads the datamodule's `seed` (`ExperienceSource`).
- A module is made from the datamodule's `environment`, or its `image_shape` and `num_classes`.

Both sides declare the type of their batches, and a datamodule declares by `needs_of_module` what it
uses of the module. Callbacks declare their needs of both in the same way. `compatibility.check`
compares all of this once in a run.

The protocols here are for callers that may not import the class that they call.

Shapes are time-major: T environment steps, N environment copies, B sampled transitions.
"""

from collections.abc import Callable, Mapping, Sequence
from inspect import getmembers, isfunction, isroutine
from types import UnionType
from typing import (
    TYPE_CHECKING,
    Any,
    NamedTuple,
    Protocol,
    TypedDict,
    get_args,
    get_origin,
    get_type_hints,
    runtime_checkable,
)

import torch
from torch import Tensor, nn
from torchmetrics import Metric

from rl_lightning.runtime.lazy import on_first_use

if TYPE_CHECKING:
    from rl_lightning.experience.games import CheckedMoves as CheckedMoves
    from rl_lightning.experience.games import LabelledPositions as LabelledPositions
    from rl_lightning.experience.games import MatchResults as MatchResults
    from rl_lightning.experience.games import PlaysBoardGames as PlaysBoardGames
    from rl_lightning.experience.games import RecordedGame as RecordedGame
    from rl_lightning.experience.games import RecordsGames as RecordsGames
    from rl_lightning.experience.games import ScoredPositions as ScoredPositions
    from rl_lightning.experience.games import SelfPlayGames as SelfPlayGames
    from rl_lightning.experience.games import ServesGtp as ServesGtp

# The types of board games are imported when they are first used.
__getattr__, _ = on_first_use(__name__, __file__)


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

    def each(self, change: Callable[[Tensor], Tensor]) -> "Rollout":
        """Apply a function to every tensor, such as one that selects environment copies."""
        extras = {name: change(values) for name, values in self.extras.items()}
        return Rollout._make([*map(change, self[:6]), extras])


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
        ]
    )


class Minibatch(NamedTuple):
    """B steps of a rollout, drawn at random from its environment steps."""

    observations: Tensor  # [B, *observation_shape], as `prepare` returned them
    actions: Tensor  # [B, *action_shape]
    extras: Mapping[str, Tensor]  # by name, [B, ...]: what `prepare` computed, such as targets


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


class Episodes(NamedTuple):
    """Whole episodes, one from each environment copy."""

    returns: Tensor  # [N] float64: undiscounted, unclipped sum of rewards
    lengths: Tensor  # [N] int64: environment steps


class RecordedEpisode(NamedTuple):
    """One whole episode of one environment copy, with its rendered frames."""

    rollout: Rollout  # N = 1
    frames: Tensor  # [T + 1, H, W, 3] uint8, RGB
    frames_per_second: int


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


@runtime_checkable
class HasStatistics(Protocol):
    """A datamodule that counts its environment steps and episodes."""

    def statistics(self) -> dict[str, float]:
        """Metrics over all ranks by name, including "env_steps". Every rank must call it."""


@runtime_checkable
class RecordsEpisodes(Protocol):
    """A datamodule that can record an episode."""

    def record_episode(self) -> RecordedEpisode:
        """Record one greedy episode."""


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


@runtime_checkable
class HasConfusion(Protocol):
    """A classifier that has a confusion matrix of its test."""

    protocols: tuple[str, ...]  # names of the error rates that a test reports; the first is main

    def confusion(self, protocol: str) -> Metric:
        """The torchmetrics MulticlassConfusionMatrix for one of `protocols`."""
