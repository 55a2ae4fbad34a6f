"""Image classifiers: their base class, and two plain networks to compare RAM with."""

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics import MeanMetric
from torchmetrics.classification import MulticlassConfusionMatrix

from rl_lightning.experience import LabelledImages
from rl_lightning.lightning_adapter.modules import should_log
from rl_lightning.modules.learner import Learner
from rl_lightning.runtime.errors import ConfigurationError


def error_and_standard_error(confusion: Tensor) -> tuple[Tensor, Tensor]:
    """Compute the error rate e and its binomial standard error √(e (1 − e) / n).

    Args:
        confusion: [K, K] counts. Rows are the true classes.

    Returns:
        Error rate and standard error, [] float64.
    """
    total = confusion.sum().double()
    error = 1 - confusion.diagonal().sum() / total
    return error, torch.sqrt(error * (1 - error) / total)


class ImageClassifier(Learner):
    """Trains with the cross-entropy and logs error rates. Subclasses define `network`.

    Figures of training are logged every `log_every_n_steps` updates, over the images since then.
    """

    algorithm = "classifier"

    batch_type = LabelledImages
    takes_rounded_batches = True
    monitor = ("val/error", "min")
    architecture: ClassVar[tuple[str, ...]] = ("image_shape", "num_classes")
    carried: ClassVar[tuple[str, ...]] = ("right_answers", "answers")
    counts: ClassVar[tuple[str, ...]] = ("images_seen",)
    network: nn.Module

    def __init__(
        self,
        image_shape: tuple[int, ...],
        num_classes: int,
        optimizer: OptimizerCallable,
        lr_scheduler: LRSchedulerCallable | None,
        protocols: tuple[str, ...] = ("error",),
    ) -> None:
        """Make the metrics. Subclasses call `save_hyperparameters`.

        Args:
            image_shape: (C, H, W), from the datamodule.
            num_classes: K, from the datamodule.
            optimizer: Makes the optimizer from the parameters.
            lr_scheduler: Makes the learning rate's schedule, which is stepped after every epoch.
            protocols: Names of the error rates that `test` reports; the first is the main one.
        """
        super().__init__()
        self.image_shape = tuple(image_shape)
        self.num_classes = num_classes
        self.example_input_array = torch.zeros(2, *image_shape)
        self.optimizer = optimizer
        self.lr_scheduler = lr_scheduler
        self.protocols = protocols
        # Plain sums, because a torchmetrics object would take 0.2 ms at every update.
        self.right_answers = torch.zeros(())
        self.answers = 0
        self.val_error = MeanMetric()
        self.confusions = nn.ModuleDict(
            {name: MulticlassConfusionMatrix(num_classes) for name in self.protocols}
        )
        self.images_seen: Tensor
        # An integer, because the precision of the run does not cast integers.
        self.register_buffer("images_seen", torch.zeros((), dtype=torch.int64))

    def forward(self, images: Tensor) -> Tensor:
        """Images [B, C, H, W] to logits [B, K]."""
        logits: Tensor = self.network(images)
        return logits

    def training_loss(
        self, images: Tensor, labels: Tensor
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Compute the loss [], whether each prediction is right [N] bool, and metrics to log."""
        logits = self(images)
        return F.cross_entropy(logits, labels), logits.argmax(-1) == labels, {}

    def evaluate(self, images: Tensor) -> Mapping[str, Tensor]:
        """Compute class scores [B, K] for each of `protocols`."""
        return {"error": self(images)}

    def training_step(self, batch: LabelledImages, batch_idx: int) -> Tensor:
        """Compute the loss of one batch, and log the metrics of training."""
        images, labels = batch
        if batch_idx == 0:
            self.right_answers, self.answers = torch.zeros_like(self.right_answers), 0
        loss, right, figures = self.training_loss(images, labels)
        self.right_answers = self.right_answers + right.sum()
        self.answers += len(right)
        self.images_seen += len(labels) * self.trainer.world_size
        if should_log(self.trainer):
            figures |= {"loss": loss.detach(), "accuracy": self.right_answers / self.answers}
            named = {f"train/{name}": value for name, value in figures.items()}
            self.log_dict({**named, "step": self.images_seen.double()}, sync_dist=True)
            self.right_answers = torch.zeros_like(self.right_answers)
            self.answers = 0
        return loss

    def validation_step(self, batch: LabelledImages, batch_idx: int) -> None:
        """Count the errors under the main protocol."""
        images, labels = batch
        self.val_error.update((self(images).argmax(-1) != labels).float())

    def on_validation_epoch_end(self) -> None:
        """Log `val/error`."""
        metrics = {"val/error": self.val_error.compute(), "step": self.images_seen.double()}
        self.log_dict(metrics, sync_dist=True)
        self.val_error.reset()

    def test_step(self, batch: LabelledImages, batch_idx: int) -> None:
        """Count the predictions under every protocol."""
        images, labels = batch
        for name, scores in self.evaluate(images).items():
            self.confusion(name).update(scores, labels)

    def predict_step(self, batch: LabelledImages, batch_idx: int) -> Any:
        """The probabilities of the classes [B, K]."""
        probabilities: Tensor = self(batch.images).softmax(-1)
        return probabilities

    def on_test_epoch_end(self) -> None:
        """Log each error rate with its standard error, and the accuracy of each class."""
        for name in self.protocols:
            error, standard_error = error_and_standard_error(self.confusion(name).compute())
            errors = {f"test/{name}": error, f"test/{name}_stderr": standard_error}
            self.log_dict(errors, sync_dist=True)
        counts = self.confusion(self.protocols[0]).compute()
        per_class = counts.diagonal() / counts.sum(1)
        named = {f"test/accuracy_{k}": value for k, value in enumerate(per_class)}
        self.log_dict({**named, "step": self.images_seen.double()}, sync_dist=True)

    def confusion(self, protocol: str) -> MulticlassConfusionMatrix:
        """The confusion matrix for one of `protocols`."""
        metric = self.confusions[protocol]
        assert isinstance(metric, MulticlassConfusionMatrix)
        return metric

    def on_test_epoch_start(self) -> None:
        """Reset the counts of earlier tests."""
        for name in self.protocols:
            self.confusion(name).reset()

    def configure_optimizers(self) -> Any:
        """The optimizer and, if there is one, its learning-rate schedule."""
        optimizer = self.optimizer(p for p in self.parameters() if p.requires_grad)
        return self.with_schedule(optimizer, self.lr_scheduler)


class FullyConnectedClassifier(ImageClassifier):
    """Two hidden layers of ReLU units, as in the paper's "FC, 2 layers (256 hiddens each)"."""

    def __init__(
        self,
        image_shape: tuple[int, ...],
        num_classes: int,
        hidden_size: int = 256,
        optimizer: OptimizerCallable = torch.optim.Adam,
        lr_scheduler: LRSchedulerCallable | None = None,
    ) -> None:
        """See `ImageClassifier`."""
        super().__init__(image_shape, num_classes, optimizer, lr_scheduler)
        self.save_hyperparameters(ignore=["optimizer", "lr_scheduler"])
        self.network = nn.Sequential(
            nn.Flatten(),
            nn.Linear(math.prod(image_shape), hidden_size),
            nn.ReLU(),
            nn.Linear(hidden_size, hidden_size),
            nn.ReLU(),
            nn.Linear(hidden_size, num_classes),
        )


class ConvolutionalClassifier(ImageClassifier):
    """The paper's "Convolutional, 2 layers": 8 filters of 10 × 10 and stride 5, then 256 units."""

    def __init__(
        self,
        image_shape: tuple[int, ...],
        num_classes: int,
        num_filters: int = 8,
        filter_size: int = 10,
        stride: int = 5,
        hidden_size: int = 256,
        optimizer: OptimizerCallable = torch.optim.Adam,
        lr_scheduler: LRSchedulerCallable | None = None,
    ) -> None:
        """See `ImageClassifier`.

        Raises:
            ConfigurationError: If the filters are larger than the image.
        """
        super().__init__(image_shape, num_classes, optimizer, lr_scheduler)
        self.save_hyperparameters(ignore=["optimizer", "lr_scheduler"])
        channels, height, width = image_shape
        if filter_size > min(height, width):
            raise ConfigurationError(
                f"filter_size {filter_size} is larger than the image of {width}x{height}: lower it"
            )
        rows, columns = ((size - filter_size) // stride + 1 for size in (height, width))
        self.network = nn.Sequential(
            nn.Conv2d(channels, num_filters, filter_size, stride),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(num_filters * rows * columns, hidden_size),
            nn.ReLU(),
            nn.Linear(hidden_size, num_classes),
        )
