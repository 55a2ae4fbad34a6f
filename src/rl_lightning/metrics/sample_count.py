"""The number of samples that a module has learned from, the x-axis of its plots."""

from typing import Any

import torch
from torch import Tensor, nn


class SampleCount(nn.Module):
    """A count that is part of the checkpoint and keeps float64 when the module is cast.

    float32 counts to 2²⁴ only.
    """

    count: Tensor  # [] float64

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        """Move the count with the module, but do not cast it."""
        count = self.count
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self.count = count.to(self.count.device)
        return self
