"""Finds and checks the checkpoint that a command asks for, and continues its run."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info

from rl_lightning.runtime.checkpoints import check_checkpoint
from rl_lightning.runtime.errors import ConfigurationError
from rl_lightning.tracking.changed_settings import changed_settings
from rl_lightning.tracking.mlflow_tracker import MLflowTracker


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
        path = trackers[0].checkpoint(asked)
        rank_zero_info(f"--ckpt_path {asked} is {path}")
    check_checkpoint(path, module)
    for tracker in trackers:
        run = tracker.go_on_with(path, evaluates=not fitting)
        if run is not None and fitting:
            _compare_settings(run, config)
    return str(path)


def _compare_settings(run: Path, config: Mapping[str, Any]) -> None:
    """Compare the configuration with that of a resumed run.

    Raises:
        ConfigurationError: If the module or the seed differ. MLflow keeps the parameters that the
            run had, and the optimizer its own learning rate.
    """
    changed = changed_settings(run, config)
    for each in changed:
        if each.flag == "seed_everything" or each.flag.startswith("model"):
            raise ConfigurationError(
                f"--ckpt_path resumes the run {run.name}, and {each}: leave {each.flag} as it "
                "was, or start a new run from the weights (--weights_path)"
            )
    if changed:
        rank_zero_info(f"The resumed run changes: {'; '.join(map(str, changed))}")
