"""The lecture's grid world as a Gymnasium environment."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import numpy.typing as npt

from rl_lightning.runtime.errors import ConfigurationError

Cell = Sequence[int]
Array = npt.NDArray[Any]

MOVES = ((-1, 0), (0, 1), (1, 0), (0, -1))  # up, right, down, left, as (row, column)
_WHITE, _GREY, _BLACK, _BLUE = (255, 255, 255), (160, 160, 160), (40, 40, 40), (31, 119, 180)


class Outcomes(NamedTuple):
    """All M outcomes of a finite Markov decision process, sorted by state and then by action."""

    states: Array  # [M] int32
    actions: Array  # [M] int32
    probabilities: Array  # [M] float64: P(outcome | state, action)
    next_states: Array  # [M] int32
    rewards: Array  # [M] float64
    terminated: Array  # [M] bool


class GridWorld(gym.Env[np.int64, np.int64]):
    """A grid of cells with walls, and with terminal cells that end the episode.

    State and observation are row · columns + column. Actions are 0 up, 1 right, 2 down and
    3 left. A move off the grid or into a wall leaves the state unchanged. With probability `slip`
    the move goes in one of the two perpendicular directions instead, with equal probability.

    `P` holds the dynamics in the convention of Gymnasium's toy-text environments.
    `transitions()` returns the same as arrays, without a Python loop over states.

    Source: the lecture's grid world; Sutton and Barto 2018, example 4.1.

    Args:
        size: Rows and columns, or one number for both.
        terminals: Terminal cells [row, column]. Negative numbers count from the end. The default
            is the top left and the bottom right corner.
        walls: Cells that cannot be entered.
        step_reward: Reward of every move.
        slip: Probability of a move in a perpendicular direction.
        start: Cell in which episodes start; None draws one of the free cells.
        render_mode: "rgb_array" or "ansi".

    Raises:
        ConfigurationError: If a cell is off the grid, is both terminal and wall, or no cell is
            free.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array", "ansi"], "render_fps": 4}  # noqa: RUF012

    def __init__(
        self,
        size: int | Sequence[int] = 4,
        terminals: Sequence[Cell] = ((0, 0), (-1, -1)),
        walls: Sequence[Cell] = (),
        step_reward: float = -1.0,
        slip: float = 0.0,
        start: Cell | None = None,
        render_mode: str | None = None,
    ) -> None:
        rows, columns = (size, size) if isinstance(size, int) else size
        if rows < 1 or columns < 1:
            raise ConfigurationError(f"size is {rows} by {columns} cells: make both at least 1")
        if not 0.0 <= slip <= 1.0:
            raise ConfigurationError(f"slip is {slip}: choose a probability from 0 to 1")
        self.shape = (int(rows), int(columns))
        self.step_reward = float(step_reward)
        self.slip = float(slip)
        self.render_mode = render_mode
        self.terminals = self._mark("terminals", terminals)
        self.walls = self._mark("walls", walls)
        self._starts = self._free_cells(start)
        self._successors = self._move_everywhere()
        self.observation_space = gym.spaces.Discrete(rows * columns)
        self.action_space = gym.spaces.Discrete(len(MOVES))
        self._state = np.int64(self._starts[0])

    def _index(self, what: str, cell: Cell) -> int:
        try:
            row, column = cell
            row, column = range(self.shape[0])[row], range(self.shape[1])[column]
        except (IndexError, TypeError, ValueError):
            raise ConfigurationError(
                f"{what} has {cell}, which is not a cell of the grid: give [row, column] inside "
                f"{self.shape[0]} by {self.shape[1]} cells"
            ) from None
        return row * self.shape[1] + column

    def _mark(self, what: str, cells: Sequence[Cell]) -> Array:
        marked = np.zeros(self.shape[0] * self.shape[1], np.bool_)
        marked[[self._index(what, cell) for cell in cells]] = True
        return marked

    def _free_cells(self, start: Cell | None) -> Array:
        if (self.terminals & self.walls).any():
            raise ConfigurationError(
                "a cell is both in terminals and in walls: remove it from one of them"
            )
        free = np.flatnonzero(~(self.terminals | self.walls))
        if start is not None:
            free = np.intersect1d(free, [self._index("start", start)])
        if not free.size:
            raise ConfigurationError(
                "no episode can start: make start a free cell of the grid, or leave one cell free"
            )
        return free

    def _move_everywhere(self) -> Array:
        """The next state [S, 4] of each move in each state."""
        states = np.arange(self.walls.size)[:, np.newaxis]
        rows, columns = np.unravel_index(states, self.shape)
        down, right = np.transpose(MOVES)
        # A move off the grid is clipped to its border.
        moved = np.ravel_multi_index((rows + down, columns + right), self.shape, mode="clip")
        stays = self.walls[moved] | self.terminals[states] | self.walls[states]
        return np.where(stays, states, moved).astype(np.int32)

    @property
    def initial_state_distrib(self) -> Array:
        """The distribution of initial states [S]."""
        distribution = np.zeros(self.walls.size)
        distribution[self._starts] = 1 / self._starts.size
        return distribution

    def transitions(self) -> Outcomes:
        """All outcomes as arrays. In terminal cells and walls every move stays, with reward 0."""
        states, actions = self._successors.shape
        turns, probabilities = [0], [1.0]
        if self.slip:
            turns, probabilities = [-1, 0, 1], [self.slip / 2, 1 - self.slip, self.slip / 2]
        directions = (np.arange(actions)[:, np.newaxis] + turns) % actions  # [A, K]
        next_states = self._successors[:, directions].reshape(-1)
        each = actions * len(turns)
        ended = self.terminals | self.walls
        return Outcomes(
            states=np.repeat(np.arange(states, dtype=np.int32), each),
            actions=np.tile(np.repeat(np.arange(actions, dtype=np.int32), len(turns)), states),
            probabilities=np.tile(np.array(probabilities), states * actions),
            next_states=next_states,
            rewards=np.repeat(np.where(ended, 0.0, self.step_reward), each),
            terminated=ended[next_states],
        )

    @cached_property
    def P(self) -> dict[int, dict[int, list[tuple[float, int, float, bool]]]]:  # noqa: N802
        """`P[state][action]` is a list of (probability, next state, reward, terminated)."""
        table: dict[int, dict[int, list[tuple[float, int, float, bool]]]] = {}
        columns = (column.tolist() for column in self.transitions())
        for state, action, *outcome in zip(*columns, strict=True):
            table.setdefault(state, {}).setdefault(action, []).append(tuple(outcome))
        return table

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.int64, dict[str, Any]]:
        """Start an episode."""
        super().reset(seed=seed)
        self._state = np.int64(self.np_random.choice(self._starts))
        return self._state, {}

    def step(self, action: np.int64) -> tuple[np.int64, float, bool, bool, dict[str, Any]]:
        """Move in the action's direction, or slip in a perpendicular one."""
        direction = int(action)
        if self.slip and self.np_random.random() < self.slip:
            direction = (direction + (1 if self.np_random.random() < 0.5 else -1)) % len(MOVES)
        self._state = np.int64(self._successors[self._state, direction])
        return self._state, self.step_reward, bool(self.terminals[self._state]), False, {}

    def state_dict(self) -> dict[str, Any]:
        """The state that changes between steps, for a checkpoint."""
        return {"state": int(self._state), "np_random": self.np_random.bit_generator.state}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state from `state_dict`."""
        self._state = np.int64(state["state"])
        self.np_random.bit_generator.state = state["np_random"]

    def render(self) -> Any:
        """The grid as an RGB array [H, W, 3], or as text with A agent, T terminal and # wall."""
        if self.render_mode == "ansi":
            letters = np.where(self.terminals, "T", np.where(self.walls, "#", "."))
            letters[self._state] = "A"
            return "\n".join("".join(row) for row in letters.reshape(self.shape)) + "\n"
        if self.render_mode == "rgb_array":
            return self._draw()
        return None

    def _draw(self) -> Array:
        picture = np.full((self.walls.size, 3), _WHITE, np.uint8)
        picture[self.terminals] = _GREY
        picture[self.walls] = _BLACK
        picture[self._state] = _BLUE
        cell = max(1, 256 // max(self.shape))
        picture = picture.reshape(*self.shape, 3).repeat(cell, axis=0).repeat(cell, axis=1)
        if cell >= 8:  # lines between the cells
            picture[::cell] = _GREY
            picture[:, ::cell] = _GREY
        return picture
