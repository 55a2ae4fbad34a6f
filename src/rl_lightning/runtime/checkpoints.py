"""Writes checkpoints atomically, reads them safely and compares them with a module."""

import os
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, NoReturn

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO

from rl_lightning.runtime.errors import ConfigurationError, RunError, one_line


def save_atomically(contents: Any, path: Path) -> None:
    """Write a file with `torch.save` under a temporary name, flush it to the disk and rename it.

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
    except (OSError, RuntimeError) as error:  # torch raises RuntimeError when the disk is full
        part.unlink(missing_ok=True)
        raise RunError(
            f"{path} could not be written ({one_line(error, 120)}), and the checkpoint "
            "before it is complete: free some disk space and resume with --ckpt_path last"
        ) from error


def load_plain(path: Path) -> Any:
    """Read a file of tensors and primitives. Code in the file is never run.

    Raises:
        ConfigurationError: If the file is missing or truncated, or if it holds other objects.
    """
    if not path.is_file():
        raise ConfigurationError(
            f"there is no checkpoint {path}: give the path of one in the run's folder"
        )
    try:
        return torch.load(path, weights_only=True, map_location="cpu")
    except Exception as error:  # zipfile, pickle and torch each raise their own types
        raise ConfigurationError(
            f"{path} cannot be read as a checkpoint ({one_line(error, 120)}), because it is "
            "truncated or is not a checkpoint: use another from the run's folder"
        ) from error


def check_checkpoint(path: Path, module: Any) -> None:
    """Check before training or evaluation that a checkpoint fits a module.

    The hyperparameters in the module's `architecture`, which include the environment's id, must be
    equal, and so must the shapes of the weights.

    Raises:
        ConfigurationError: If the file is missing or unreadable, or if the checkpoint has another
            environment or network.
    """
    saved = load_with_weights(path, module)
    _compare_hyperparameters(path, saved, module, ignored=())
    _compare_shapes(path, saved["state_dict"], module.state_dict())


def load_weights(path: Path, module: Any) -> str:
    """Give a module the weights of a checkpoint, for a new run.

    Optimizer, schedules, random streams and counts (the module's `counts`) keep their initial
    state. A part of a network is a direct submodule, such as `policy`. A part that only the module
    or only the checkpoint has is left out, so that networks can start from those of a module with
    fewer networks. The environment may have another id, such as another komi.

    Args:
        path: A checkpoint.
        module: Receives the weights.

    Returns:
        A line that says which parts were loaded, and which the checkpoint does not have.

    Raises:
        ConfigurationError: If the file is missing or unreadable, or if the checkpoint has another
            network.
    """
    saved = load_with_weights(path, module)
    _compare_hyperparameters(path, saved, module, ignored=("env_id",))
    counts = getattr(module, "counts", ())
    theirs, ours = (
        {name: value for name, value in each.items() if name not in counts}
        for each in (saved["state_dict"], module.state_dict())
    )
    parts = [{name.partition(".")[0]: None for name in each} for each in (ours, theirs)]
    shared = [part for part in parts[0] if part in parts[1]]
    if not shared:
        raise ConfigurationError(
            f"checkpoint {path} has the weights of {', '.join(parts[1])}, and "
            f"{type(module).__name__} has {', '.join(parts[0])}: use a checkpoint of such a network"
        )
    chosen, expected = (
        {name: value for name, value in each.items() if name.partition(".")[0] in shared}
        for each in (theirs, ours)
    )
    _compare_shapes(path, chosen, expected)
    module.load_state_dict(chosen, strict=False)
    new = [part for part in parts[0] if part not in shared]
    rest = f"; it has no {', '.join(new)}" if new else ""
    return f"New run with the weights of {', '.join(shared)} from {path}{rest}"


def load_with_weights(path: Path, module: Any = None) -> Any:
    """Load a checkpoint, with the weights as `module` names them.

    Raises:
        ConfigurationError: If there is no such file, or it holds no weights.
    """
    saved = load_plain(path)
    if not isinstance(saved, dict) or "state_dict" not in saved:
        raise ConfigurationError(f"{path} holds no weights: use a checkpoint from a run's folder")
    if upgrade := getattr(module, "upgrade_checkpoint", None):
        upgrade(saved)  # renames the weights of an earlier version
    return saved


def _compare_hyperparameters(
    path: Path, saved: Mapping[str, Any], module: Any, ignored: Collection[str]
) -> None:
    """Refuse a checkpoint whose architecture differs, in other keys than those ignored."""
    there, here = saved.get("hyper_parameters", {}), module.hparams
    for name in sorted({*getattr(module, "architecture", ())} & there.keys() & here.keys()):
        if differs := _difference(there[name], here[name], name, ignored):
            _refuse(path, *differs)


def _compare_shapes(path: Path, weights: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    """Refuse a checkpoint whose weights have other names or shapes than the expected ones."""
    shapes = {name: tuple(value.shape) for name, value in expected.items()}
    for name in sorted(shapes.keys() | weights.keys()):
        theirs = tuple(weights[name].shape) if name in weights else None
        if theirs != shapes.get(name):
            _refuse(path, f"the shape of {name}", theirs, shapes.get(name))


def _refuse(path: Path, what: str, there: Any, here: Any) -> NoReturn:
    raise ConfigurationError(
        f"checkpoint {path} does not fit this configuration, because {what} is {there} in the "
        f"checkpoint and {here} in the configuration: use the checkpoint's configuration"
    )


def _difference(
    one: Any, other: Any, at: str, ignored: Collection[str]
) -> tuple[str, Any, Any] | None:
    """The first difference of two settings, as its key and both values; None if they are equal."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        for key in sorted((one.keys() | other.keys()) - {*ignored}):
            if differs := _difference(one.get(key), other.get(key), f"{at}.{key}", ignored):
                return differs
        return None
    # Tuples become lists in YAML files and in checkpoints, so compare both as lists.
    first, second = ([*each] if isinstance(each, list | tuple) else each for each in (one, other))
    return None if first == second else (at, one, other)


class AtomicCheckpoints(TorchCheckpointIO):
    """Writes Lightning's checkpoints with `save_atomically`.

    Lightning itself writes to the system's temporary folder and then moves the file. If that folder
    is on another disk, the move is a copy, and a process that is killed during it leaves a
    truncated file.
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
        """Read the file with `load_plain`."""
        checkpoint: dict[str, Any] = load_plain(Path(path))
        return checkpoint
