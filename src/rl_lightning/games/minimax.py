"""Exact play of small games by OpenSpiel's minimax."""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from rl_lightning.games.board_game import BoardGame, State
from rl_lightning.games.matches import Player


def perfect_player(game: BoardGame, generator: np.random.Generator) -> Player:
    """A player that draws one of the best actions by OpenSpiel's exact minimax.

    The values of positions are kept, so a small game such as tic-tac-toe is searched once.
    """
    value_of = minimax_values(game)

    def choose(states: Sequence[State]) -> list[int]:
        return [int(generator.choice(best_actions(game, state, value_of))) for state in states]

    return choose


def minimax_values(game: BoardGame) -> Callable[[State], float]:
    """A function that gives the exact value of a position for its first player.

    Positions are told apart by their text, so this suits small games without repetition.
    """
    from open_spiel.python.algorithms import minimax

    values: dict[str, float] = {}

    def value_of(state: State) -> float:
        key = str(state)
        if key not in values:
            values[key] = minimax.alpha_beta_search(
                game.rules, state=state.clone(), maximizing_player_id=0
            )[0]
        return values[key]

    return value_of


def best_actions(game: BoardGame, state: State, value_of: Callable[[State], float]) -> list[int]:
    """The actions whose value by minimax is the best for the player to move."""
    sign = 1 if state.current_player() == 0 else -1
    actions, values = game.legal_actions(state), []
    for action in actions:
        after = state.clone()
        game.play(after, action)
        values.append(sign * value_of(after))
    return [each for each, value in zip(actions, values, strict=True) if value == max(values)]


def mistakes(game: BoardGame, player: Player) -> npt.NDArray[np.bool_]:
    """Compare the moves of a player with minimax, in every position of a small game.

    Returns:
        [N] bool for the N positions that are not final: whether the action is worse than the best.
    """
    value_of, states = minimax_values(game), all_positions(game)
    return np.array(
        [
            action not in best_actions(game, state, value_of)
            for state, action in zip(states, player(states), strict=True)
        ]
    )


def all_positions(game: BoardGame) -> list[State]:
    """All positions of a small game that are not final, told apart by their text."""
    found: dict[str, State] = {}
    waiting = [game.start()]
    while waiting:
        state = waiting.pop()
        if state.is_terminal() or str(state) in found:
            continue
        found[str(state)] = state
        for action in game.legal_actions(state):
            after = state.clone()
            game.play(after, action)
            waiting.append(after)
    return [*found.values()]
