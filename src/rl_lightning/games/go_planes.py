"""The feature planes of Go, computed for whole batches by numba.

Source: Silver et al. 2016, "Mastering the game of Go with deep neural networks and tree search",
extended data table 2. The planes of ladders, of zeros, and of moves that fill own eyes are left
out. Ko, legality and the colour to move are planes here.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple, cast

import numpy as np
import numpy.typing as npt

from rl_lightning.runtime.errors import import_extra

Array = npt.NDArray[Any]

# First plane of each feature. A feature of eight planes is one-hot: 1, 2, …, 7, 8 or more.
# Captures are counted from 0: 0, 1, …, 6, 7 or more.
STONES = 0  # three planes: own stones, stones of the opponent, empty points
TURNS_SINCE = 3  # of each stone: moves since it was played, 1 for the last move
LIBERTIES = 11  # of the group of each stone
CAPTURES = 19  # stones that the opponent loses by a move here
SELF_ATARI = 27  # own stones that have one liberty after a move here
LIBERTIES_AFTER = 35  # of the own group after a move here
KO = 43  # points that only the rule of ko forbids
BLACK = 44  # ones if Black is to move
ONES = 45  # ones; a pass is legal always
LEGALITY = 46  # points on which a move is legal
NUM_PLANES = 47


class GoPositions(NamedTuple):
    """Positions of Go, from the view of the player to move. P points, row by row."""

    stones: Array  # [N, P] int8: 1 for own stones, -1 for the opponent's, 0 for empty points
    ages: Array  # [N, P] uint8: moves since a move at this point, at most 8; read under stones only
    legal: Array  # [N, P] bool
    black: Array  # [N] bool: whether Black is to move


def encode(positions: GoPositions, board_size: int) -> Array:
    """Compute the planes of positions.

    Args:
        positions: N positions.
        board_size: Rows and columns of the board.

    Returns:
        [N, NUM_PLANES, board_size, board_size] bool.
    """
    size = len(positions.stones)
    planes = np.zeros((size, NUM_PLANES, board_size**2), np.bool_)
    _kernel()(*positions, neighbours_of(board_size), planes)
    return planes.reshape(size, NUM_PLANES, board_size, board_size)


@lru_cache
def neighbours_of(board_size: int) -> Array:
    """The neighbours [P, 4] of each point; -1 beyond the edge."""
    rows, columns = np.divmod(np.arange(board_size**2), board_size)
    found = np.full((board_size**2, 4), -1, np.int64)
    for k, (down, right) in enumerate(((-1, 0), (1, 0), (0, -1), (0, 1))):
        row, column = rows + down, columns + right
        inside = (row >= 0) & (row < board_size) & (column >= 0) & (column < board_size)
        found[inside, k] = (row * board_size + column)[inside]
    return found


@lru_cache
def _kernel() -> Callable[..., None]:
    """Compile the functions below, at the first use because the import of numba is slow."""
    njit = import_extra("numba", "the planes of Go need numba", "go").njit
    find_groups, look_ahead = njit(cache=True)(_find_groups), njit(cache=True)(_look_ahead)

    def fill(
        stones: Array, ages: Array, legal: Array, black: Array, neighbours: Array, planes: Array
    ) -> None:
        num_points = stones.shape[1]
        group = np.empty(num_points, np.int64)
        members = np.empty(num_points, np.int64)
        starts = np.empty(num_points + 1, np.int64)
        liberties = np.empty(num_points, np.int64)
        seen = np.empty(num_points, np.int64)
        for n in range(len(stones)):
            board, out = stones[n], planes[n]
            find_groups(board, neighbours, group, members, starts, liberties, seen)
            seen[:] = -1
            for point in range(num_points):
                out[ONES, point] = True
                out[BLACK, point] = black[n]
                out[LEGALITY, point] = legal[n, point]
                if board[point] != 0:
                    out[STONES if board[point] == 1 else STONES + 1, point] = True
                    out[TURNS_SINCE + min(ages[n, point], 8) - 1, point] = True
                    out[LIBERTIES + min(liberties[group[point]], 8) - 1, point] = True
                    continue
                out[STONES + 2, point] = True
                captured, own, after = look_ahead(
                    point, board, neighbours, group, members, starts, liberties, seen
                )
                if legal[n, point]:
                    out[CAPTURES + min(captured, 7), point] = True
                    out[LIBERTIES_AFTER + min(after, 8) - 1, point] = True
                    if after == 1:
                        out[SELF_ATARI + min(own, 8) - 1, point] = True
                elif after > 0:
                    out[KO, point] = True

    return cast(Callable[..., None], njit(fill))


def _find_groups(
    board: Array,
    neighbours: Array,
    group: Array,
    members: Array,
    starts: Array,
    liberties: Array,
    seen: Array,
) -> None:
    """Find the groups of connected stones of one colour, by a search from each stone.

    Args:
        board: [P] int8.
        neighbours: [P, 4].
        group: [P]; receives the number of each stone's group, -1 at empty points.
        members: [P]; receives the stones, those of a group side by side.
        starts: [P + 1]; receives the index in `members` of each group's first stone.
        liberties: [P]; receives the number of liberties of each group.
        seen: [P]; scratch.
    """
    group[:] = -1
    seen[:] = -1
    count, end = 0, 0
    for first in range(len(board)):
        if board[first] == 0 or group[first] >= 0:
            continue
        group[first] = count
        starts[count] = next_stone = end
        members[end] = first
        end += 1
        liberties[count] = 0
        while next_stone < end:
            for near in neighbours[members[next_stone]]:
                if near < 0:
                    continue
                if board[near] == 0 and seen[near] != count:
                    seen[near] = count
                    liberties[count] += 1
                elif board[near] == board[first] and group[near] < 0:
                    group[near] = count
                    members[end] = near
                    end += 1
            next_stone += 1
        count += 1
    starts[count] = end


def _look_ahead(
    point: int,
    board: Array,
    neighbours: Array,
    group: Array,
    members: Array,
    starts: Array,
    liberties: Array,
    seen: Array,
) -> tuple[int, int, int]:
    """Find what a move of the player to move at an empty point leads to.

    Args:
        point: The empty point.
        board: [P] int8.
        neighbours: [P, 4].
        group: [P], like the next three from `_find_groups`.
        members: [P].
        starts: [P + 1].
        liberties: [P].
        seen: [P]; holds no number of a point that is looked at later.

    Returns:
        Captured stones, stones of the own group, and its liberties; 0 liberties is suicide.
    """
    captured, own, after = 0, 1, 0
    taken = np.full(4, -1, np.int64)
    joined = np.full(4, -1, np.int64)
    for k in range(4):
        near = neighbours[point, k]
        if near < 0 or board[near] == 0:
            continue
        g = group[near]
        if board[near] == 1 and not (joined == g).any():
            joined[k] = g
            own += starts[g + 1] - starts[g]
        elif board[near] == -1 and liberties[g] == 1 and not (taken == g).any():
            taken[k] = g
            captured += starts[g + 1] - starts[g]
    seen[point] = point
    for k in range(-1, 4):
        if k >= 0 and joined[k] < 0:
            continue
        first, end = (0, 1) if k < 0 else (starts[joined[k]], starts[joined[k] + 1])
        for index in range(first, end):
            for near in neighbours[point if k < 0 else members[index]]:
                if near < 0 or seen[near] == point:
                    continue
                if board[near] == 0 or (board[near] == -1 and (taken == group[near]).any()):
                    seen[near] = point
                    after += 1
    return captured, own, after
