"""ConfusionPicture writes the confusion matrix of the predictions."""

from pathlib import Path

import torch
from lightning.pytorch import Trainer
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from rl_lightning.callbacks.recurrent_attention.confusion_picture import ConfusionPicture
from rl_lightning.modules import A2C
from rl_lightning.modules.recurrent_attention.image_classifiers import FullyConnectedClassifier
from specs import spec


class AlwaysTwo(FullyConnectedClassifier):
    """Predicts class 2 for every image."""

    def forward(self, images: Tensor) -> Tensor:
        return torch.eye(4)[2].expand(len(images), 4)


def make_trainer(folder: Path) -> Trainer:
    return Trainer(
        accelerator="cpu",
        default_root_dir=folder,
        logger=False,
        callbacks=[ConfusionPicture()],
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
    )


def test_it_draws_the_true_classes_as_rows(tmp_path: Path, drawn: list[Figure]) -> None:
    labels = torch.tensor([0, 0, 0, 1, 2])
    data = DataLoader(TensorDataset(torch.zeros(5, 1, 4, 4), labels), batch_size=2)
    make_trainer(tmp_path).test(AlwaysTwo((1, 4, 4), 4), data, verbose=False)

    with Image.open(tmp_path / "confusion.png") as image:
        image.verify()
    (axes,) = drawn[0].axes
    counts = torch.tensor([[float(v) for v in row] for row in axes.images[0].get_array()])
    expected = torch.zeros(4, 4)
    expected[:, 2] = torch.tensor([3.0, 1.0, 1.0, 0.0])
    torch.testing.assert_close(counts, expected)


def test_modules_that_are_no_classifiers_are_refused() -> None:
    said = "that has a confusion matrix of its test, and A2C is not one: take ConfusionPicture out"
    assert said in (ConfusionPicture.misfit(A2C(spec(num_actions=2)), None) or "")
