"""How experience and updates go on, beside the losses."""

import time
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer


class ExperienceMonitor(Callback):
    """Logs returns, counts and speeds of training, at the logger's interval.

    Sets the x-axis of everything that is logged with it to environment steps. Speeds
    leave out the time that validation and checkpoints take.
    """

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock anew after whatever stood between two epochs."""
        self._start_clock(trainer)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Log at every `log_every_n_steps`-th update."""
        if (batch_idx + 1) % trainer.log_every_n_steps:
            return
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        seconds = time.perf_counter() - self._time
        env_steps = data.collector.env_steps
        statistics = data.statistics()
        self.log_dict(statistics, prog_bar=False)
        if "train/return" in statistics:
            self.log("return", statistics["train/return"], prog_bar=True, logger=False)
        self._log_step(env_steps)
        self.log("env_steps", float(env_steps), prog_bar=True, logger=False)
        steps_per_second = (env_steps - self._env_steps) / seconds
        self.log("steps/s", steps_per_second, prog_bar=True, logger=False)
        self.log("speed/env_steps_per_second", steps_per_second)
        updates = trainer.global_step - self._updates
        self.log("speed/updates_per_second", updates / seconds)
        self._start_clock(trainer)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the validation at its place on the x-axis."""
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        if trainer.training:
            self._log_step(data.collector.env_steps)

    def _start_clock(self, trainer: Trainer) -> None:
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        self._time = time.perf_counter()
        self._env_steps = data.collector.env_steps
        self._updates = trainer.global_step

    def _log_step(self, env_steps: int) -> None:
        # Lightning turns Python numbers into float32, which counts to 2²⁴ only.
        self.log("step", torch.tensor(env_steps, dtype=torch.float64))
