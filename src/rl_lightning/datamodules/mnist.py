"""MNIST, plain, translated and cluttered. A batch is an index into one uint8 tensor of images."""

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from rl_lightning.datamodules.source import (
    Batches,
    SourceDataModule,
    WholeBatchLoader,
    batches_of_an_epoch,
)
from rl_lightning.experience import LabelledImages
from rl_lightning.images.clutter import add_clutter, place, shift
from rl_lightning.runtime.constructors import require_range
from rl_lightning.runtime.errors import ConfigurationError, one_line
from rl_lightning.runtime.seeding import torch_stream

DIGIT_SIZE = 28
# The validation and test images do not depend on the run's seed, so that runs can be compared.
EVALUATION_SEED = 0


def as_images(digits: Tensor) -> Tensor:
    """Convert bytes [B, H, W] to floats [B, 1, H, W] in [0, 1]."""
    return digits[:, None].float().div_(255)


class MNISTDataModule(SourceDataModule):
    """Handwritten digits: 54,000 for training, 6,000 for validation and 10,000 for the test.

    With `image_size` above 28 every digit is placed at a random position (translated MNIST), and
    with `clutter` pieces of other digits are added to the image. Training images are drawn again
    in every epoch. Validation and test images are drawn once and are the same for all runs.
    """

    batch_type = LabelledImages
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
        """Check the arguments. The files are read later, in `setup`.

        Args:
            data_dir: Folder with torchvision's `MNIST/raw`. If it is missing, it is downloaded.
            batch_size: Images of a batch, on each rank.
            image_size: Width and height of the images, pixels.
            clutter: Number of 8 × 8 pixel pieces of other digits that are added to each image.
            max_shift: Largest shift of a training digit along each axis, pixels.
            validation_images: Number of images at the end of the training set that are used for
                validation.
            seed: Seed of the order, the positions and the clutter of training images.

        Raises:
            ConfigurationError: If an argument is out of range.
        """
        super().__init__(seed)
        self.save_hyperparameters()
        require_range(DIGIT_SIZE, image_size=image_size)
        require_range(1, batch_size=batch_size)
        require_range(0, clutter=clutter, max_shift=max_shift)
        self.data_dir = Path(data_dir)
        self.batch_size = batch_size
        self.image_size = image_size
        self.clutter = clutter
        self.max_shift = max_shift
        self.validation_images = validation_images
        kind = "cluttered-" if clutter else "translated-" if image_size > DIGIT_SIZE else ""
        self.task = f"{kind}MNIST-{image_size}" if kind else "MNIST"
        self._ordered_epoch = -1
        self._kept_order = torch.empty(0, dtype=torch.int64)
        self.splits: dict[str, tuple[Tensor, Tensor]] = {}

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        return (1, self.image_size, self.image_size)

    def prepare_data(self) -> None:
        """Download MNIST if it is missing."""
        load_mnist(self.data_dir, train=True)
        load_mnist(self.data_dir, train=False)

    def setup(self, stage: str) -> None:
        """Read MNIST at the first call."""
        super().setup(stage)
        if self.splits:
            return
        digits, labels = load_mnist(self.data_dir, train=True)
        split = len(digits) - self.validation_images
        if not 0 < split < len(digits):
            raise ConfigurationError(
                f"validation_images {self.validation_images} leaves no images for training or none "
                f"for validation: choose less than the {len(digits)} images of {self.data_dir}"
            )
        test_digits, test_labels = load_mnist(self.data_dir, train=False)
        self.splits = {
            "train": (digits[:split], labels[:split]),
            "validate": (self.evaluation_images(digits[split:], "validate"), labels[split:]),
            "test": (self.evaluation_images(test_digits, "test"), test_labels),
        }

    def evaluation_images(self, digits: Tensor, stage: str) -> Tensor:
        """The images of these digits that every run is evaluated on."""
        return self.draw(digits, digits, torch_stream(EVALUATION_SEED, stream=f"mnist {stage}"))

    def draw(self, digits: Tensor, pool: Tensor, generator: torch.Generator) -> Tensor:
        """Draw images [B, H, W] of digits [B, 28, 28], with clutter cut from the digits `pool`."""
        if self.image_size == DIGIT_SIZE and not self.clutter:
            return digits
        images = place(digits, self.image_size, generator)
        add_clutter(images, pool, self.clutter, generator)
        return images

    def batches_of(self, stage: str) -> int | None:
        """Batches of an epoch of "train" or "validate" on each rank."""
        images = self.validation_images
        if stage == "train":
            images = len(load_mnist(self.data_dir, train=True)[0]) - images
        return batches_of_an_epoch(images, self.batch_size, self.world_size)

    def train_dataloader(self) -> WholeBatchLoader[LabelledImages]:
        """Batches in shuffled order, the same number on every rank."""
        num_images = len(self.splits["train"][0])
        self.updates_per_epoch = batches_of_an_epoch(num_images, self.batch_size, self.world_size)
        return super().train_dataloader()

    def next_batch(self) -> LabelledImages:
        """The next images of a shuffled order, which differs from epoch to epoch.

        The images depend on the number of batches yielded so far and not on the Trainer's count
        of epochs, so that a run can be resumed inside an epoch.
        """
        images, labels = self.splits["train"]
        epoch, batch = divmod(self.updates, self.updates_per_epoch)
        indices = self._order(epoch).tensor_split(self.updates_per_epoch)[batch]
        digits, generator = images[indices], self.torch_stream("mnist images")
        if self.max_shift:
            digits = shift(digits, self.max_shift, generator)
        drawn = self.draw(digits, images, generator)
        return LabelledImages(as_images(drawn), labels[indices])

    def _order(self, epoch: int) -> Tensor:
        """This rank's share of an epoch's image order. All ranks divide the same order."""
        if self._ordered_epoch != epoch:
            stream = torch_stream(self.seed, update=epoch, stream="mnist order")
            order = torch.randperm(len(self.splits["train"][0]), generator=stream)
            self._kept_order = order[self.rank :: self.world_size]
            self._ordered_epoch = epoch
        return self._kept_order

    def val_dataloader(self) -> DataLoader[LabelledImages]:
        """The validation images."""
        return self._batches("validate")

    def test_dataloader(self) -> DataLoader[LabelledImages]:
        """The test images."""
        return self._batches("test")

    def predict_dataloader(self) -> DataLoader[LabelledImages]:
        """The test images."""
        return self._batches("test")

    def _batches(self, split: str) -> DataLoader[LabelledImages]:
        """This rank's share of the images of a split, with as many batches as every other rank."""
        images, labels = self.splits[split]
        mine = torch.arange(len(images))[self.rank :: self.world_size]
        number = batches_of_an_epoch(len(images), self.batch_size, self.world_size)

        def make() -> Iterator[LabelledImages]:
            for batch in mine.tensor_split(number):
                yield LabelledImages(as_images(images[batch]), labels[batch])

        return WholeBatchLoader(Batches(make, number))


def load_mnist(data_dir: Path, train: bool) -> tuple[Tensor, Tensor]:
    """Load MNIST's training or test set, and download it first if it is missing.

    Args:
        data_dir: Folder with torchvision's `MNIST/raw`.
        train: Whether to load the training set rather than the test set.

    Returns:
        Images [D, 28, 28] uint8 and labels [D] int64.

    Raises:
        ConfigurationError: If it is missing and cannot be downloaded, or if it is not MNIST.
    """
    from torchvision.datasets import MNIST  # imported here, because the import is slow

    names = [Path(resource).stem for resource, _ in MNIST.resources]
    is_missing = not all((data_dir / "MNIST" / "raw" / name).is_file() for name in names)
    try:
        dataset = MNIST(str(data_dir), train=train, download=True)  # only if it is missing
        digits, labels = dataset.data, dataset.targets
        if digits.shape != (len(labels), DIGIT_SIZE, DIGIT_SIZE) or len(labels) == 0:
            shape = tuple(digits.shape)
            raise ValueError(f"they hold {len(labels)} labels and images of shape {shape}")
    except Exception as error:  # torchvision's download and its parser fail in many ways
        reason = one_line(str(error) or type(error).__name__)
        if is_missing:
            raise ConfigurationError(
                f"there is no MNIST in {data_dir}, and it could not be downloaded ({reason}): "
                f"put torchvision's MNIST/raw there, or set data_dir to the folder that has it"
            ) from error
        raise ConfigurationError(
            f"the MNIST {'training' if train else 'test'} files in {data_dir} are truncated or are "
            f"not MNIST ({reason}): remove {data_dir}/MNIST to download them again"
        ) from error
    return digits, labels
