"""The eight symmetries of a square board."""

from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from rl_lightning.games.go_planes import GoPositions

Array = npt.NDArray[Any]


@lru_cache
def symmetries(board_size: int) -> tuple[Array, Array]:
    """The rotations and reflections of a board as permutations of its P points.

    Returns:
        sources: [8, P]; point p of the turned board is point sources[k, p] of the original.
        targets: [8, P + 1]; action a of the original is targets[k, a] on the turned board. A pass
            stays a pass.
    """
    board = np.arange(board_size**2).reshape(board_size, board_size)
    turned = [np.rot90(each, k).ravel() for each in (board, board.T) for k in range(4)]
    sources = np.stack(turned)
    targets = np.argsort(sources, axis=1)
    return sources, np.pad(targets, ((0, 0), (0, 1)), constant_values=board_size**2)


def turn(
    positions: GoPositions, actions: Array, board_size: int, which: Array
) -> tuple[GoPositions, Array]:
    """Turn positions and the actions that were chosen in them.

    Args:
        positions: N positions.
        actions: [N] int64.
        board_size: Rows and columns.
        which: [N]; the symmetry of each position, from 0 to 7.

    Returns:
        The turned positions and actions.
    """
    sources, targets = symmetries(board_size)
    rows = sources[which]
    return (
        GoPositions(
            np.take_along_axis(positions.stones, rows, 1),
            np.take_along_axis(positions.ages, rows, 1),
            np.take_along_axis(positions.legal, rows, 1),
            positions.black,
        ),
        targets[which, actions],
    )


def turn_planes(planes: Tensor, which: Array) -> Tensor:
    """Turn the planes of positions.

    Args:
        planes: [B, C, N, N].
        which: [B]; the symmetry of each position, from 0 to 7.
    """
    sources, _ = symmetries(planes.shape[-1])
    points = torch.from_numpy(sources[which])[:, None].expand(-1, planes.shape[1], -1)
    return planes.flatten(2).gather(2, points).view_as(planes)
