"""Files that are whole or not there, whatever stops the process that writes them."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO

from rl_lightning.errors import ConfigurationError, RunError, one_line


def save_atomically(contents: Any, path: Path) -> None:
    """Write with `torch.save` under another name, to the disk, and then rename.

    Raises:
        RunError: If the disk is full or the folder cannot be written.
    """
    part = path.with_name(f"{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            torch.save(contents, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except (OSError, RuntimeError) as error:  # torch's writer says RuntimeError at a full disk
        part.unlink(missing_ok=True)
        raise RunError(
            f"{path} could not be written ({one_line(str(error))[:120]}): the checkpoint before "
            "it is still whole; make room and go on with --ckpt_path last"
        ) from error


def load_plain(path: Path) -> Any:
    """Read tensors and primitives; anything else in the file is refused, and nothing of it runs.

    Raises:
        ConfigurationError: If the file is missing, cut short or holds more than that.
    """
    if not path.is_file():
        raise ConfigurationError(f"there is no checkpoint {path}: look in the run folder for one")
    try:
        return torch.load(path, weights_only=True, map_location="cpu")
    except Exception as error:  # zipfile, pickle and torch each have their own
        raise ConfigurationError(
            f"{path} cannot be read as a checkpoint ({one_line(str(error))[:120]}): it was cut "
            "short or is none; take another from the run's folder"
        ) from error


class AtomicCheckpoints(TorchCheckpointIO):
    """Lightning's checkpoints by `save_atomically`.

    Lightning's own way writes into the system's temporary folder first; where that is
    another disk, the move is a copy, and a kill leaves half of it.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        """Write the file as a whole or not at all."""
        save_atomically(checkpoint, Path(path))

    def load_checkpoint(
        self,
        path: str | Path,
        map_location: Callable[..., Any] | None = None,
        weights_only: bool | None = None,
    ) -> dict[str, Any]:
        """Read it, refusing whatever is not a tensor or a primitive."""
        checkpoint: dict[str, Any] = load_plain(Path(path))
        return checkpoint
