"""Writes the result of a run of a study into a file, which the study reads."""

import json
import os
import time
from pathlib import Path
from typing import Any

from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn

from rl_lightning.runtime.errors import DivergedError, one_line
from rl_lightning.tracking.run_folder import run_folder


class TrialResult(Callback):
    """Writes the result of `fit` or `test` as JSON, and stops the run where the study asks for it.

    The file of `fit` has `folder` (of the run), `curve` (a list of [environment step, score,
    seconds of training], one for each validation), at the end `seconds` and `checkpoints`, `pruned`
    if the study has stopped the run, and `error` if an error has. The file of `test` has `metrics`.

    Args:
        path: The file. Training stops after a validation if the folder of this file has a file
            `prune`.
        env_steps: Environment steps after which training stops.
    """

    def __init__(self, path: str, env_steps: int | None = None) -> None:
        self._path = Path(path)
        self._env_steps = env_steps
        self._result: dict[str, Any] = {}
        self._start = self._done = 0.0

    def _write(self, trainer: Trainer, **more: Any) -> None:
        self._result |= more
        if trainer.is_global_zero:
            new = self._path.with_suffix(".new")
            new.write_text(json.dumps(self._result))
            os.replace(new, self._path)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the folder, from whose last checkpoint an interrupted run is resumed."""
        earlier = []
        if trainer.ckpt_path is not None and self._path.is_file():
            earlier = json.loads(self._path.read_text()).get("curve", [])
        self._start = time.perf_counter() - (earlier[-1][2] if earlier else 0.0)
        self._write(trainer, folder=str(run_folder(trainer).absolute()), curve=earlier)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note the environment steps of the checkpoint."""
        self._done = self._env_steps_done(trainer)

    def on_train_batch_end(self, trainer: Trainer, *args: Any) -> None:
        """Stop at the update that ends nearest to the given environment step.

        A validation and a checkpoint follow.
        """
        if self._env_steps is not None:
            before, self._done = self._done, self._env_steps_done(trainer)
            trainer.should_stop |= self._done + (self._done - before) / 2 >= self._env_steps

    def _env_steps_done(self, trainer: Trainer) -> float:
        if self._env_steps is None:
            return 0.0
        done: float = trainer.datamodule.statistics()["env_steps"]  # type: ignore[attr-defined]
        return done

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the score, and stop on all ranks if the study asks for it."""
        checkpoint = trainer.checkpoint_callback
        score = trainer.callback_metrics.get(getattr(checkpoint, "monitor", None) or "")
        if score is None or trainer.sanity_checking or trainer.state.fn != TrainerFn.FITTING:
            return
        step = float(trainer.callback_metrics.get("step", trainer.global_step))
        seconds = time.perf_counter() - self._start
        # A resumed run repeats the validations after its checkpoint.
        kept = [point for point in self._result["curve"] if point[0] < step]
        self._write(trainer, curve=[*kept, [step, float(score), seconds]])
        is_pruned = (self._path.parent / "prune").exists()
        if trainer.strategy.reduce_boolean_decision(is_pruned, all=False):
            trainer.should_stop = True
            self._result["pruned"] = True

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the seconds and the checkpoints."""
        found = {
            "last": str(run_folder(trainer).absolute() / "checkpoints" / "last.ckpt"),
            "best": getattr(trainer.checkpoint_callback, "best_model_path", ""),
        }
        written = {kind: path for kind, path in found.items() if Path(path).is_file()}
        self._write(trainer, checkpoints=written, seconds=time.perf_counter() - self._start)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the metrics without the prefix "test/"."""
        metrics = {
            name.removeprefix("test/"): float(value)
            for name, value in trainer.callback_metrics.items()
            if name.startswith("test/")
        }
        self._write(trainer, metrics=metrics)

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Write the error."""
        diverged = isinstance(exception, DivergedError)
        if self._result and isinstance(exception, Exception):
            self._write(trainer, error=one_line(exception), diverged=diverged)
