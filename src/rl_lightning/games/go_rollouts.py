"""Random games of Go, compiled by numba when this file is imported; see `go_kernels`.

The rules are those of OpenSpiel without superko: a rollout goes on after a repeated position, which
is a draw there. Suicide is forbidden, and so is to take back a single stone at once (simple ko).

A board has a border of walls, so that each point has four neighbours: point p of row r and column c
stands at (r + 1)(size + 2) + c + 1. Stones of one side are 1, those of the other -1. Stones of a
chain are linked in a ring (`following`), and all have the same `head`. The pseudo-liberties of a
chain count an empty point once for each stone beside it. A chain is captured when it has none.

Source: Lew 2010, "Modeling Go Game as a Large Decomposable Decision Process", pseudo-liberties.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

Array = npt.NDArray[Any]

WALL = 2


@njit(cache=True)
def new_board(stones: Array, size: int) -> tuple[Array, Array, Array, Array]:
    """The board of a position.

    Args:
        stones: [P]: 1, -1, or 0 for an empty point.
        size: Rows and columns.

    Returns:
        Of each place of the board with its walls: board, head, following and liberties.
    """
    width = size + 2
    board = np.full(width * width, WALL, np.int8)
    head = np.arange(width * width)
    following = np.arange(width * width)
    liberties = np.zeros(width * width, np.int64)
    for point in range(size * size):
        board[(point // size + 1) * width + point % size + 1] = stones[point]
    for place in range(width * width):
        if abs(board[place]) == 1:
            for near in (place - width, place - 1, place + 1, place + width):
                liberties[head[place]] += board[near] == 0
            for near in (place - width, place - 1):
                if board[near] == board[place]:
                    _join(place, near, head, following, liberties)
    return board, head, following, liberties


@njit(cache=True)
def _join(place: int, near: int, head: Array, following: Array, liberties: Array) -> None:
    """Join the chain of a stone to that of a neighbour."""
    old, new = head[place], head[near]
    if old == new:
        return
    liberties[new] += liberties[old]
    stone = place
    while True:
        head[stone] = new
        stone = following[stone]
        if stone == place:
            break
    following[place], following[near] = following[near], following[place]


@njit(cache=True)
def is_legal(
    place: int, colour: int, ko: int, width: int, board: Array, head: Array, liberties: Array
) -> bool:
    """Whether a stone may be played at an empty place; `ko` is the place that ko forbids, or 0."""
    if place == ko:
        return False
    around = (place - width, place - 1, place + 1, place + width)
    for near in around:
        if board[near] == 0:
            return True
    for near in around:
        if board[near] == WALL:
            continue
        beside = 0  # pseudo-liberties of the chain at this place
        for other in around:
            beside += board[other] == board[near] and head[other] == head[near]
        has_others = liberties[head[near]] > beside
        if has_others == (board[near] == colour):
            return True
    return False


@njit(cache=True)
def is_own_eye(place: int, colour: int, width: int, board: Array) -> bool:
    """Whether an empty place is an eye: see `rl_lightning.games.network_player.own_eyes`."""
    for near in (place - width, place - 1, place + 1, place + width):
        if board[near] != colour and board[near] != WALL:
            return False
    hostile, at_border = 0, False
    for far in (place - width - 1, place - width + 1, place + width - 1, place + width + 1):
        hostile += board[far] == -colour
        at_border |= board[far] == WALL
    return hostile + at_border <= 1


@njit(cache=True)
def put_stone(
    place: int,
    colour: int,
    width: int,
    board: Array,
    head: Array,
    following: Array,
    liberties: Array,
    captured: Array,
) -> tuple[int, int]:
    """Play a legal move.

    Args:
        place: An empty place.
        colour: 1 or -1.
        width: Width of the board with its walls.
        board: See `new_board`, like the next three.
        head: See `new_board`.
        following: See `new_board`.
        liberties: See `new_board`.
        captured: Receives the places of captured stones.

    Returns:
        The number of captured stones, and the place that ko forbids to the other side, or 0.
    """
    around = (place - width, place - 1, place + 1, place + width)
    board[place], head[place], following[place], liberties[place] = colour, place, place, 0
    is_surrounded = True
    for near in around:
        if board[near] == 0:
            liberties[place] += 1
            is_surrounded = False
        elif board[near] != WALL:
            liberties[head[near]] -= 1
            is_surrounded &= board[near] != colour
    for near in around:
        if board[near] == colour:
            _join(place, near, head, following, liberties)
    number = 0
    for near in around:
        if board[near] == -colour and liberties[head[near]] == 0:
            stone = near
            while True:
                board[stone] = 0
                captured[number] = stone
                number += 1
                for beside in (stone - width, stone - 1, stone + 1, stone + width):
                    if board[beside] == colour:
                        liberties[head[beside]] += 1
                stone = following[stone]
                if stone == near:
                    break
    return number, captured[0] if is_surrounded and number == 1 else 0


@njit(cache=True)
def owners_of(size: int, board: Array) -> Array:
    """Whom each point [P] int8 belongs to: its stone, or the one side beside its empty region.

    A region between stones of both sides, and an empty board, belong to nobody: 0.
    """
    width = size + 2
    owners = np.zeros(len(board), np.int8)
    seen = np.zeros(len(board), np.bool_)
    region = np.empty(size * size, np.int64)
    for place in range(len(board)):
        if abs(board[place]) == 1:
            owners[place] = board[place]
        if board[place] != 0 or seen[place]:
            continue
        seen[place], region[0], end, index = True, place, 1, 0
        owns, other = False, False
        while index < end:
            here = region[index]
            index += 1
            for near in (here - width, here - 1, here + 1, here + width):
                owns |= board[near] == 1
                other |= board[near] == -1
                if board[near] == 0 and not seen[near]:
                    seen[near], region[end] = True, near
                    end += 1
        owners[region[:end]] = int(owns) - int(other)
    return owners.reshape(width, width)[1:-1, 1:-1].copy().reshape(-1)


@njit(cache=True)
def _random_below(bound: int, state: Array) -> int:
    """Draw a number from 0 to bound - 1 (Steele et al. 2014, SplitMix64).

    31 random bits are scaled. For the points of a board the bias is below 1e-6.
    """
    state[0] += np.uint64(0x9E3779B97F4A7C15)
    z = state[0]
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z = z ^ (z >> np.uint64(31))
    return int((np.int64(z >> np.uint64(33)) * bound) >> 31)


@njit(cache=True)
def play_out(
    ko: int,
    passes: int,
    moves_left: int,
    size: int,
    board: Array,
    head: Array,
    following: Array,
    liberties: Array,
    random_state: Array,
) -> int:
    """Play random moves of side 1 and side -1 in turn to the end of the game, on this board.

    A side plays each legal point that is no own eye with equal probability, and passes if there is
    none. The game ends after two passes or `moves_left` moves.

    Args:
        ko: The place that ko forbids now, or 0.
        passes: 1 if the last move was a pass.
        moves_left: Moves until the game is cut off.
        size: Rows and columns.
        board: See `new_board`, like the next three.
        head: See `new_board`.
        following: See `new_board`.
        liberties: See `new_board`.
        random_state: [1] uint64.

    Returns:
        The area of side 1 minus that of side -1.
    """
    width, colour = size + 2, 1
    empty = np.empty(size * size, np.int64)
    captured = np.empty(size * size, np.int64)
    count = 0
    for place in range(len(board)):
        if board[place] == 0:
            empty[count] = place
            count += 1
    for _ in range(moves_left):
        # Points are drawn without repetition until one can be played.
        waiting, index = count, -1
        while waiting > 0:
            drawn = _random_below(waiting, random_state)
            place = empty[drawn]
            if is_legal(place, colour, ko, width, board, head, liberties) and not is_own_eye(
                place, colour, width, board
            ):
                index = drawn
                break
            waiting -= 1
            empty[drawn], empty[waiting] = empty[waiting], place
        if index < 0:
            passes += 1
            ko = 0
            if passes == 2:
                break
        else:
            passes = 0
            place = empty[index]
            count -= 1
            empty[index] = empty[count]
            number, ko = put_stone(
                place, colour, width, board, head, following, liberties, captured
            )
            empty[count : count + number] = captured[:number]
            count += number
        colour = -colour
    return owners_of(size, board).sum()


@njit(cache=True)
def roll_out(
    stones: Array,
    legal: Array,
    passes: Array,
    moves_left: Array,
    komi: Array,
    size: int,
    seeds: Array,
    results: Array,
) -> None:
    """Play each of N positions to its end several times; R rollouts for each.

    Args:
        stones: [N, P] int8: 1 for the player to move.
        legal: [N, P] bool.
        passes: [N]; 1 where the last move was a pass.
        moves_left: [N].
        komi: [N]: points that the player to move gets less than its area.
        size: Rows and columns.
        seeds: [N, R] uint64.
        results: [N, R] float64; receives 1 where the player to move wins, -1 or 0.
    """
    width = size + 2
    random_state = np.empty(1, np.uint64)
    for n in range(len(stones)):
        board, head, following, liberties = new_board(stones[n], size)
        ko = 0
        for point in range(size * size):
            place = (point // size + 1) * width + point % size + 1
            is_forbidden = stones[n, point] == 0 and not legal[n, point]
            if is_forbidden and is_legal(place, 1, 0, width, board, head, liberties):
                ko = place
        for r in range(seeds.shape[1]):
            random_state[0] = seeds[n, r]
            difference = play_out(
                ko,
                passes[n],
                moves_left[n],
                size,
                board.copy(),
                head.copy(),
                following.copy(),
                liberties.copy(),
                random_state,
            )
            results[n, r] = np.sign(difference - komi[n])
