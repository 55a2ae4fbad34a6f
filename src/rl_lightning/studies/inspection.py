"""Checks the configuration of a study, in a process that has imported torch."""

import io
import logging
import math
from collections.abc import Sequence
from contextlib import redirect_stderr
from typing import Any

from lightning import Trainer

from rl_lightning import cli
from rl_lightning.datamodules import ReplayDataModule, RolloutDataModule
from rl_lightning.experience import HasStatistics
from rl_lightning.runtime.errors import ConfigurationError
from rl_lightning.studies.subject import Subject
from rl_lightning.tracking.mlflow_tracker import MLflowTracker


class _Inspected(BaseException):
    """Ends a command when its subject is known. The command line handles Exceptions only."""

    def __init__(self, subject: Subject) -> None:
        super().__init__(subject)
        self.subject = subject


class _InspectingCLI(cli.CommandLine):
    """Makes and checks all objects, and does not run."""

    def before_fit(self) -> None:
        described, checkpoint = self.describe(), self.trainer.checkpoint_callback
        trackers = [each for each in self.trainer.loggers if isinstance(each, MLflowTracker)]
        config = self.config["fit"]
        raise _Inspected(
            Subject(
                trackers[0].name if trackers else described.experiment,
                getattr(checkpoint, "monitor", None),
                getattr(checkpoint, "mode", "max"),
                config.num_threads,
                config.trainer.as_dict()["logger"],
                trackers[0].tracking_uri if trackers else None,
                described.parameters,
                described.tags,
                isinstance(self.datamodule, HasStatistics),
                env_steps_of(self.trainer, self.datamodule),
            )
        )


def inspect(arguments: Sequence[str], example: Sequence[str]) -> Subject:
    """Check a configuration as `fit` does, also with the flags of a trial.

    Returns:
        What the study is about, without the flags of a trial.

    Raises:
        ConfigurationError: If the configuration is refused.
    """
    logging.getLogger("lightning").setLevel(logging.WARNING)
    if example:
        inspect([*arguments, *example], [])
    errors = io.StringIO()
    try:
        with redirect_stderr(errors):
            cli.main(["fit", *arguments], _InspectingCLI)
    except _Inspected as inspected:
        return inspected.subject
    lines = errors.getvalue().strip().splitlines() or ["the configuration cannot be used"]
    raise ConfigurationError(lines[-1].removeprefix("rl_lightning: error: "))


def env_steps_of(trainer: Trainer, data: Any) -> int | None:
    """Environment steps of a training over all ranks.

    Returns:
        None if their number is not fixed, as with rollouts of whole episodes.
    """
    limits = []
    if trainer.max_steps >= 0:
        limits.append(trainer.max_steps * trainer.accumulate_grad_batches)
    if trainer.max_epochs is not None and trainer.max_epochs >= 0:
        limits.append(trainer.max_epochs * getattr(data, "updates_per_epoch", 0))
    if not limits:
        return None
    if isinstance(data, RolloutDataModule) and data.rollout_length is not None:
        rollouts = math.ceil(min(limits) / data.updates_per_rollout)
        return rollouts * data.rollout_length * data.num_envs * trainer.world_size
    if isinstance(data, ReplayDataModule):
        collected = data.warmup_env_steps + math.ceil(min(limits) / data.replay_ratio)
        return collected * trainer.world_size
    return None
