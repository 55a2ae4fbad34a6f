"""The feature planes of Go, and what they are computed from.

Source: Silver et al. 2016, "Mastering the game of Go with deep neural networks and tree search",
extended data table 2. The planes of ladders, of zeros, and of moves that fill own eyes are left
out. Ko, legality and the colour to move are planes here.
"""

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

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
ONES = 45  # ones on every point
LEGALITY = 46  # points on which a move is legal
NUM_PLANES = 47


class GoPositions(NamedTuple):
    """Positions of Go, from the view of the player to move. P points, row by row."""

    stones: Array  # [N, P] int8: 1 for own stones, -1 for the opponent's, 0 for empty points
    ages: Array  # [N, P] uint8: moves since a move here, at most 8; only read where a stone is
    legal: Array  # [N, P] bool
    black: Array  # [N] bool: whether Black is to move


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
