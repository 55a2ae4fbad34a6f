"""What the processes of one run tell each other; with a single process, nothing."""

from typing import Any

from torch import Tensor
from torch import distributed as dist


def are_many() -> bool:
    """Whether this process is one of several."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


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
