"""Loops over the points of Go boards, compiled by numba when this file is imported.

The import takes a second, so only `rl_lightning.games.go` imports this file, at its first use.
The compiled code is kept on the disk. The functions are not nested, because numba cannot keep a
function that refers to a compiled function of another one.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from rl_lightning.games.go_planes import (
    BLACK,
    CAPTURES,
    KO,
    LEGALITY,
    LIBERTIES,
    LIBERTIES_AFTER,
    ONES,
    SELF_ATARI,
    STONES,
    TURNS_SINCE,
)

Array = npt.NDArray[Any]


@njit(cache=True)
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


@njit(cache=True)
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


@njit(cache=True)
def fill_planes(
    stones: Array, ages: Array, legal: Array, black: Array, neighbours: Array, planes: Array
) -> None:
    """Compute the planes [N, NUM_PLANES, P] of positions; see `GoPositions`."""
    num_points = stones.shape[1]
    group = np.empty(num_points, np.int64)
    members = np.empty(num_points, np.int64)
    starts = np.empty(num_points + 1, np.int64)
    liberties = np.empty(num_points, np.int64)
    seen = np.empty(num_points, np.int64)
    for n in range(len(stones)):
        board, out = stones[n], planes[n]
        _find_groups(board, neighbours, group, members, starts, liberties, seen)
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
            captured, own, after = _look_ahead(
                point, board, neighbours, group, members, starts, liberties, seen
            )
            if legal[n, point]:
                out[CAPTURES + min(captured, 7), point] = True
                out[LIBERTIES_AFTER + min(after, 8) - 1, point] = True
                if after == 1:
                    out[SELF_ATARI + min(own, 8) - 1, point] = True
            elif after > 0:
                out[KO, point] = True
