"""Positions of Go that are set up from stones. OpenSpiel itself makes states from moves only."""

import numpy as np
import numpy.typing as npt

from rl_lightning.games.board_game import BoardGame, State
from rl_lightning.games.go_planes import neighbours_of

Stones = npt.NDArray[np.int8]


def stones_of(game: BoardGame, state: State) -> Stones:
    """The stones [P] of a position, which may be final: 1 for Black, -1 for White, 0 for none."""
    planes = np.asarray(state.observation_tensor(0)).reshape(-1, game.num_points)
    stones: Stones = (planes[0] - planes[1]).astype(np.int8)
    return stones


def set_up(game: BoardGame, stones: Stones, player: int) -> State:
    """A position with these stones and this player to move, in which the game goes on.

    The stones are played in turn. A side that has no stone to play passes, and two passes never
    follow each other. The last move is a stone of the other player if there is one, so that a pass
    of `player` does not end the game. No point is forbidden by ko, and the ages of the stones are
    those of the order in which they are played.

    Args:
        game: Go.
        stones: [P]: 1 for Black, -1 for White, 0 for none. Every group has a liberty.
        player: 0 for Black, 1 for White.
    """
    state, order = game.start(), _playing_order(game, stones)
    waiting = tuple([p for p in order if stones[p] == colour] for colour in (1, -1))
    while any(waiting):
        side = state.current_player()
        is_kept = side != player and len(waiting[side]) == 1 and waiting[player]
        game.play(state, waiting[side].pop(0) if waiting[side] and not is_kept else game.num_points)
    if state.current_player() != player:
        game.play(state, game.num_points)
    return state


def _playing_order(game: BoardGame, stones: Stones) -> list[int]:
    """All stones, each after a neighbour that is an empty point or a stone of its group.

    In this order every stone has a liberty when it is played, and no stone loses its last one.
    """
    neighbours = neighbours_of(game.board_shape[0])
    order = [*np.flatnonzero(stones == 0).tolist()]
    empty, seen = len(order), set(order)
    for point in order:
        for near in neighbours[point]:
            is_reached = stones[point] in (0, stones[near])
            if near >= 0 and near not in seen and is_reached:
                seen.add(int(near))
                order.append(int(near))
    return order[empty:]
