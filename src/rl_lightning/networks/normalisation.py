"""Statistics over all ranks: running ones of observations and returns, and those of a batch."""

import torch
from torch import Tensor, nn

from rl_lightning.functional.returns import masked_moments, standardised
from rl_lightning.runtime.ranks import moments_over_ranks, sum_over_ranks


def standardised_over_ranks(values: Tensor, mask: Tensor | None = None) -> Tensor:
    """Scale `values` to zero mean and unit variance where `mask` is True, or everywhere.

    Mean and variance are over all ranks, so every rank must call this equally often.
    """
    if mask is None:
        mask = torch.ones_like(values, dtype=torch.bool)
    mean, variance = moments_over_ranks(mask.sum(), *masked_moments(values, mask))
    return standardised(values, mean, variance)


class RunningStatistics(nn.Module):
    """Mean and variance of all values so far, over all ranks.

    They are buffers, so the checkpoint contains them. They change only in `update`. Only training
    calls `update`, so an evaluation does not change them.

    Source: Chan et al. 1979, the parallel algorithm.

    Args:
        shape: Shape of one value.
    """

    mean: Tensor
    variance: Tensor
    count: Tensor

    def __init__(self, shape: tuple[int, ...] = ()) -> None:
        super().__init__()
        # float64, because a float32 mean stops changing once the count is large.
        self.register_buffer("mean", torch.zeros(shape, dtype=torch.float64))
        self.register_buffer("variance", torch.ones(shape, dtype=torch.float64))
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))

    @torch.no_grad()
    def update(self, values: Tensor) -> None:
        """Add `values` [B, *shape] of this rank, together with those of all other ranks.

        Every rank must call this equally often.
        """
        assert values.shape[1:] == self.mean.shape, f"values {values.shape}, mean {self.mean.shape}"
        # Sums of differences from the running mean, which is equal on every rank and close to the
        # new mean. Pixels are at most 255, so float32 is exact enough for them; it takes a tenth
        # of the time.
        pixels = values.dtype == torch.uint8
        centre = self.mean.float() if pixels else self.mean
        centred = (values if pixels else values.double()) - centre
        count = torch.full_like(self.mean, len(values))
        sums = torch.stack([count, centred.sum(0).double(), centred.square_().sum(0).double()])
        seen, shift, squares = sum_over_ranks(sums)
        total = self.count + seen
        divisor = total.clamp(min=1)  # the first rollout may contain only resets, so total is 0
        rounded = self.mean - centre
        shift = (shift + self.count * rounded) / divisor
        squares += self.count * (self.variance + rounded.square())
        self.mean.copy_(centre + shift)
        self.variance.copy_(torch.where(total > 0, squares / divisor - shift.square(), 1.0))
        if total.numel():  # 0 if the observation shape contains a 0
            self.count.copy_(total.flatten()[0])

    @property
    def std(self) -> Tensor:
        """Standard deviation, float32."""
        return self.variance.clamp(min=1e-8).sqrt().float()


class ReturnStatistics(RunningStatistics):
    """Running statistics of returns, with the scale that rewards are divided by."""

    @property
    def scale(self) -> Tensor:
        """The σ of returns [], but at least a tenth of their root mean square; 1 if all are 0.

        Equal returns have a σ of 0, so a division by σ alone would give infinite rewards.
        """
        root_mean_square = (self.variance + self.mean.square()).sqrt()
        scale = torch.maximum(self.variance.clamp(min=0).sqrt(), root_mean_square / 10)
        return torch.where(root_mean_square > 1e-8, scale, 1.0).float()


class ObservationNormaliser(RunningStatistics):
    """Scales observations [B, *shape] to zero mean and unit variance, and clips them.

    Args:
        shape: Shape of one observation.
        clip: Largest absolute value of the result.
    """

    def __init__(self, shape: tuple[int, ...], clip: float = 10.0) -> None:
        super().__init__(shape)
        self.clip = clip

    def forward(self, observations: Tensor) -> Tensor:
        """Normalise with the current statistics, without an update."""
        if observations.dtype == torch.bool:  # torch has no subtraction for bool
            observations = observations.float()
        centred = (observations - self.mean.float()) / self.std
        return centred.clamp(-self.clip, self.clip)


class MovingAverage(nn.Module):
    """Exponential moving average of scalars over all ranks, with bias correction.

    Args:
        decay: Weight of the old average in an update.
    """

    total: Tensor
    norm: Tensor

    def __init__(self, decay: float) -> None:
        super().__init__()
        self.decay = decay
        self.register_buffer("total", torch.zeros((), dtype=torch.float64))
        self.register_buffer("norm", torch.zeros((), dtype=torch.float64))

    @property
    def value(self) -> Tensor:
        """The average [], float32; 0 before the first batch."""
        return (self.total / self.norm.clamp(min=1e-12)).float()

    @torch.no_grad()
    def update(self, values: Tensor) -> None:
        """Update with the mean of `values` [B] over all ranks."""
        sum_, count = sum_over_ranks(
            torch.stack([values.double().sum(), self.total.new_tensor(values.numel())])
        )
        decay = self.decay ** (count > 0).double()  # 1 without values, and no wait for a GPU
        self.total.mul_(decay).add_((1 - decay) * sum_ / count.clamp(min=1))
        self.norm.mul_(decay).add_(1 - decay)
