"""Exchanges between the processes of one run; with a single process they return at once."""

import os
from typing import Any

import torch
from torch import Tensor
from torch import distributed as dist


def are_many() -> bool:
    """Whether this process is one of several."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def use_batch_scheduling() -> None:
    """Keep threads of one rank from preempting each other (Linux's SCHED_BATCH).

    On the CPU a rank is several threads on one core. Gloo's listening thread preempts the thread
    that computes, and then spins on a lock that this thread holds, until the scheduler's next
    tick: an exchange of 36 kB took 1 ms on average instead of 0.3. Only Linux has SCHED_BATCH.
    Threads inherit it, so it must be set before the process group starts its own.
    """
    if hasattr(os, "SCHED_BATCH") and os.sched_getscheduler(0) == os.SCHED_OTHER:
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


def sum_over_ranks(values: Tensor) -> Tensor:
    """The sum of every rank's `values`, on all of them. Every rank must call it equally often."""
    if not are_many():
        return values
    # NCCL knows the GPU's memory only.
    summed = values.cuda() if dist.get_backend() == "nccl" else values.clone()
    dist.all_reduce(summed)
    return summed.to(values.device)


def mean_over_ranks(values: Tensor) -> Tensor:
    """The mean of every rank's `values`, on all of them; see `sum_over_ranks`."""
    return sum_over_ranks(values) / dist.get_world_size() if are_many() else values


def moments_over_ranks(count: Tensor, mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of all ranks' values, from those of each rank's `count` values.

    In one exchange, because the cost of an exchange is the wait and not the bytes.
    """
    if not are_many():
        return mean, variance
    weights, means, squares = count.double(), mean.double(), variance + mean.double().square()
    sums = sum_over_ranks(torch.stack([weights, weights * means, weights * squares]))
    total = sums[0].clamp(min=1)
    pooled = sums[1] / total
    # Equal values have a variance of 0, which rounding may take below it.
    spread = (sums[2] / total - pooled.square()).clamp_min(0)
    return pooled.to(mean.dtype), spread.to(variance.dtype)


def ddp_scale(count: Tensor) -> Tensor | float:
    """The factor by which this rank scales a mean of `count` values.

    DistributedDataParallel takes the mean of the ranks' gradients. Where ranks have unequal
    counts, the mean of their means is not the mean of all values; scaled so, it is.
    """
    if not are_many():
        return 1.0
    return count / mean_over_ranks(count.double()).clamp(min=torch.finfo(torch.double).tiny)


def from_all_ranks(value: Any) -> list[Any]:
    """Every rank's `value`, in the order of the ranks."""
    if not are_many():
        return [value]
    gathered: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(gathered, value)
    return gathered


def is_loss_of_another(error: BaseException) -> bool:
    """Whether an error means only that another rank's process has ended."""
    said = str(error)
    return are_many() and ("closed by peer" in said or "reset by peer" in said)
