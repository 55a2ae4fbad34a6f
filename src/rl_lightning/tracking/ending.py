"""The last lines of a training."""

import os
import shlex
from collections.abc import Iterator

from lightning import Trainer

from rl_lightning.command_line.arguments import arguments_of_test
from rl_lightning.tracking.run_folder import run_folder
from rl_lightning.tracking.written_checkpoints import (
    best_checkpoint,
    checkpoint_to_test,
    last_checkpoint,
)


def ending(trainer: Trainer, command: str) -> Iterator[str]:
    """Up to three lines: what was reached, where it is, and which command comes next.

    Args:
        trainer: After `fit`.
        command: The command line of `fit`.
    """
    step = int(trainer.callback_metrics.get("step", trainer.global_step))
    reached = [f"{step:,} steps"]
    best, last = best_checkpoint(trainer), last_checkpoint(trainer)
    if best is not None:
        now = trainer.callback_metrics.get(best.monitor, best.score)
        reached.append(f"{best.monitor} {best.score:.4g} (best), {now:.4g} (last)")
    yield f"Reached: {', '.join(reached)}"
    folder = run_folder(trainer)
    if trainer.fast_dev_run or not folder.is_dir():  # type: ignore[attr-defined]
        yield "Run: no file was written"
        return
    written = dict.fromkeys(path for path in (best and best.path, last) if path is not None)
    names = [os.path.relpath(path, folder) for path in written]
    yield f"Run: {folder}: {' '.join(names) or 'no checkpoint was written'}"
    # The path and not "best" or "last", because these are of the latest run when they are used.
    if (checkpoint := checkpoint_to_test(trainer)) is not None:
        yield f"Next: {test_command(command, os.path.relpath(checkpoint))}"


def test_command(command: str, checkpoint: str) -> str:
    """The command that tests a checkpoint with the configuration of a command of `fit`."""
    words = shlex.split(command)
    at = words.index("fit")
    kept = arguments_of_test(words[at + 1 :])
    return shlex.join([*words[:at], "test", *kept, "--ckpt_path", checkpoint])
