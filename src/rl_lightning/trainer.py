"""Makes Trainers with all that this package adds to Lightning's, from Python and from YAML."""

import os
import shlex
import sys
import uuid
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.plugins import CheckpointIO

from rl_lightning.callbacks.defaults import (
    DEFAULT_CALLBACKS,
    check_checkpoint_callbacks,
    is_wanted,
)
from rl_lightning.callbacks.safeguards import Safeguards
from rl_lightning.compatibility.check import check
from rl_lightning.compatibility.trainer_flags import check_strategy
from rl_lightning.runtime.allocator import keep_freed_memory
from rl_lightning.runtime.checkpoints import AtomicCheckpoints
from rl_lightning.runtime.errors import ConfigurationError
from rl_lightning.runtime.launchers import check_ranks
from rl_lightning.runtime.ranks import use_batch_scheduling
from rl_lightning.tracking.mlflow_tracker import MLflowTracker
from rl_lightning.tracking.run_description import RunDescription, describe_run

# Trainer flags that all experiments share. The logger is an MLflowTracker.
TRAINER_DEFAULTS: dict[str, Any] = {
    "accelerator": "cpu",
    "num_sanity_val_steps": 0,
    "enable_model_summary": False,
    "default_root_dir": "runs",
}


def make_trainer(
    module: LightningModule,
    data: LightningDataModule,
    num_threads: int | None = 1,
    **flags: Any,
) -> Trainer:
    """Make a Trainer with all that the command line adds to Lightning's.

    These are an `MLflowTracker` with the run's name, parameters and tags, the callbacks of
    `rl_lightning.callbacks.defaults` that fit, `Safeguards`, checkpoints that are written
    atomically, and settings of threads and memory. A callback in `callbacks` replaces the default
    callback of its type, and `logger`, `plugins` and every other flag have the meaning that they
    have in Lightning.

    Args:
        module: The module to train or evaluate.
        data: Its datamodule. Its `seed` is the seed of all random streams. Initial weights depend
            on torch's global seed, so call `lightning.seed_everything` before you make the module.
        num_threads: Threads of torch on the CPU. None leaves torch's number.
        flags: Arguments of `lightning.Trainer`.

    Returns:
        A Trainer for this module and datamodule.

    Raises:
        ConfigurationError: If flags or callbacks cannot be used. Whether they fit module and
            datamodule is checked when a run starts, before it writes a file.
    """
    prepare_process(num_threads)
    given = {**TRAINER_DEFAULTS, **flags}
    if given.setdefault("logger", True) is True and not given.get("barebones"):
        given["logger"] = MLflowTracker(save_dir=given["default_root_dir"])
    made = {key: kind(**options) for key, (kind, options) in DEFAULT_CALLBACKS.items()}
    described = partial(_describe, module, data, flags)
    trainer = Trainer(**complete_flags(module, data, given, made, described))
    prepare_trainer(trainer, module, data, fitting=False)
    return trainer


def prepare_process(num_threads: int | None) -> None:
    """Set the number of torch's threads and let the process keep freed memory.

    Raises:
        ConfigurationError: If the number is below 1.
    """
    keep_freed_memory()
    if num_threads is not None:
        if num_threads < 1:
            raise ConfigurationError(f"num_threads is {num_threads}: make it at least 1")
        torch.set_num_threads(num_threads)


def prepare_trainer(
    trainer: Trainer, module: LightningModule, data: LightningDataModule, fitting: bool
) -> None:
    """Do what must be done before `fit`, and set the scheduling of several ranks on the CPU.

    Raises:
        ConfigurationError: If the Trainer's strategy cannot be used, or if a module of another
            package does not fit.
        LauncherError: If a launcher has started other processes than the Trainer expects.
    """
    check_ranks(trainer, os.environ)
    # `fit` starts other processes before its first hook, in which a `Learner` checks the rest.
    check_strategy(trainer)
    # Another module has no such hook, and its later hooks come after the loggers have begun.
    if not getattr(module, "checks_compatibility", False):
        check(trainer, module, data, fitting)
    if trainer.world_size > 1 and trainer.strategy.root_device.type == "cpu":
        use_batch_scheduling()


def complete_flags(
    module: LightningModule,
    data: LightningDataModule,
    flags: Mapping[str, Any],
    made: Mapping[str, Any],
    describe: Callable[[], RunDescription],
) -> dict[str, Any]:
    """Add callbacks and plugins to the flags of a Trainer, and describe the run to its tracker.

    Args:
        module: The module.
        data: The datamodule.
        flags: Arguments of `lightning.Trainer`.
        made: The callbacks of `DEFAULT_CALLBACKS`, by key.
        describe: Makes the run's description.

    Raises:
        ConfigurationError: If two ModelCheckpoints are equal.
    """
    completed = dict(flags)
    if completed.get("barebones") and isinstance(completed.get("logger"), MLflowTracker):
        completed["logger"] = None  # the default logger, which barebones does not allow
    for logger in _listed(completed.get("logger")):
        if isinstance(logger, MLflowTracker):
            logger.describe(describe())
    if completed.get("barebones") or completed.get("logger") in (False, []):
        # Without a logger, which gives each run a folder, all runs would write into one folder.
        name = f"{describe().name}-{uuid.uuid4().hex[:6]}"
        root = completed.get("default_root_dir") or TRAINER_DEFAULTS["default_root_dir"]
        completed["default_root_dir"] = str(Path(root, "untracked", name))
    given = _listed(completed.get("callbacks"))
    added = [
        each for key, each in made.items() if is_wanted(key, each, completed, module, data, given)
    ]
    completed["callbacks"] = [*given, *added, Safeguards()]
    check_checkpoint_callbacks(completed["callbacks"])
    plugins = _listed(completed.get("plugins"))
    if not any(isinstance(each, CheckpointIO) for each in plugins):
        completed["plugins"] = [*plugins, AtomicCheckpoints()]
    return completed


def _listed(value: Any) -> list[Any]:
    if value is None or isinstance(value, bool):
        return []
    return [*value] if isinstance(value, list | tuple) else [value]


def _describe(
    module: LightningModule, data: LightningDataModule, flags: Mapping[str, Any]
) -> RunDescription:
    """Describe a run by the constructors' arguments, as the command line does by its YAML."""
    optimizer = getattr(module, "optimizer", None)
    settings = {} if optimizer is None else {"optimizer": _callable(optimizer)}
    plain = str | int | float | None
    config = {
        "seed_everything": getattr(data, "seed", torch.initial_seed()),
        "model": _object(module, {**module.hparams, **settings}),
        "data": _object(data, dict(data.hparams)),
        "trainer": {key: each for key, each in flags.items() if isinstance(each, plain)},
    }
    return describe_run(module, data, shlex.join(["python", *sys.argv]), config, {})


def _object(value: object, arguments: Mapping[str, Any]) -> dict[str, Any]:
    # The environment's shapes are not an argument that a user chooses.
    chosen = {key: each for key, each in arguments.items() if key not in ("environment", "seed")}
    return {"class_path": f"{type(value).__module__}.{type(value).__name__}", "init_args": chosen}


def _callable(made_by: Any) -> dict[str, Any]:
    """Name and arguments of a class or of a `functools.partial` of one."""
    function = getattr(made_by, "func", made_by)
    name = f"{function.__module__}.{getattr(function, '__name__', type(function).__name__)}"
    return {"class_path": name, "init_args": getattr(made_by, "keywords", {})}
