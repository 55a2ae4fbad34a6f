"""GlimpsePictures writes valid pictures of the right glimpses."""

from pathlib import Path

import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import MLFlowLogger
from PIL import Image
from torch.utils.data import DataLoader, TensorDataset

from rl_lightning.callbacks.recurrent_attention.figures import (
    HEATMAP_BINS,
    foveated_views,
    location_counts,
    prepare,
)
from rl_lightning.callbacks.recurrent_attention.glimpse_pictures import GlimpsePictures
from rl_lightning.modules.recurrent_attention.image_classifiers import FullyConnectedClassifier
from rl_lightning.modules.recurrent_attention.ram import RecurrentAttentionModel
from rl_lightning.networks.glimpse import GlimpseSensor, GlimpseTrace
from rl_lightning.networks.recurrent_attention import RAMNetworkOptions
from rl_lightning.runtime.errors import ConfigurationError


def make() -> RecurrentAttentionModel:
    torch.manual_seed(0)
    return RecurrentAttentionModel(
        (1, 16, 16),
        4,
        RAMNetworkOptions(num_glimpses=3, glimpse_size=4, num_scales=2, hidden_size=16),
    )


def loader() -> DataLoader[tuple[torch.Tensor, ...]]:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(24, 1, 16, 16, generator=generator)
    return DataLoader(TensorDataset(images, torch.arange(24) % 4), batch_size=8)


def make_trainer(folder: Path, **kwargs: object) -> Trainer:
    return Trainer(
        accelerator="cpu",
        default_root_dir=folder,
        callbacks=[GlimpsePictures(num_images=2, every_n_epochs=2)],
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        num_sanity_val_steps=0,
        **kwargs,  # type: ignore[arg-type]
    )


def test_predict_writes_grids_animations_and_heatmaps(tmp_path: Path) -> None:
    make_trainer(tmp_path, logger=False).predict(make(), loader(), return_predictions=False)
    folder = tmp_path / "glimpses"
    names = {path.name for path in folder.iterdir()}
    assert names == {"right.png", "wrong.png", "right.gif", "wrong.gif", "heatmaps.png"}
    for path in folder.iterdir():
        with Image.open(path) as image:
            image.verify()
    with Image.open(folder / "wrong.gif") as animation:
        assert animation.n_frames == 3  # type: ignore[attr-defined]


class RecordingLogger(MLFlowLogger):
    """Records the names of the pictures, without a database."""

    def __init__(self) -> None:
        super().__init__(tracking_uri="sqlite:///:memory:")
        self.pictures: list[str] = []

    @property
    def experiment(self) -> "RecordingLogger":  # type: ignore[override]
        return self

    @property
    def run_id(self) -> str:
        return "run"

    def log_artifact(self, run_id: str, path: str, folder: str) -> None:
        assert Path(path).stat().st_size > 1_000
        self.pictures.append(f"{folder}/{Path(path).name}")

    def log_metrics(self, metrics: object, step: int | None = None) -> None: ...

    def log_hyperparams(self, params: object) -> None: ...

    def finalize(self, status: str = "success") -> None: ...


def test_training_puts_pictures_into_the_mlflow_run(tmp_path: Path) -> None:
    logger = RecordingLogger()
    make_trainer(tmp_path, logger=logger, max_epochs=3).fit(make(), loader(), loader())
    epochs = ("002", "003")  # every second epoch, and the last one
    assert logger.pictures == [
        f"glimpses/{kind}_{epoch}.png" for epoch in epochs for kind in ("epoch", "heatmaps")
    ]


def test_drawing_holds_images_centres_views_and_probabilities() -> None:
    model = make()
    images, labels = next(iter(loader()))
    with torch.no_grad():
        drawing = prepare(model.sensor, model.predict_step((images, labels), 0))
    assert drawing.widths == (4, 8)
    assert drawing.views.shape == (3, 8, 16, 16)
    assert drawing.centres[0].eq(8).all()
    torch.testing.assert_close(drawing.views[0, :, 6:10, 6:10], images[:, 0, 6:10, 6:10])
    torch.testing.assert_close(drawing.probabilities.sum(-1), torch.ones(3, 8))


def test_foveated_view_keeps_the_finest_resolution_seen_of_every_pixel() -> None:
    sensor = GlimpseSensor((1, 32, 32), 4, 2)
    images = torch.rand(2, 1, 32, 32)
    locations = torch.tensor([[[0.0, 0.0]] * 2, [[0.125, 0.0]] * 2])  # centres x = 16 and x = 18
    views = foveated_views(sensor, images, locations)
    assert views.shape == (2, 2, 1, 32, 32)
    first, second = views
    assert torch.equal(first[:, :, 14:18, 14:18], images[:, :, 14:18, 14:18])
    coarse = images[:, :, 12:14, 12:14].mean((-2, -1))
    torch.testing.assert_close(first[:, :, 12, 12], coarse)
    assert first[:, :, 0, 0].isnan().all()
    assert first[0].isnan().sum() == 32 * 32 - 8 * 8
    assert torch.equal(second[:, :, 14:18, 14:20], images[:, :, 14:18, 14:20])


def test_location_counts_are_rows_of_y_and_columns_of_x() -> None:
    counts = location_counts(torch.tensor([[[1.0, -1.0], [1.0, -1.0], [-1.0, 0.99]]]))
    assert counts.shape == (1, HEATMAP_BINS, HEATMAP_BINS)
    assert counts[0, 0, -1] == 2
    assert counts[0, -1, 0] == 1
    assert counts.sum() == 3


def test_models_without_glimpses_and_invalid_settings_are_refused(tmp_path: Path) -> None:
    control = FullyConnectedClassifier((1, 16, 16), 4)
    with pytest.raises(
        ConfigurationError, match="traces its glimpses, and FullyConnectedClassifier is not"
    ):
        make_trainer(tmp_path, logger=False).predict(control, loader())
    with pytest.raises(ConfigurationError, match="at least 1"):
        GlimpsePictures(num_images=0)


def test_trace_type_is_what_predict_gives() -> None:
    with torch.no_grad():
        assert isinstance(make().predict_step(next(iter(loader())), 0), GlimpseTrace)
