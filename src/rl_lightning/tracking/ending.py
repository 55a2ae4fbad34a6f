"""The last lines of a training."""

import os
import shlex
from collections.abc import Iterator
from pathlib import Path

from lightning import Trainer

from rl_lightning.command_line.arguments import arguments_of_test
from rl_lightning.tracking import written_checkpoints
from rl_lightning.tracking.run_folder import run_folder


def ending(trainer: Trainer, command: str) -> Iterator[str]:
    """Up to three lines: what was reached, where it is, and which command comes next.

    Args:
        trainer: After `fit`.
        command: The command line of `fit`.
    """
    metrics = trainer.callback_metrics
    reached = f"Reached: {int(metrics.get('step', trainer.global_step)):,} steps"
    written = [written_checkpoints.last_checkpoint(trainer)]
    if (best := written_checkpoints.best_checkpoint(trainer)) is not None:
        written.insert(0, Path(best.best_model_path))
        name, score = str(best.monitor), best.best_model_score
        reached += f", {name} {score:.4g} (best), {metrics.get(name, score):.4g} (last)"
    yield reached
    folder = run_folder(trainer)
    if trainer.fast_dev_run or not folder.is_dir():  # type: ignore[attr-defined]
        yield "Run: no file was written"
        return
    names = dict.fromkeys(os.path.relpath(path, folder) for path in written if path is not None)
    yield f"Run: {folder}: {' '.join(names) or 'no checkpoint was written'}"
    # The path and not "best" or "last", because these are of the latest run when they are used.
    if (checkpoint := written_checkpoints.checkpoint_to_test(trainer)) is not None:
        yield f"Next: {test_command(command, os.path.relpath(checkpoint))}"


def test_command(command: str, checkpoint: str) -> str:
    """The command that tests a checkpoint with the configuration of a command of `fit`."""
    words = shlex.split(command)
    at = words.index("fit")
    kept = arguments_of_test(words[at + 1 :])
    return shlex.join([*words[:at], "test", *kept, "--ckpt_path", checkpoint])
