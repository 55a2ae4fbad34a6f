"""Draws the confusion matrix of a tested classifier."""

from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info

from rl_lightning.callbacks.needs import NeedsCallback
from rl_lightning.experience import HasConfusion
from rl_lightning.tracking.run_folder import run_folder, send_file


class ConfusionPicture(NeedsCallback):
    """Draws the confusion matrix of `test` as `confusion.png` in the run's folder and in MLflow.

    The matrix is that of the main protocol. Rows are the true classes, columns the predictions.
    """

    needs_of_module = HasConfusion

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw the matrix on rank 0."""
        assert isinstance(pl_module, HasConfusion)
        matrix: Any = pl_module.confusion(pl_module.protocols[0])
        counts = matrix.compute()  # sums over ranks, so every rank must call it
        if not trainer.is_global_zero:
            return
        from matplotlib.figure import Figure

        figure = Figure(figsize=(8, 8))
        matrix.plot(counts, ax=figure.subplots())
        path = run_folder(trainer) / "confusion.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=120)
        send_file(trainer, path)
        rank_zero_info(f"Confusion matrix: {path}")
