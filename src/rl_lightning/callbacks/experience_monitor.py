"""How experience and updates go on, beside the losses."""

import time
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn

from rl_lightning.callbacks.needs import NeedsCallback
from rl_lightning.experience import HasStatistics
from rl_lightning.metrics.logging import is_logging


class ExperienceMonitor(NeedsCallback):
    """Logs returns, counts and speeds of training, at the logger's interval.

    Sets the x-axis of everything that is logged with it to environment steps. Speeds
    leave out the time that validation and checkpoints take.
    """

    needs_of_data = HasStatistics

    def __init__(self) -> None:
        self._env_steps = self._updates = 0
        self._time = self._stopped = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock; a run that goes on inside an epoch starts here alone."""
        self._start_clock(trainer, _env_steps(trainer))

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock again after what stood between two epochs."""
        self._start_clock(trainer, _env_steps(trainer))

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop the clock."""
        self._stopped = time.perf_counter()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave the validation out, which may stand inside an epoch."""
        self._time += time.perf_counter() - self._stopped

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Log at every `log_every_n_steps`-th update."""
        if not is_logging(trainer):
            return
        seconds = time.perf_counter() - self._time
        statistics = _experience(trainer).statistics()
        env_steps = int(statistics.pop("env_steps"))
        updates_per_second = (trainer.global_step - self._updates) / seconds
        steps_per_second = (env_steps - self._env_steps) / seconds
        # Straight to the loggers, as Lightning's LearningRateMonitor does: what goes through
        # `pl_module.log` is gone through again at every update.
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
        """Put the validation at its place on the x-axis."""
        if trainer.state.fn == TrainerFn.FITTING:
            pl_module.log("step", _step(_env_steps(trainer)), sync_dist=True)

    def _start_clock(self, trainer: Trainer, env_steps: int) -> None:
        self._env_steps = env_steps
        self._time = time.perf_counter()
        self._updates = trainer.global_step


def _experience(trainer: Trainer) -> HasStatistics:
    data: HasStatistics = trainer.datamodule  # type: ignore[attr-defined]
    return data


def _env_steps(trainer: Trainer) -> int:
    return int(_experience(trainer).statistics()["env_steps"])


def _step(env_steps: int) -> torch.Tensor:
    # Lightning turns Python numbers into float32, which counts to 2²⁴ only.
    return torch.tensor(env_steps, dtype=torch.float64)
