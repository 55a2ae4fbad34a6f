"""Matches between two players, with all games in lock-step."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from rl_lightning.games.board_game import BoardGame, State

# Chooses an action for each position, or `RESIGN`. No game of these positions is finished.
Player = Callable[[Sequence[State]], Sequence[int]]
RESIGN = -1


class Match(NamedTuple):
    """The games of a match. The first player moves first in the even games."""

    states: list[State]  # the games, each finished or given up
    outcomes: npt.NDArray[np.float64]  # [N]: +1 where the first player won, -1 lost, 0 a draw


def play_match(
    game: BoardGame,
    first: Player,
    second: Player,
    num_games: int,
    starts: Sequence[State] | None = None,
) -> Match:
    """Play games between two players, who take turns in moving first.

    Each player receives all positions in which it is to move in one call, so a network evaluates
    one batch for each move.

    Args:
        game: The game.
        first: Moves first in games 0, 2, 4, …
        second: Moves first in games 1, 3, 5, …
        num_games: Number of games.
        starts: Their first positions, which the games change; by default those of the rules.

    Returns:
        The games. A player that resigns loses.
    """
    states = [game.start() for _ in range(num_games)] if starts is None else [*starts]
    outcomes: dict[int, float] = {}
    while len(outcomes) < len(states):
        turns: tuple[list[int], list[int]] = ([], [])
        for index, state in enumerate(states):
            if index not in outcomes:
                turns[(state.current_player() + index) % 2].append(index)
        for player, mine, sign in zip((first, second), turns, (1.0, -1.0), strict=True):
            waiting = [states[index] for index in mine]
            chosen = player(waiting) if waiting else []
            for index, state, action in zip(mine, waiting, chosen, strict=True):
                if action == RESIGN:
                    outcomes[index] = -sign
                    continue
                game.play(state, action)
                if state.is_terminal():
                    outcomes[index] = game.outcome(state, index % 2)
    return Match(states, np.array([outcomes[index] for index in range(len(states))]))


def random_openings(
    game: BoardGame, num_games: int, longest: int, generator: np.random.Generator
) -> list[State]:
    """Positions after some random moves, which do not end the game.

    Args:
        game: The game.
        num_games: Number of positions.
        longest: The numbers of moves are drawn from 0 to this.
        generator: Draws numbers and moves.
    """
    states = []
    for length in generator.integers(longest + 1, size=num_games):
        state = game.start()
        for draw in generator.random(length):
            legal = game.legal_actions(state)
            after = state.clone()
            game.play(after, legal[int(draw * len(legal))])
            if after.is_terminal():
                break
            state = after
        states.append(state)
    return states


def drawn_openings(game: BoardGame, player: Player, num_games: int, num_moves: int) -> list[State]:
    """Positions after moves of a player against itself, which must not end the game.

    Two players that always answer a position by the same move play different games from them.

    Args:
        game: The game.
        player: Draws its moves, such as a policy.
        num_games: Number of positions.
        num_moves: Number of moves of each.
    """
    states = [game.start() for _ in range(num_games)]
    for _ in range(num_moves):
        for state, action in zip(states, player(states), strict=True):
            game.play(state, action)
    return states


def random_player(game: BoardGame, generator: np.random.Generator) -> Player:
    """A player that draws each legal action with equal probability."""

    def choose(states: Sequence[State]) -> list[int]:
        legal = [game.legal_actions(state) for state in states]
        draws = generator.random(len(states))
        return [each[int(u * len(each))] for each, u in zip(legal, draws, strict=True)]

    return choose
