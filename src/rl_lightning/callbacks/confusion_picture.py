"""The confusion matrix of a tested classifier, to look at."""

from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info

from rl_lightning.callbacks.tracking import run_folder, send_file
from rl_lightning.errors import ConfigurationError
from rl_lightning.modules.image_classifiers import ImageClassifier


class ConfusionPicture(Callback):
    """Draws which digits `test` took for which: `confusion.png` in the run's folder and in MLflow.

    Of the main protocol; rows are the true classes, columns the answers.
    """

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse a model that names no classes.

        Raises:
            ConfigurationError: If the model is not an ImageClassifier.
        """
        if not isinstance(pl_module, ImageClassifier):
            raise ConfigurationError(
                f"ConfusionPicture cannot draw {type(pl_module).__name__}, which names no classes: "
                "take it out of trainer.callbacks"
            )

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw."""
        assert isinstance(pl_module, ImageClassifier)
        matrix = pl_module.confusion(pl_module.protocols[0])
        counts = matrix.compute()  # on every rank: the counts are summed over them
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
