"""The last lines of a training."""

import os
import shlex
from collections.abc import Iterator
from pathlib import Path

from lightning import Trainer

from rl_lightning.command_line.arguments import arguments_of_test
from rl_lightning.tracking.mlflow_tracker import MLflowTracker
from rl_lightning.tracking.run_folder import run_folder


def ending(trainer: Trainer, command: str) -> Iterator[str]:
    """Three lines: what was reached, where it is, and which command comes next.

    Args:
        trainer: After `fit`.
        command: The command line of `fit`.
    """
    checkpoint = trainer.checkpoint_callback
    monitor = getattr(checkpoint, "monitor", None) or ""
    score = getattr(checkpoint, "best_model_score", None)
    best = getattr(checkpoint, "best_model_path", "") or ""
    step = int(trainer.callback_metrics.get("step", trainer.global_step))
    reached = [f"{step:,} steps"]
    if score is not None:
        last = trainer.callback_metrics.get(monitor, score)
        reached.append(f"{monitor} {score:.4g} (best), {last:.4g} (last)")
    yield f"Reached: {', '.join(reached)}"
    folder = run_folder(trainer)
    written = [Path(best), folder / "checkpoints" / "last.ckpt"] if best else []
    names = [os.path.relpath(path, folder) for path in written if path.is_file()]
    yield f"Run: {' '.join([f'{folder}:', *names]) if names else folder}"
    if best:
        tracked = any(isinstance(each, MLflowTracker) for each in trainer.loggers)
        yield f"Next: {test_command(command, 'best' if tracked else os.path.relpath(best))}"


def test_command(command: str, checkpoint: str) -> str:
    """The command that tests a checkpoint with the configuration of a command of `fit`."""
    words = shlex.split(command)
    at = words.index("fit")
    kept = arguments_of_test(words[at + 1 :])
    return shlex.join([*words[:at], "test", *kept, "--ckpt_path", checkpoint])
