"""Finds and checks the checkpoint that a command asks for, and continues its run."""

import re
from collections.abc import Iterator, Mapping
from os.path import getmtime
from pathlib import Path
from typing import Any

import yaml
from lightning import LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info

from rl_lightning.runtime.checkpoints import check_checkpoint
from rl_lightning.runtime.errors import ConfigurationError
from rl_lightning.tracking.mlflow_tracker import MLflowTracker

# A resumed run may change these without a message. They say how long it trains and what is shown
# and kept of it.
_FREE = re.compile(
    r"config|ckpt_path|weights_path|num_threads"
    r"|trainer\.(default_root_dir|enable_progress_bar|logger|max_time|(max|min)_(epochs|steps))"
)


def find_checkpoint(
    asked: str, trainer: Trainer, module: LightningModule, config: Mapping[str, Any], fitting: bool
) -> str:
    """Find the checkpoint, compare it with the module, and let the tracker continue its run.

    Args:
        asked: A path, "last" or "best" of the run that the user started last, or "hpc", which is
            the checkpoint that Lightning wrote before SLURM started the job again.
        trainer: Its loggers know the runs.
        module: The module that the checkpoint must fit.
        config: The resolved configuration, which a resumed run is compared with.
        fitting: Whether the run is resumed, and not only evaluated.

    Returns:
        The path, or "hpc".

    Raises:
        ConfigurationError: If there is none, or if it does not fit.
    """
    if asked == "hpc":
        return asked
    trackers = [each for each in trainer.loggers if isinstance(each, MLflowTracker)]
    path = Path(asked)
    if asked in ("last", "best"):
        if not trackers:
            raise ConfigurationError(
                f"--ckpt_path {asked} needs an MLflowTracker in trainer.logger to find the run, "
                "and there is none: give the checkpoint's path"
            )
        path = _latest(asked, Path(trackers[0].save_dir, trackers[0].name))
        rank_zero_info(f"--ckpt_path {asked} is {path}")
    check_checkpoint(path, module)
    for tracker in trackers:
        run = tracker.go_on_with(path, evaluates=not fitting)
        if run is not None and fitting:
            _compare_settings(run, config)
    return str(path)


def _latest(kind: str, folder: Path) -> Path:
    """The checkpoint "last" or "best" of the run in a folder that was started or resumed last.

    Raises:
        ConfigurationError: If there is none.
    """
    runs = {path.parent.parent for path in folder.glob("*/checkpoints/*.ckpt")}
    if not (own := [run for run in runs if "mlflow.parentRunId" not in _configuration(run)]):
        raise ConfigurationError(
            f"there is no {kind} checkpoint of an earlier run in {folder} (runs of seeds and "
            "sweep do not count): give the path of a checkpoint, or leave --ckpt_path out to "
            "start the first run"
        )
    run = max(own, key=_started)
    if not (found := [*run.glob(f"checkpoints/{kind}*.ckpt")]):
        there = " ".join(sorted(map(str, run.glob("checkpoints/*.ckpt"))))
        raise ConfigurationError(
            f"the latest run of {folder.name} has no {kind} checkpoint: give a path, such as "
            f"--ckpt_path {there}"
        )
    return max(found, key=getmtime)


def _started(run: Path) -> float:
    """The time at which a training of a run was started or resumed last."""
    config = run / "config.yaml"
    return max(map(getmtime, [config] if config.exists() else run.glob("checkpoints/*.ckpt")))


def _configuration(run: Path) -> str:
    """The text of a run's configuration; empty without a readable one."""
    try:
        return (run / "config.yaml").read_text()
    except (OSError, UnicodeDecodeError):
        return ""


def _compare_settings(run: Path, config: Mapping[str, Any]) -> None:
    """Compare the configuration with that of a resumed run.

    Raises:
        ConfigurationError: If the module or the seed differ. MLflow keeps the parameters that the
            run had, and the optimizer its own learning rate.
    """
    try:
        before = yaml.safe_load(_configuration(run))
    except yaml.YAMLError:
        return
    changed = {
        flag: f"{flag} was {was} and is {now}" for flag, was, now in _changed(before or {}, config)
    }
    for flag, change in changed.items():
        if flag == "seed_everything" or flag.startswith("model"):
            raise ConfigurationError(
                f"--ckpt_path resumes the run {run.name}, and {change}: leave {flag} as it was, or "
                "start a new run from the weights (--weights_path)"
            )
    if changed:
        rank_zero_info(f"The resumed run changes: {'; '.join(changed.values())}")


def _changed(before: Any, now: Any, flag: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Flag, earlier value and new value of each setting that differs."""
    if _FREE.fullmatch(flag):
        return
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        # Another version of this package may have other options. Other mappings, such as
        # env_kwargs, have only the keys that were given.
        is_options = "class_path" in now or flag in ("", "trainer") or flag.endswith(".init_args")
        keys = now.keys() & before.keys() if is_options else now.keys() | before.keys()
        for key in sorted(keys, key=str):
            yield from _changed(before.get(key), now.get(key), f"{flag}.{key}" if flag else key)
    elif before != now and not (before != before and now != now):  # NaN differs from itself
        yield re.sub(r"\.(init_args|class_path)\b", "", flag), before, now
