"""What every datamodule here shares: it declares itself, and counts the batches it gave."""

from abc import abstractmethod
from collections.abc import Iterator
from typing import Any, ClassVar, TypeVar

import numpy as np
import torch
from lightning import LightningDataModule
from torch.utils.data import DataLoader, IterableDataset

from rl_lightning.experience import check_pair
from rl_lightning.runtime.errors import ConfigurationError
from rl_lightning.runtime.seeding import numpy_stream, stream_seed, torch_stream

Batch = TypeVar("Batch")


class SourceDataModule(LightningDataModule):
    """A source of experience: see `rl_lightning.experience.ExperienceSource`.

    Random streams are functions of (seed, rank, update, name), where the update is counted in
    batches given to training, over epochs and resumes alike.

    Attributes:
        updates_per_epoch: Training batches of an epoch, on each rank; set before training.
        task: What is learned, in the names of experiments.
        updates: Batches given to training so far. Under `accumulate_grad_batches` an
            optimizer step takes several.

    Args:
        seed: Of every random stream; the command line passes --seed_everything.
    """

    batch_type: ClassVar[type]
    gives_whole_episodes = False
    task: str
    updates_per_epoch: int

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.seed = seed
        self.updates = 0

    def __str__(self) -> str:
        """The class and the task. Lightning's own makes every dataloader, for their lengths."""
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
        """Compare this datamodule with the module.

        Raises:
            ConfigurationError: If they do not fit.
        """
        if self.trainer is not None:
            check_pair(self.trainer.lightning_module, self)

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
        """Batches of an epoch of "train" or "validate" on each rank; None if not known yet."""
        return self.updates_per_epoch if stage == "train" else None

    @abstractmethod
    def next_batch(self) -> Any:
        """Make the training batch of update number `updates`."""

    def train_dataloader(self) -> "WholeBatchLoader[Any]":
        """One epoch of batches, each made when the Trainer asks for it."""
        return WholeBatchLoader(TrainingDataset(self))

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint must keep."""
        return {"updates": self.updates}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on where the checkpoint was made."""
        self.updates = state_dict["updates"]


class TrainingDataset(IterableDataset[Any]):
    """One epoch of a datamodule's batches.

    What goes on over epochs (episodes, a replay, an order of images) is the datamodule's.
    Sized, because Lightning fetches one batch ahead of an unsized iterable: each update
    would then learn from experience of the policy before the last.
    """

    def __init__(self, data: SourceDataModule) -> None:
        self.data = data

    def __len__(self) -> int:
        """Batches of an epoch."""
        return self.data.updates_per_epoch

    def __iter__(self) -> Iterator[Any]:
        """Make the batches, one for each update."""
        for _ in range(len(self)):
            batch = self.data.next_batch()
            # Before the update, because a checkpoint may be written right after it.
            self.data.updates += 1
            yield batch


class WholeBatchLoader(DataLoader[Batch]):
    """Passes on the whole batches that a dataset yields.

    Its place in the epoch is the datamodule's to keep (`SourceDataModule.updates`). The empty
    state here tells Lightning that a run can go on inside an epoch. For `predict` Lightning makes
    the loader again, and then it gives `sampler` and `batch_sampler`, both None.
    """

    def __init__(
        self, dataset: IterableDataset[Batch], sampler: None = None, batch_sampler: None = None
    ) -> None:
        super().__init__(dataset, batch_size=None, collate_fn=_unchanged)

    def state_dict(self) -> dict[str, Any]:
        """Nothing."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Nothing."""


def _unchanged(batch: Batch) -> Batch:
    return batch


def require_positive(**sizes: int) -> None:
    """Check that sizes are at least 1.

    Raises:
        ConfigurationError: Naming the first that is not.
    """
    for name, size in sizes.items():
        if size < 1:
            raise ConfigurationError(f"{name} is {size}: it must be at least 1")
