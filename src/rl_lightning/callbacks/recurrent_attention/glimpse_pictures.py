"""Draws the glimpses of the Recurrent Attention Model during training and in `predict`."""

from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from rl_lightning.callbacks.needs import NeedsCallback
from rl_lightning.callbacks.recurrent_attention.figures import (
    draw_grid,
    draw_heatmaps,
    location_counts,
    prepare,
    save_animation,
)
from rl_lightning.callbacks.schedule import is_due
from rl_lightning.networks.glimpse import GlimpseTrace, TracesGlimpses
from rl_lightning.runtime.constructors import require_range
from rl_lightning.tracking.run_folder import run_folder, send_file


class GlimpsePictures(NeedsCallback):
    """Draws the locations, the pixels seen so far and the class probabilities of each glimpse.

    During training the pictures are written to the folder `glimpses` of the run and sent to
    MLflow. `predict` writes to this folder of the run whose checkpoint is used: examples of
    `right` and `wrong` predictions, each as a PNG grid and as a GIF, and `heatmaps.png` of the
    locations.
    """

    needs_of_module = TracesGlimpses

    def __init__(self, num_images: int = 6, every_n_epochs: int = 10) -> None:
        """Set how much is drawn.

        Args:
            num_images: Images in each picture.
            every_n_epochs: Epochs between two pictures in training; the last epoch always has one.

        Raises:
            ConfigurationError: If either is below 1.
        """
        require_range(1, num_images=num_images, every_n_epochs=every_n_epochs)
        self.num_images = num_images
        self.every_n_epochs = every_n_epochs
        self.traces: dict[str, list[GlimpseTrace]] = {}
        self.counts: Tensor | None = None

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Draw the first validation images after every `every_n_epochs` epochs."""
        if batch_idx > 0 or not is_due(trainer, self.every_n_epochs):
            return
        epoch = trainer.current_epoch + 1
        assert isinstance(pl_module, TracesGlimpses)
        with trainer.precision_plugin.val_step_context():
            trace = pl_module.predict_step(batch, batch_idx)
        figures = {
            f"epoch_{epoch:03d}.png": draw_grid(
                prepare(pl_module.sensor, _choose(trace, slice(self.num_images))), f"epoch {epoch}"
            ),
            f"heatmaps_{epoch:03d}.png": draw_heatmaps(location_counts(trace.locations)),
        }
        folder = _folder(trainer)
        for name, figure in figures.items():
            figure.savefig(folder / name)
            send_file(trainer, folder / name)

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remove the traces and counts of an earlier `predict`."""
        self.traces = {"right": [], "wrong": []}
        self.counts = None

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep the first right and the first wrong predictions, and count all locations."""
        trace: GlimpseTrace = outputs
        counts = location_counts(trace.locations)
        self.counts = counts if self.counts is None else self.counts + counts
        right = trace.probabilities[-1].argmax(-1) == trace.labels
        for name, chosen in (("right", right), ("wrong", ~right)):
            missing = self.num_images - sum(len(kept.labels) for kept in self.traces[name])
            if missing > 0 and chosen.any():
                self.traces[name].append(_choose(trace, chosen.nonzero()[:missing, 0]))

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the pictures."""
        if not trainer.is_global_zero or self.counts is None:
            return
        assert isinstance(pl_module, TracesGlimpses)
        folder = _folder(trainer)
        draw_heatmaps(self.counts).savefig(folder / "heatmaps.png")
        for name, traces in self.traces.items():
            if traces:
                self._write(folder, name, pl_module, _join(traces))
        rank_zero_info(f"Pictures of glimpses: {folder}")

    def _write(self, folder: Path, name: str, model: TracesGlimpses, trace: GlimpseTrace) -> None:
        drawing = prepare(model.sensor, trace)
        draw_grid(drawing, f"{name} predictions").savefig(folder / f"{name}.png", dpi=120)
        save_animation(drawing, folder / f"{name}.gif")


def _folder(trainer: Trainer) -> Path:
    folder = run_folder(trainer) / "glimpses"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _choose(trace: GlimpseTrace, which: Tensor | slice) -> GlimpseTrace:
    return GlimpseTrace(
        trace.images[which],
        trace.labels[which],
        trace.locations[:, which],
        trace.probabilities[:, which],
    )


def _join(traces: list[GlimpseTrace]) -> GlimpseTrace:
    images, labels, locations, probabilities = zip(*traces, strict=True)
    return GlimpseTrace(
        torch.cat(images), torch.cat(labels), torch.cat(locations, 1), torch.cat(probabilities, 1)
    )
