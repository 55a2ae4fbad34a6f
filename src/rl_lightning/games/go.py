"""Planes, owners and rollouts of positions of Go. numba is imported at the first call."""

from functools import lru_cache
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from rl_lightning.games.go_planes import NUM_PLANES, GoPositions, neighbours_of
from rl_lightning.runtime.errors import import_extra

Array = npt.NDArray[Any]


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
    compiled("go_kernels").fill_planes(*positions, neighbours_of(board_size), planes)
    return planes.reshape(size, NUM_PLANES, board_size, board_size)


def owners_of(stones: Array, board_size: int) -> Array:
    """Whom each point [P] int8 belongs to by area: 1, -1, or 0 for nobody. All stones are alive.

    Args:
        stones: [P] int8: 1, -1, or 0 for an empty point.
        board_size: Rows and columns of the board.
    """
    rollouts = compiled("go_rollouts")
    owners: Array = rollouts.owners_of(board_size, rollouts.new_board(stones, board_size)[0])
    return owners


@lru_cache
def compiled(name: str) -> ModuleType:
    """A file of this folder whose functions numba compiles.

    Raises:
        ConfigurationError: If numba is not installed.
    """
    import_extra("numba", "planes, rollouts and search of Go need numba", "go")
    return import_extra(f"rl_lightning.games.{name}", f"{name} needs numba", "go")
