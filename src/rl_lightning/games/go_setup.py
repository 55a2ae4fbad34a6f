"""Positions of Go that are set up from stones. OpenSpiel itself makes states from moves only."""

import numpy as np
import numpy.typing as npt

from rl_lightning.games.board_game import BoardGame, State


def set_up(game: BoardGame, stones: npt.NDArray[np.int8], player: int) -> State:
    """A position with these stones and this player to move, in which the game goes on.

    The stones are played in turn. None is captured, because an incomplete group has a liberty where
    its next stone will stand. A side without a stone to play passes, and two passes never follow
    each other. The last move is a stone of the other player if there is one, so that a pass
    of `player` does not end the game. No point is forbidden by ko, and the ages of the stones are
    those of the order in which they are played.

    Args:
        game: Go.
        stones: [P]: 1 for Black, -1 for White, 0 for none. Every group has a liberty.
        player: 0 for Black, 1 for White.
    """
    state = game.start()
    waiting = tuple(np.flatnonzero(stones == colour).tolist() for colour in (1, -1))
    while any(waiting):
        side = state.current_player()
        is_kept = side != player and len(waiting[side]) == 1 and waiting[player]
        game.play(state, waiting[side].pop(0) if waiting[side] and not is_kept else game.num_points)
    if state.current_player() != player:
        game.play(state, game.num_points)
    return state
