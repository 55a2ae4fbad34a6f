"""The eight symmetries of a square board."""

from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

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


def turn_actions(actions: Array, board_size: int, which: Array) -> Array:
    """The actions [B] on boards that are turned by the symmetries [B], from 0 to 7."""
    turned: Array = symmetries(board_size)[1][which, actions]
    return turned


def turn_planes(planes: Tensor, which: Array) -> Tensor:
    """Turn the planes of positions.

    Args:
        planes: [B, C, N, N].
        which: [B]; the symmetry of each position, from 0 to 7.
    """
    sources, _ = symmetries(planes.shape[-1])
    points = torch.from_numpy(sources[which])[:, None].expand(-1, planes.shape[1], -1)
    return planes.flatten(2).gather(2, points).view_as(planes)
