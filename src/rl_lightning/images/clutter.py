"""Translated and cluttered MNIST (Mnih et al. 2014, section 4.1), for batches of images.

All functions depend on the digits and a generator only. They process a batch at once, without a
Python loop over images.
"""

import torch
from torch import Tensor


def paste(canvases: Tensor, patches: Tensor, tops: Tensor, lefts: Tensor) -> None:
    """Write one patch onto each canvas, in place. The brighter of two pixels is kept.

    Args:
        canvases: [B, H, W].
        patches: [B, h, w], of the same dtype.
        tops: [B] int64, row of each patch's top left corner.
        lefts: [B] int64, column of each patch's top left corner.
    """
    _, height, width = patches.shape
    batch = torch.arange(len(canvases))[:, None, None]
    rows = tops[:, None, None] + torch.arange(height)[:, None]
    columns = lefts[:, None, None] + torch.arange(width)
    where = (batch, rows, columns)
    canvases[where] = torch.maximum(canvases[where], patches)


def place(digits: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """Put each digit at a uniformly drawn position that is completely inside a black image.

    Args:
        digits: [B, h, w] uint8.
        size: Width and height of the image, at least those of the digit.
        generator: Draws the positions.

    Returns:
        [B, size, size] uint8.
    """
    batch, height, width = digits.shape
    canvases = digits.new_zeros(batch, size, size)
    tops = torch.randint(size - height + 1, (batch,), generator=generator)
    lefts = torch.randint(size - width + 1, (batch,), generator=generator)
    paste(canvases, digits, tops, lefts)
    return canvases


def add_clutter(
    images: Tensor, digits: Tensor, pieces: int, generator: torch.Generator, piece_size: int = 8
) -> None:
    """Write random pieces of random digits at random positions onto the images, in place.

    Args:
        images: [B, H, W] uint8.
        digits: [D, h, w] uint8, the digits that pieces are cut from.
        pieces: Number of pieces for each image. Each is completely inside the image.
        generator: Draws the digits, the pieces and their positions.
        piece_size: Width and height of a piece, pixels.
    """
    batch, height, width = images.shape

    def draw(high: int) -> Tensor:
        return torch.randint(high, (batch,), generator=generator)

    cuts = digits.unfold(1, piece_size, 1).unfold(2, piece_size, 1)  # a view, without a copy
    for _ in range(pieces):
        piece = cuts[draw(len(digits)), draw(cuts.shape[1]), draw(cuts.shape[2])]
        paste(images, piece, draw(height - piece_size + 1), draw(width - piece_size + 1))


def shift(digits: Tensor, pixels: int, generator: torch.Generator) -> Tensor:
    """Shift each digit by up to ±`pixels` along each axis. Pixels outside the image are cut off."""
    size = digits.shape[-1]
    canvases = place(digits, size + 2 * pixels, generator)
    return canvases[:, pixels : pixels + size, pixels : pixels + size]
