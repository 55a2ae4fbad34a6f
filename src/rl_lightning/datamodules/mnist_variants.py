"""Translated and cluttered MNIST (Mnih et al. 2014, section 4.1), a batch at a time.

Everything is a function of the digits and a generator; nothing runs image by image.
"""

import torch
from torch import Tensor


def paste(canvases: Tensor, patches: Tensor, tops: Tensor, lefts: Tensor) -> None:
    """Lay one patch on each canvas, in place, keeping the brighter pixel.

    Args:
        canvases: [B, H, W].
        patches: [B, h, w], of the same type.
        tops: [B] int64, row of each patch's top left corner.
        lefts: [B] int64, its column.
    """
    _, height, width = patches.shape
    batch = torch.arange(len(canvases))[:, None, None]
    rows = tops[:, None, None] + torch.arange(height)[:, None]
    columns = lefts[:, None, None] + torch.arange(width)
    where = (batch, rows, columns)
    canvases[where] = torch.maximum(canvases[where], patches)


def place(digits: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """Put each digit wholly inside a black image, at a uniformly drawn place.

    Args:
        digits: [B, h, w] uint8.
        size: Width and height of the image, at least the digit's.
        generator: Draws the places.

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
    """Scatter random pieces of random digits over the images, in place.

    Args:
        images: [B, H, W] uint8.
        digits: [D, h, w] uint8, the digits that pieces are cut from.
        pieces: Pieces for each image, anywhere wholly inside it.
        generator: Draws digits, cuts and places.
        piece_size: Width and height of a piece, pixels.
    """
    batch, height, width = images.shape

    def draw(high: int) -> Tensor:
        return torch.randint(high, (batch,), generator=generator)

    cuts = digits.unfold(1, piece_size, 1).unfold(2, piece_size, 1)  # a view
    for _ in range(pieces):
        piece = cuts[draw(len(digits)), draw(cuts.shape[1]), draw(cuts.shape[2])]
        paste(images, piece, draw(height - piece_size + 1), draw(width - piece_size + 1))


def shift(digits: Tensor, pixels: int, generator: torch.Generator) -> Tensor:
    """Move each digit by up to ±`pixels` along each axis; what leaves the image is lost."""
    size = digits.shape[-1]
    canvases = place(digits, size + 2 * pixels, generator)
    return canvases[:, pixels : pixels + size, pixels : pixels + size]
