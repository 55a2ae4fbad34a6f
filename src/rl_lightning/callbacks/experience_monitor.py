"""Logs returns, counts and speeds of training."""

import time
from typing import Any

import torch
from lightning import LightningModule, Trainer

from rl_lightning.callbacks.needs import NeedsCallback
from rl_lightning.experience import HasStatistics
from rl_lightning.lightning_adapter.modules import should_log


class ExperienceMonitor(NeedsCallback):
    """Logs returns, counts and speeds of training, at the logger's interval.

    It also sets the x-axis of all metrics to environment steps. Speeds exclude the time that
    validation and checkpoints take.
    """

    needs_of_data = HasStatistics

    def __init__(self) -> None:
        self._env_steps = self._updates = 0
        self._time = self._stopped = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock, so that the time before an epoch is not counted.

        A resumed epoch has `on_train_start` and no `on_train_epoch_start`.
        """
        self._start_clock(trainer, _env_steps(trainer))

    on_train_epoch_start = on_train_start

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note when the validation starts."""
        self._stopped = time.perf_counter()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Exclude the time of this validation, which may be inside an epoch."""
        self._time += time.perf_counter() - self._stopped

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Log at every `log_every_n_steps`-th update."""
        if not should_log(trainer):
            return
        seconds = time.perf_counter() - self._time
        statistics = _statistics(trainer)
        env_steps = int(statistics.pop("env_steps"))
        updates_per_second = (trainer.global_step - self._updates) / seconds
        steps_per_second = (env_steps - self._env_steps) / seconds
        # Sent to the loggers directly, as Lightning's LearningRateMonitor does, because Lightning
        # processes every metric of `pl_module.log` again at every update, which costs time.
        for logger in trainer.loggers:
            logger.log_metrics(
                {
                    **statistics,
                    "speed/env_steps_per_second": steps_per_second,
                    "speed/updates_per_second": updates_per_second,
                },
                step=env_steps,
            )
        trainer.callback_metrics.update(
            {name: torch.tensor(value) for name, value in statistics.items()}
        )
        on_bar: dict[str, Any] = {"env_steps": _step(env_steps), "steps/s": steps_per_second}
        if "train/return" in statistics:
            on_bar["return"] = statistics["train/return"]
        pl_module.log_dict(on_bar, prog_bar=True, logger=False)
        pl_module.log("step", _step(env_steps))
        self._start_clock(trainer, env_steps)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the metrics at the current environment step, or at that of the checkpoint."""
        pl_module.log("step", _step(_env_steps(trainer)), sync_dist=True)

    on_test_epoch_end = on_validation_epoch_end

    def _start_clock(self, trainer: Trainer, env_steps: int) -> None:
        self._env_steps = env_steps
        self._time = time.perf_counter()
        self._updates = trainer.global_step


def _statistics(trainer: Trainer) -> dict[str, float]:
    data: HasStatistics = trainer.datamodule  # type: ignore[attr-defined]
    return data.statistics()


def _env_steps(trainer: Trainer) -> int:
    return int(_statistics(trainer)["env_steps"])


def _step(env_steps: int) -> torch.Tensor:
    # Lightning converts Python numbers to float32, which is exact only up to 2²⁴, so pass float64.
    return torch.tensor(env_steps, dtype=torch.float64)
