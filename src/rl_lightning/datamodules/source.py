"""Base class of all datamodules: declarations, random streams and the count of batches."""

from abc import abstractmethod
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, TypeVar

import numpy as np
import torch
from lightning import LightningDataModule
from torch.utils.data import DataLoader, IterableDataset

from rl_lightning.runtime.constructors import CheckedConstructor, require_range
from rl_lightning.runtime.seeding import numpy_stream, stream_seed, torch_stream

Batch = TypeVar("Batch")


class SourceDataModule(CheckedConstructor, LightningDataModule):
    """A source of experience: see `rl_lightning.experience.ExperienceSource`.

    Random streams are functions of (seed, rank, update, name). The update is the number of
    training batches so far, over all epochs and resumes.

    Attributes:
        needs_of_module: Protocol of `rl_lightning.experience` that the module must implement.
        updates_per_epoch: Training batches of an epoch, on each rank; set before training.
        task: Name of the task, which is part of the experiment's name.
        updates: Training batches yielded so far. With `accumulate_grad_batches` an optimizer
            step uses several batches.

    Args:
        seed: Seed of every random stream; the command line passes --seed_everything.
    """

    batch_type: ClassVar[type]
    needs_of_module: ClassVar[type] = object
    gives_whole_episodes = False
    task: str
    updates_per_epoch: int

    def __init__(self, seed: int) -> None:
        require_range(0, seed=seed)
        super().__init__()
        self.seed = seed
        self.updates = 0

    def __str__(self) -> str:
        """The class and the task. Lightning's `__str__` would make every dataloader."""
        return f"{type(self).__name__}({self.task})"

    @property
    def rank(self) -> int:
        """Global rank of this process."""
        return 0 if self.trainer is None else self.trainer.global_rank

    @property
    def world_size(self) -> int:
        """Number of processes."""
        return 1 if self.trainer is None else self.trainer.world_size

    def setup(self, stage: str) -> None:
        """Check that the module fits, if it does not check the run itself.

        Raises:
            ConfigurationError: If it does not fit.
        """
        if self.trainer is None:
            return
        module = self.trainer.lightning_module
        if not getattr(module, "checks_compatibility", False):
            from rl_lightning.compatibility.pairs import check_pair

            check_pair(module, self)

    def stream_seed(self, stream: str) -> int:
        """A seed for this rank and update."""
        return stream_seed(self.seed, rank=self.rank, update=self.updates, stream=stream)

    def numpy_stream(self, stream: str) -> np.random.Generator:
        """A NumPy generator for this rank and update."""
        return numpy_stream(self.seed, rank=self.rank, update=self.updates, stream=stream)

    def torch_stream(self, stream: str, device: torch.device | str = "cpu") -> torch.Generator:
        """A torch generator for this rank and update."""
        return torch_stream(
            self.seed, rank=self.rank, update=self.updates, stream=stream, device=device
        )

    def batches_of(self, stage: str) -> int | None:
        """Batches of an epoch of stage "train" or "validate" on each rank; None if unknown."""
        return self.updates_per_epoch if stage == "train" else None

    @abstractmethod
    def next_batch(self) -> Any:
        """Make the training batch of update number `updates`."""

    def train_dataloader(self) -> "WholeBatchLoader[Any]":
        """One epoch of batches, one for each update."""
        return WholeBatchLoader(Batches(self._make_batches, self.updates_per_epoch))

    def _make_batches(self) -> Iterator[Any]:
        """Make the batches of an epoch.

        This datamodule keeps all state that lasts longer than an epoch, such as episodes, a replay
        or an order of images.
        """
        for _ in range(self.updates_per_epoch):
            batch = self.next_batch()
            # Counted before the update, because a checkpoint may be written right after the
            # update, before this generator runs again.
            self.updates += 1
            yield batch

    def transfer_batch_to_device(
        self, batch: Any, device: torch.device, dataloader_idx: int
    ) -> Any:
        """Move a batch, unless it is on the device already.

        Lightning would look at each of its fields, which takes as long as a small layer.
        """
        first = batch[0] if isinstance(batch, tuple) else None
        if isinstance(first, torch.Tensor) and first.device == device:
            return batch
        return super().transfer_batch_to_device(batch, device, dataloader_idx)

    def state_dict(self) -> dict[str, Any]:
        """The state of this datamodule, for a checkpoint."""
        return {"updates": self.updates}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state from a checkpoint."""
        self.updates = state_dict["updates"]


class Batches(IterableDataset[Batch]):
    """A known number of batches. Each is made when the Trainer requests it.

    It has a length, because Lightning prefetches one batch from an iterable without a length. Each
    training batch would then be collected before the previous update, with an outdated policy.

    Args:
        make: Starts to make the batches. It keeps no state between two calls.
        number: Number of the batches.
    """

    def __init__(self, make: Callable[[], Iterator[Batch]], number: int) -> None:
        self.make = make
        self.number = number

    def __len__(self) -> int:
        """Number of batches."""
        return self.number

    def __iter__(self) -> Iterator[Batch]:
        """Make the batches."""
        return self.make()


class WholeBatchLoader(DataLoader[Batch]):
    """A DataLoader for a dataset that yields whole batches.

    The datamodule keeps the position in the epoch (`SourceDataModule.updates`), so the state of
    the loader is empty. Lightning still needs `state_dict` to resume a run inside an epoch. For
    `predict` Lightning makes the loader again and passes `sampler` and `batch_sampler` as None.
    """

    def __init__(
        self, dataset: IterableDataset[Batch], sampler: None = None, batch_sampler: None = None
    ) -> None:
        super().__init__(dataset, batch_size=None, collate_fn=_unchanged)

    def state_dict(self) -> dict[str, Any]:
        """Return an empty state."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Ignore the empty state."""


def _unchanged(batch: Batch) -> Batch:
    return batch


def batches_of_an_epoch(num_samples: int, batch_size: int, world_size: int) -> int:
    """Number of batches on each rank, the smallest that `batch_size` allows."""
    per_rank = -(-num_samples // world_size)
    return -(-per_rank // batch_size)


def require_positive(**sizes: int) -> None:
    """Check that sizes are at least 1.

    Raises:
        ConfigurationError: For the first size that is below 1.
    """
    require_range(1, **sizes)
