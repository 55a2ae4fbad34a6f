"""What the terminal shows during training: a bar, and one line for each validation."""

import sys
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import TQDMProgressBar
from lightning.pytorch.callbacks.progress.tqdm_progress import Tqdm
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_only

from rl_lightning.callbacks.needs import NeedsCallback
from rl_lightning.lightning_adapter.trainers import round_tables


class TrainingProgress(TQDMProgressBar):
    """Lightning's progress bar with environment steps and returns, in 80 columns.

    If the output is not a terminal, there is no bar.
    """

    BAR_FORMAT = "{desc} {percentage:3.0f}%|{bar:8}| {elapsed}{postfix}"

    def __init__(self, refresh_rate: int = 25, **options: Any) -> None:
        super().__init__(refresh_rate, **options)
        self._shown: dict[str, str] = {}

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Disable the bar if the output is a file or a pipe."""
        super().setup(trainer, pl_module, stage)
        if not sys.stdout.isatty():
            self.disable()

    def get_metrics(
        self, trainer: Trainer, pl_module: LightningModule
    ) -> dict[str, int | str | float | dict[str, float]]:
        """The metrics of the bar in a short form, and the last validation."""
        # Lightning forgets the metrics at the end of an epoch, and an epoch may be shorter than the
        # interval at which they are logged.
        self._shown |= {
            name.removeprefix("train/").replace("env_steps", "steps"): _short(value)
            for name, value in trainer.progress_bar_metrics.items()
        }
        monitor = getattr(pl_module, "monitor", None)
        if monitor is not None and monitor[0] in trainer.callback_metrics:
            self._shown["val"] = _short(float(trainer.callback_metrics[monitor[0]]))
        return {**self._shown}


class ValidationLines(NeedsCallback):
    """Prints one line for each validation in training, and rounds the tables of evaluations."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Round the figures of Lightning's tables, which show all digits of a float."""
        super().setup(trainer, pl_module, stage)
        round_tables(trainer)

    @rank_zero_only
    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the step and the validation metric."""
        monitor = getattr(pl_module, "monitor", None)
        metrics = trainer.callback_metrics
        fitting = trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking
        if not fitting or monitor is None or monitor[0] not in metrics:
            return
        name = monitor[0]
        deviation = f" ± {metrics[f'{name}_std']:.4g}" if f"{name}_std" in metrics else ""
        step = int(metrics.get("step", trainer.global_step))
        line = f"epoch {trainer.current_epoch}: {step:,} steps, {name} {metrics[name]:.4g}"
        bar = trainer.progress_bar_callback
        shown = isinstance(bar, TQDMProgressBar) and bar.is_enabled
        (Tqdm.write if shown else print)(line + deviation, file=sys.stdout)
        sys.stdout.flush()


def _short(value: Any) -> str:
    number = float(value)
    return Tqdm.format_sizeof(number) if abs(number) >= 1000 else f"{number:.3g}"
