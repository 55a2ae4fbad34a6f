"""MNIST, plain, translated and cluttered, as index batches into one uint8 tensor."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from rl_lightning.datamodules.mnist_variants import add_clutter, place, shift
from rl_lightning.errors import ConfigurationError, one_line
from rl_lightning.seeding import torch_stream

DIGIT_SIZE = 28
# The validation and test images never depend on the run's seed: all runs are measured alike.
EVALUATION_SEED = 0

LabelledImages = tuple[Tensor, Tensor]  # [B, 1, H, W] float32 in [0, 1] and [B] int64


class EpochOfImages(NamedTuple):
    """What makes one epoch of training unlike the next."""

    draw: Callable[[Tensor, torch.Generator], Tensor]  # digits [B, 28, 28] to images [B, H, W]
    seed: int
    number: Callable[[], int]  # the current epoch's

    def stream(self, name: str, rank: int = 0) -> torch.Generator:
        """The random stream of that name in the current epoch."""
        return torch_stream(self.seed, rank=rank, epoch=self.number(), stream=f"mnist {name}")


class ImageBatches(IterableDataset[LabelledImages]):
    """Whole batches of images, the same number on every rank."""

    def __init__(
        self,
        images: Tensor,
        labels: Tensor,
        batch_size: int,
        epoch: EpochOfImages | None = None,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        """Share the images out over the ranks.

        Args:
            images: [D, H, W] uint8.
            labels: [D] int64.
            batch_size: Images of a batch at most, on each rank.
            epoch: Shuffles the images and draws new ones of them; None leaves all as it is.
            rank: This process.
            world_size: Number of processes.
        """
        self.images = images
        self.labels = labels
        self.epoch = epoch
        self.rank = rank
        self.world_size = world_size
        per_rank = -(-len(images) // world_size)
        self.num_batches = -(-per_rank // batch_size)

    def __len__(self) -> int:
        """Batches of an epoch; the size also keeps Lightning from prefetching."""
        return self.num_batches

    def __iter__(self) -> Iterator[LabelledImages]:
        """One epoch, a function of the epoch's number alone."""
        indices = torch.arange(len(self.images))
        if self.epoch is not None:
            # One order for all ranks, of which each takes its share.
            indices = torch.randperm(len(indices), generator=self.epoch.stream("order"))
            drawing = self.epoch.stream("images", self.rank)
        for batch in indices[self.rank :: self.world_size].tensor_split(self.num_batches):
            images = self.images[batch]
            if self.epoch is not None:
                images = self.epoch.draw(images, drawing)
            yield images[:, None].float().div_(255), self.labels[batch]


class MNISTDataModule(LightningDataModule):
    """Handwritten digits: the first 54,000 train, the next 6,000 validate, 10,000 test.

    With `image_size` above 28 every digit stands at a place drawn anew every epoch
    (translated MNIST); with `clutter` pieces of other digits are strewn around it.
    The validation and test images are drawn once and for all.
    """

    num_classes = 10

    def __init__(
        self,
        data_dir: str = "data",
        batch_size: int = 128,
        image_size: int = DIGIT_SIZE,
        clutter: int = 0,
        max_shift: int = 0,
        validation_images: int = 6_000,
        seed: int = 0,
    ) -> None:
        """Check the arguments; nothing is read yet.

        Args:
            data_dir: Folder with torchvision's `MNIST/raw`; fetched into it if missing.
            batch_size: Images of a batch, on each rank.
            image_size: Width and height of the images, pixels.
            clutter: Pieces of 8 × 8 pixels of other digits strewn over each image.
            max_shift: Training digits are moved by up to so many pixels along each axis.
            validation_images: Images at the end of the training set that validate.
            seed: Of the order, the places and the clutter of training.

        Raises:
            ConfigurationError: If a number makes no sense.
        """
        super().__init__()
        if image_size < DIGIT_SIZE:
            raise ConfigurationError(
                f"image_size {image_size} cannot hold a digit: use {DIGIT_SIZE} or more"
            )
        if batch_size < 1 or clutter < 0 or max_shift < 0:
            raise ConfigurationError(
                f"MNIST needs batch_size >= 1, clutter >= 0 and max_shift >= 0, not "
                f"{batch_size}, {clutter} and {max_shift}"
            )
        self.data_dir = Path(data_dir)
        self.batch_size = batch_size
        self.image_size = image_size
        self.clutter = clutter
        self.max_shift = max_shift
        self.validation_images = validation_images
        self.seed = seed
        self.splits: dict[str, tuple[Tensor, Tensor]] = {}

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        return (1, self.image_size, self.image_size)

    def prepare_data(self) -> None:
        """Fetch MNIST if it is not there."""
        load_mnist(self.data_dir, train=True)
        load_mnist(self.data_dir, train=False)

    def setup(self, stage: str) -> None:
        """Read MNIST once."""
        if self.splits:
            return
        digits, labels = load_mnist(self.data_dir, train=True)
        split = len(digits) - self.validation_images
        if not 0 < split < len(digits):
            raise ConfigurationError(
                f"validation_images {self.validation_images} leaves nothing to train or to "
                f"validate on: {self.data_dir} holds {len(digits)} training images"
            )
        test_digits, test_labels = load_mnist(self.data_dir, train=False)
        self.splits = {
            "train": (digits[:split], labels[:split]),
            "validate": (self.evaluation_images(digits[split:], "validate"), labels[split:]),
            "test": (self.evaluation_images(test_digits, "test"), test_labels),
        }

    def evaluation_images(self, digits: Tensor, stage: str) -> Tensor:
        """The images of these digits that every run is measured on."""
        return self.draw(digits, digits, torch_stream(EVALUATION_SEED, stream=f"mnist {stage}"))

    def draw(self, digits: Tensor, pool: Tensor, generator: torch.Generator) -> Tensor:
        """Images [B, H, W] of digits [B, 28, 28], with clutter cut from the pool."""
        if self.image_size == DIGIT_SIZE and not self.clutter:
            return digits
        images = place(digits, self.image_size, generator)
        add_clutter(images, pool, self.clutter, generator)
        return images

    def draw_for_training(self, digits: Tensor, generator: torch.Generator) -> Tensor:
        """Like `draw`, of shifted digits and with clutter from the training set."""
        if self.max_shift:
            digits = shift(digits, self.max_shift, generator)
        return self.draw(digits, self.splits["train"][0], generator)

    def train_dataloader(self) -> DataLoader[LabelledImages]:
        """Shuffled batches, newly drawn in every epoch."""
        epoch = EpochOfImages(self.draw_for_training, self.seed, self.current_epoch)
        return self.batches("train", epoch)

    def val_dataloader(self) -> DataLoader[LabelledImages]:
        """The validation images."""
        return self.batches("validate")

    def test_dataloader(self) -> DataLoader[LabelledImages]:
        """The test images."""
        return self.batches("test")

    def predict_dataloader(self) -> DataLoader[LabelledImages]:
        """The test images, to look at."""
        return self.batches("test")

    def current_epoch(self) -> int:
        """The Trainer's, 0 without one."""
        return self.trainer.current_epoch if self.trainer else 0

    def batches(self, split: str, epoch: EpochOfImages | None = None) -> DataLoader[LabelledImages]:
        """A loader of whole batches of one split, this rank's share of them."""
        rank = self.trainer.global_rank if self.trainer else 0
        world_size = self.trainer.world_size if self.trainer else 1
        images, labels = self.splits[split]
        dataset = ImageBatches(images, labels, self.batch_size, epoch, rank, world_size)
        return DataLoader(dataset, batch_size=None)


def load_mnist(data_dir: Path, train: bool) -> tuple[Tensor, Tensor]:
    """MNIST's training or test set, fetched first if it is not there.

    Args:
        data_dir: Folder with torchvision's `MNIST/raw`.
        train: Which of the two.

    Returns:
        Images [D, 28, 28] uint8 and labels [D] int64.

    Raises:
        ConfigurationError: If it is not there and cannot be fetched, or is not MNIST.
    """
    from torchvision.datasets import MNIST  # slow to import, and used here alone

    name = "training" if train else "test"
    names = [Path(resource).stem for resource, _ in MNIST.resources]
    if not all((data_dir / "MNIST" / "raw" / file).is_file() for file in names):
        try:
            MNIST(str(data_dir), train=train, download=True)
        except (OSError, RuntimeError) as error:
            said = one_line(str(error) or type(error).__name__)
            raise ConfigurationError(
                f"no MNIST in {data_dir} and it could not be fetched ({said}): "
                f"put torchvision's MNIST/raw there, or set data_dir to where it lies"
            ) from error
    try:
        dataset = MNIST(str(data_dir), train=train)
    except Exception as error:  # torchvision's parser fails in many ways on other files
        said = one_line(str(error) or type(error).__name__)
        raise ConfigurationError(
            f"the MNIST {name} files in {data_dir} are truncated or something else "
            f"({said}): remove {data_dir}/MNIST to have them fetched again"
        ) from error
    digits, labels = dataset.data, dataset.targets
    if digits.shape != (len(labels), DIGIT_SIZE, DIGIT_SIZE) or len(labels) == 0:
        raise ConfigurationError(
            f"the MNIST {name} files in {data_dir} hold {len(labels)} labels and images of shape "
            f"{tuple(digits.shape)}: remove {data_dir}/MNIST to have them fetched again"
        )
    return digits, labels
