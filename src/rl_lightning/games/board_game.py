"""Two-player board games of OpenSpiel whose actions are points of the board.

Source: Lanctot et al. 2019, "OpenSpiel: A Framework for Reinforcement Learning in Games".
"""

import difflib
import math
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from rl_lightning.experience import EnvironmentSpec
from rl_lightning.games.go import encode, owners_of
from rl_lightning.games.go_planes import NUM_PLANES, GoPositions
from rl_lightning.runtime.errors import ConfigurationError, import_extra, one_line

Array = npt.NDArray[Any]
State = Any  # pyspiel.State; the package has no types

# How a game ended. Go has two endings of OpenSpiel's own: a repeated position is a draw, and
# after `max_game_length` moves (2 N² by default) the position on the board is scored.
Ending = Literal["rules", "superko", "cut_off"]


class BoardGame:
    """The rules of one game, and the encoding of its positions for networks.

    An action is a point of the board, counted row by row; in games with a pass, the pass is the
    action after the last point. In connect four the point is the one on which the stone comes to
    rest. So the legal actions are a plane of the observation, and a fully convolutional network
    has one output for each point.

    The last plane of an observation marks the legal points. In games with a pass, the plane before
    it is 1 everywhere where the pass is legal. In Go this is the paper's plane of ones.

    Args:
        name: OpenSpiel's name, with parameters: "go(board_size=9,komi=7.5)", "tic_tac_toe".

    Raises:
        ConfigurationError: If OpenSpiel is missing, has no such game, or if actions of the game
            are not points of a board.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.rules = _load(name)
        self.is_go = self.rules.get_type().short_name == "go"
        self._has_columns = self.rules.get_type().short_name == "connect_four"
        self._shape = tuple(self.rules.observation_tensor_shape())
        self.board_shape = (self._shape[1], self._shape[2])
        self.num_points = math.prod(self.board_shape)
        self.has_pass = self.rules.num_distinct_actions() == self.num_points + 1
        self.num_actions = self.num_points + self.has_pass

    def __reduce__(self) -> tuple[type["BoardGame"], tuple[str]]:
        """Make copies in other processes from the name, because OpenSpiel's objects need it."""
        return BoardGame, (self.name,)

    @property
    def spec(self) -> EnvironmentSpec:
        """What a module needs to know. The observations are planes [C, H, W] bool."""
        planes = NUM_PLANES if self.is_go else self._shape[0] + 1 + 1 + self.has_pass
        return EnvironmentSpec(
            env_id=self.name,
            observation_shape=(planes, *self.board_shape),
            observation_dtype="bool",
            num_observations=None,
            action_shape=(),
            num_actions=self.num_actions,
            action_low=None,
            action_high=None,
        )

    def start(self) -> State:
        """The first position of a game."""
        return self.rules.new_initial_state()

    def legal_actions(self, state: State) -> list[int]:
        """The legal actions in increasing order; none at the end of the game."""
        actions: list[int] = state.legal_actions()
        if self._has_columns and actions:
            heights = self._heights(state)
            return sorted(int(heights[each]) * self.board_shape[1] + each for each in actions)
        return actions

    def action_of(self, state: State, move: int) -> int:
        """The action for a legal move of OpenSpiel, such as one of `state.history()`."""
        if self._has_columns:
            return int(self._heights(state)[move]) * self.board_shape[1] + move
        return move

    def play(self, state: State, action: int) -> None:
        """Play a legal action, which changes the state."""
        state.apply_action(action % self.board_shape[1] if self._has_columns else action)

    def outcome(self, state: State, player: int) -> float:
        """The result of a finished game for a player: +1 for a win, -1 for a loss, 0 for a draw."""
        return float(np.sign(state.player_return(player)))

    def wins_by_pass(self, state: State) -> bool:
        """Whether the game is Go, the opponent has passed, and a pass ends the game with a win."""
        if not self.is_go or state.is_terminal() or state.history()[-1:] != [self.num_points]:
            return False
        after = state.clone()
        after.apply_action(self.num_points)
        return after.is_terminal() and self.outcome(after, state.current_player()) > 0

    def ending(self, state: State) -> Ending:
        """How a finished game ended."""
        if not self.is_go:
            return "rules"
        moves = state.history()
        if moves[-2:] == [self.num_points] * 2:
            return "rules"
        return "cut_off" if len(moves) >= self.rules.max_game_length() else "superko"

    def owners(self, state: State) -> Array:
        """Whom each point [H, W] int8 belongs to by area in Go: 1 the first player, -1, 0 nobody.

        All stones count as alive. In other games no point has an owner.
        """
        if not self.is_go:
            return np.zeros(self.board_shape, np.int8)
        owners = owners_of(self.stones(state), self.board_shape[0])
        return owners.reshape(self.board_shape)

    def stones(self, state: State) -> Array:
        """The stones [P] int8 of Go: 1 for Black, -1 for White, 0 for none. It may be the end."""
        black, white = np.asarray(state.observation_tensor(0)).reshape(-1, self.num_points)[:2]
        stones: Array = (black - white).astype(np.int8)
        return stones

    def observe(self, states: Sequence[State]) -> Array:
        """Encode positions of games that are not finished, from the view of the player to move.

        Returns:
            Planes [N, C, H, W] bool.
        """
        if self.is_go:
            return encode(self.pack(states), self.board_shape[0])
        planes = np.zeros((len(states), *self.spec["observation_shape"]), np.bool_)
        flat = planes.reshape(len(states), planes.shape[1], self.num_points)
        for row, state in enumerate(states):
            player, legal = state.current_player(), self.legal_actions(state)
            given = np.asarray(state.observation_tensor(player), np.bool_)
            planes[row, : self._shape[0]] = given.reshape(self._shape)
            flat[row, self._shape[0]] = player == 0
            if self.has_pass and legal[-1] == self.num_points:
                flat[row, -2] = True
                legal = legal[:-1]
            flat[row, -1, legal] = True
        return planes

    def pack(self, states: Sequence[State]) -> GoPositions:
        """What the planes of Go are computed from, for positions of Go."""
        size, points = len(states), self.num_points
        positions = GoPositions(
            stones=np.zeros((size, points), np.int8),
            ages=np.full((size, points), 8, np.uint8),
            legal=np.zeros((size, points), np.bool_),
            black=np.zeros(size, np.bool_),
        )
        for row, state in enumerate(states):
            black, white = np.asarray(state.observation_tensor()[: 2 * points]).reshape(2, -1)
            positions.black[row] = state.current_player() == 0
            positions.stones[row] = black - white if positions.black[row] else white - black
            positions.legal[row, state.legal_actions()[:-1]] = True  # the last is the pass
            recent = state.history()[-7:]
            for age, move in zip(range(len(recent), 0, -1), recent, strict=True):
                if move < points:
                    positions.ages[row, move] = age
        return positions

    def _heights(self, state: State) -> Array:
        """Number of stones in each column of connect four."""
        cells = np.asarray(state.observation_tensor()).reshape(self._shape)
        heights: Array = cells[:2].sum((0, 1)).astype(np.int64)
        return heights


def _load(name: str) -> Any:
    pyspiel = import_extra("pyspiel", f"game {name} needs OpenSpiel", "go")
    short = re.split(r"\(", name.strip())[0]
    names = pyspiel.registered_names()
    if short not in names:
        near = difflib.get_close_matches(short, names, n=3)
        advice = f"did you mean {' or '.join(near)}?" if near else "tic_tac_toe is one"
        raise ConfigurationError(f"OpenSpiel has no game {short!r}: {advice}")
    try:
        with _without_messages():
            rules = pyspiel.load_game(name)
    except pyspiel.SpielError as error:
        raise ConfigurationError(
            f"OpenSpiel cannot make the game {name}: {one_line(str(error))}"
        ) from error
    kind = rules.get_type()
    suits = (
        rules.num_players() == 2
        and kind.dynamics == pyspiel.GameType.Dynamics.SEQUENTIAL
        and kind.information == pyspiel.GameType.Information.PERFECT_INFORMATION
        and kind.chance_mode == pyspiel.GameType.ChanceMode.DETERMINISTIC
        and kind.utility == pyspiel.GameType.Utility.ZERO_SUM
        and kind.provides_observation_tensor
        and len(rules.observation_tensor_shape()) == 3
    )
    if suits and short != "connect_four":
        points = math.prod(rules.observation_tensor_shape()[1:])
        suits = rules.num_distinct_actions() in (points, points + 1)
    if suits and rules.get_parameters().get("handicap"):
        raise ConfigurationError(
            f"{name} has handicap stones, which games here do not have: leave handicap out; the "
            "engine of `gtp` places them by fixed_handicap"
        )
    if not suits:
        raise ConfigurationError(
            f"{name} is not a board game for two in which each action is a point of the board: "
            "choose one such as go, tic_tac_toe, connect_four, hex or othello"
        )
    return rules


@contextmanager
def _without_messages() -> Iterator[None]:
    """Discard what OpenSpiel prints to the standard error before it raises the same message."""
    kept = os.dup(2)
    try:
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
