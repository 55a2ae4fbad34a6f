"""What the processes of one run tell each other; with a single process, nothing."""

import os
from typing import Any

import torch
from torch import Tensor
from torch import distributed as dist


def are_many() -> bool:
    """Whether this process is one of several."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def let_threads_finish() -> None:
    """Keep a thread of this process that wakes from pushing aside the one that runs.

    A rank on the CPU is several threads on one core, and gloo's listening thread spins on a lock
    of the thread that it has just pushed aside, until the scheduler's next tick: an exchange of
    36 kB took 1 ms on average in place of 0.3. Linux alone offers this; it is inherited by
    threads that are made later, so it comes before the process group.
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

    In one exchange, since it is waiting for one another that costs, not what is sent.
    """
    if not are_many():
        return mean, variance
    weights, means, squares = count.double(), mean.double(), variance + mean.double().square()
    sums = sum_over_ranks(torch.stack([weights, weights * means, weights * squares]))
    pooled = sums[1] / sums[0]
    # Equal values have a variance of 0, which rounding may take below it.
    spread = (sums[2] / sums[0] - pooled.square()).clamp_min(0)
    return pooled.to(mean.dtype), spread.to(variance.dtype)


def weight_among_ranks(count: Tensor) -> Tensor | float:
    """What this rank's mean of `count` values weighs, the ranks' weights being 1 on average.

    DistributedDataParallel takes the mean of the ranks' gradients. Means of unequally many
    values, so weighted, have the mean of all values for their mean.
    """
    return count / mean_over_ranks(count.double()) if are_many() else 1.0


def from_all_ranks(value: Any) -> list[Any]:
    """Every rank's `value`, in the order of the ranks."""
    if not are_many():
        return [value]
    gathered: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(gathered, value)
    return gathered


def is_loss_of_another(error: BaseException) -> bool:
    """Whether an error says no more than that another rank's process is gone."""
    said = str(error)
    return are_many() and ("closed by peer" in said or "reset by peer" in said)
