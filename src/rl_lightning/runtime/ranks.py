"""Communication between the ranks (processes) of a run. With one rank there is none."""

import os
from typing import Any

import torch
from torch import Tensor
from torch import distributed as dist


def has_several_ranks() -> bool:
    """Whether the run has several ranks."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def use_batch_scheduling() -> None:
    """Keep the threads of a rank from preempting each other (Linux's SCHED_BATCH).

    On the CPU a rank may have several threads on one core. Gloo's listening thread preempts the
    computing thread, and then waits in a loop for a lock that the computing thread holds, until the
    end of its time slice. So an exchange of 36 kB took 1 ms on average in place of 0.3 ms.

    Only Linux has SCHED_BATCH. Threads inherit it, so it must be set before the process group
    starts its threads.
    """
    if hasattr(os, "SCHED_BATCH") and os.sched_getscheduler(0) == os.SCHED_OTHER:
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


def sum_over_ranks(values: Tensor) -> Tensor:
    """The sum of all ranks' `values`, on every rank. Every rank must call it equally often."""
    return _reduced(values, dist.ReduceOp.SUM) if has_several_ranks() else values


def max_over_ranks(values: Tensor) -> Tensor:
    """The largest of all ranks' `values`, on every rank; see `sum_over_ranks`."""
    return _reduced(values, dist.ReduceOp.MAX) if has_several_ranks() else values


def _reduced(values: Tensor, operation: Any) -> Tensor:
    # NCCL can only use the memory of the GPU, so move the values there.
    reduced = values.cuda() if dist.get_backend() == "nccl" else values.clone()
    dist.all_reduce(reduced, operation)
    return reduced.to(values.device)


def mean_over_ranks(values: Tensor) -> Tensor:
    """The mean of all ranks' `values`, on every rank; see `sum_over_ranks`."""
    return sum_over_ranks(values) / dist.get_world_size() if has_several_ranks() else values


def moments_over_ranks(count: Tensor, mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance over all ranks, from the `mean` and `variance` of this rank's values.

    All sums are sent in one exchange, because its cost is the waiting time and not the bytes.
    """
    if not has_several_ranks():
        return mean, variance
    weights, means, squares = count.double(), mean.double(), variance + mean.double().square()
    sums = sum_over_ranks(torch.stack([weights, weights * means, weights * squares]))
    total = sums[0].clamp(min=1)
    pooled = sums[1] / total
    # The variance of equal values is 0, and rounding errors could make it negative.
    spread = (sums[2] / total - pooled.square()).clamp_min(0)
    return pooled.to(mean.dtype), spread.to(variance.dtype)


def count_per_rank(mask: Tensor) -> Tensor:
    """How often `mask` is True on a rank, as the mean over all ranks [], float32.

    DistributedDataParallel takes the mean of the ranks' gradients. If each rank divides the sum of
    its losses by this count, that mean is the gradient of the mean over all ranks' losses. A mean
    over the rank's own count would weight ranks with few steps too much.
    """
    return mean_over_ranks(mask.sum().float()).clamp(min=torch.finfo(torch.float32).tiny)


def ddp_scale(count: Tensor) -> Tensor | float:
    """The factor for this rank's loss if the loss is a mean over `count` values.

    DistributedDataParallel takes the mean of the ranks' gradients. If the ranks have different
    counts, the mean of their means is not the mean over all values. With this factor it is.
    """
    if not has_several_ranks():
        return 1.0
    return count / mean_over_ranks(count.double()).clamp(min=torch.finfo(torch.double).tiny)


def from_all_ranks(value: Any) -> list[Any]:
    """The `value` of every rank, in the order of the ranks."""
    if not has_several_ranks():
        return [value]
    gathered: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(gathered, value)
    return gathered
