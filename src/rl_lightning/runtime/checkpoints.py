"""Checkpoints: written completely or not at all, read safely, and compared."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO

from rl_lightning.runtime.errors import ConfigurationError, RunError, one_line


def save_atomically(contents: Any, path: Path) -> None:
    """Write with `torch.save` under another name, flush to the disk, and then rename.

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
            "it is complete; free some disk space and go on with --ckpt_path last"
        ) from error


def load_plain(path: Path) -> Any:
    """Read tensors and primitives; a file with anything else is refused, and none of it is run.

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
            "short or is no checkpoint; take another from the run's folder"
        ) from error


def check_checkpoint(path: Path, module: Any) -> None:
    """Compare a checkpoint with a module before anything starts.

    By the hyperparameters that the module names in `architecture`, the environment's id among
    them, and by the shapes of the weights.

    Raises:
        ConfigurationError: If the file is missing, unreadable, or of another environment or
            network.
    """
    saved = load_plain(path)
    if not isinstance(saved, dict) or "state_dict" not in saved:
        raise ConfigurationError(f"{path} holds no weights: take one from a run's checkpoints")
    there, here = saved.get("hyper_parameters", {}), module.hparams
    for name in getattr(module, "architecture", ()):
        if name in there and name in here and (differs := _difference(there[name], here[name])):
            _refuse(path, f"{name}{differs[0]} is {differs[1]} there and {differs[2]} here")
    weights = saved["state_dict"]
    shapes = {name: tuple(value.shape) for name, value in module.state_dict().items()}
    for name in sorted(shapes.keys() | weights.keys()):
        theirs = tuple(weights[name].shape) if name in weights else None
        if theirs != shapes.get(name):
            _refuse(path, f"{name} is {theirs} there and {shapes.get(name)} here")


def _refuse(path: Path, difference: str) -> NoReturn:
    raise ConfigurationError(
        f"checkpoint {path} does not fit this configuration: {difference}: use the configuration "
        "that the checkpoint was made with"
    )


def _difference(there: Any, here: Any, at: str = "") -> tuple[str, Any, Any] | None:
    """The first difference of two hyperparameters: where it is, and both values."""
    if isinstance(there, Mapping) and isinstance(here, Mapping):
        for key in sorted(there.keys() | here.keys()):
            if differs := _difference(there.get(key), here.get(key), f"{at}.{key}"):
                return differs
        return None
    # YAML makes lists of tuples.
    one, other = ([*v] if isinstance(v, list | tuple) else v for v in (there, here))
    return None if one == other else (at, there, here)


class AtomicCheckpoints(TorchCheckpointIO):
    """Lightning's checkpoints by `save_atomically`.

    Lightning writes into the system's temporary folder first. Where that is another disk,
    moving the file copies it, and a process killed in between leaves half a file.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        """Write the file completely or not at all."""
        save_atomically(checkpoint, Path(path))

    def load_checkpoint(
        self,
        path: str | Path,
        map_location: Callable[..., Any] | None = None,
        weights_only: bool | None = None,
    ) -> dict[str, Any]:
        """Read the file; anything but tensors and primitives is refused."""
        checkpoint: dict[str, Any] = load_plain(Path(path))
        return checkpoint
