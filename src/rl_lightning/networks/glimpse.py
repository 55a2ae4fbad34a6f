"""The glimpse of the Recurrent Attention Model: its patches and its network.

Mnih et al. 2014, sections 3.1 and 4.1. N is the number of rollouts, which is one for each image, or
M for each image in Monte-Carlo training. Locations are (x, y) in [−1, 1]². (−1, −1) is the image's
top left corner and (0, 0) its centre; x is the direction of the columns and y that of the rows.
"""

from typing import Literal, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rl_lightning.experience import LabelledImages
from rl_lightning.runtime.constructors import require_range
from rl_lightning.runtime.errors import ConfigurationError

InitialWeights = Literal["torch", "identity"]


def glimpse_centres(locations: Tensor, height: int, width: int) -> Tensor:
    """Round each location to the nearest pixel corner (x, y), from 0 to width and height.

    Args:
        locations: [..., 2] in [−1, 1].
        height: Rows of the image.
        width: Columns of the image.

    Returns:
        [..., 2] int64. A patch of width w at this corner covers the columns from x − w // 2 to
        x − w // 2 + w − 1. For rows it is the same with y.
    """
    size = locations.new_tensor([width, height])
    return torch.round((locations + 1) / 2 * size).long()


def share_of_pixels_seen(locations: Tensor, size: int, height: int, width: int) -> Tensor:
    """Compute the share of an image's pixels that are inside at least one `size` × `size` patch.

    Args:
        locations: [T, N, 2].
        size: Width of the patch, pixels.
        height: Rows of the image.
        width: Columns of the image.

    Returns:
        [N] float32.
    """
    x, y = (glimpse_centres(locations, height, width) - size // 2).unbind(-1)

    def covered(start: Tensor, length: int) -> Tensor:
        offsets = torch.arange(length, device=start.device) - start[..., None]
        return (offsets >= 0) & (offsets < size)

    seen = covered(y, height)[..., :, None] & covered(x, width)[..., None, :]
    return seen.any(0).float().mean((-2, -1))


class GlimpseSensor(nn.Module):
    """ρ(x, l): square patches around a location, each twice as wide as the one before.

    All patches are reduced to `size` × `size` pixels by averaging. Pixels outside the image are
    0. Patches are gathered from a strided view of the padded images, without a Python loop over
    images.
    """

    def __init__(self, image_shape: tuple[int, ...], size: int = 8, num_scales: int = 1) -> None:
        """Compute the padding, and check that the patches fit the image.

        Args:
            image_shape: (C, H, W).
            size: Width of the narrowest patch, pixels.
            num_scales: Number of patches.

        Raises:
            ConfigurationError: If the widest patch is larger than the padded image.
        """
        super().__init__()
        require_range(1, glimpse_size=size, num_scales=num_scales)
        channels, self.height, self.width = image_shape
        self.size = size
        self.num_scales = num_scales
        self.widest = size << (num_scales - 1)
        self.padding = (self.widest + 1) // 2
        self.num_features = channels * num_scales * size * size
        smallest = min(self.height, self.width)
        if self.widest > 2 * smallest:  # the padding is at most half an image on every side
            raise ConfigurationError(
                f"glimpse_size {size} with num_scales {num_scales} makes a glimpse of "
                f"{self.widest} pixels, larger than the image of {self.width}x{self.height} with "
                f"its padding ({2 * smallest}): lower glimpse_size or num_scales"
            )

    def pad(self, images: Tensor) -> Tensor:
        """Pad images [B, C, H, W] with zeros, so that glimpses can extend beyond the border."""
        return F.pad(images, [self.padding] * 4)

    def forward(self, padded: Tensor, locations: Tensor, rows: Tensor) -> Tensor:
        """Extract the patches at each location.

        Args:
            padded: [B, C, H + 2·padding, W + 2·padding], from `pad`.
            locations: [N, 2] in [−1, 1].
            rows: [N] int64, the index of each location's image.

        Returns:
            [N, num_scales, C, size, size], the narrowest patch first.
        """
        x, y = glimpse_centres(locations, self.height, self.width).unbind(-1)
        patches = []
        for scale in range(self.num_scales):
            width = self.size << scale
            corner = self.padding - width // 2
            windows = padded.unfold(2, width, 1).unfold(3, width, 1)  # a view, without a copy
            patch = windows[rows, :, y + corner, x + corner]
            patches.append(F.avg_pool2d(patch, 1 << scale) if scale else patch)
        return torch.stack(patches, dim=1)


class GlimpseNetwork(nn.Module):
    """g = ReLU(W_g ReLU(W_ρ ρ) + W_l ReLU(W_x l) + b), from a glimpse ρ and its location l.

    The initial weights "identity" mean those of He et al. (2015) for ReLUs here.
    """

    def __init__(
        self,
        num_features: int,
        hidden_size: int = 128,
        output_size: int = 256,
        initial_weights: InitialWeights = "torch",
    ) -> None:
        super().__init__()
        self.what = nn.Linear(num_features, hidden_size)
        self.where = nn.Linear(2, hidden_size)
        self.merge = nn.Linear(2 * hidden_size, output_size)  # W_g and W_l in one matrix
        if initial_weights == "identity":
            for layer in (self.what, self.where, self.merge):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                nn.init.zeros_(layer.bias)

    def forward(self, glimpses: Tensor, locations: Tensor) -> Tensor:
        """Map glimpses [N, num_features] at locations [N, 2] → [N, output_size]."""
        seen = torch.cat([self.what(glimpses), self.where(locations)], dim=-1)
        hidden: Tensor = self.merge(seen.relu_())  # in place, which halves the memory
        return hidden.relu_()


class GlimpseTrace(NamedTuple):
    """Rollouts for B images, as pictures need them."""

    images: Tensor  # [B, C, H, W]
    labels: Tensor  # [B]
    locations: Tensor  # [T, B, 2] in [−1, 1]
    probabilities: Tensor  # [T, B, K] after each glimpse


@runtime_checkable
class TracesGlimpses(Protocol):
    """A module that traces its glimpses."""

    sensor: GlimpseSensor

    def predict_step(self, batch: LabelledImages, batch_idx: int) -> GlimpseTrace:
        """Trace a rollout for a batch of images."""
