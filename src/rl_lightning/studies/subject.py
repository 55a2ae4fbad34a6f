"""What a study is about."""

from collections.abc import Mapping
from typing import Any, NamedTuple


class Subject(NamedTuple):
    """What a study is about.

    Attributes:
        experiment: Name of the experiment.
        monitor: The validation metric by which runs are compared, such as "val/return".
        mode: "max" or "min".
        num_threads: Threads of each run.
        loggers: The configuration of `trainer.logger`.
        tracking_uri: MLflow's store; None if the runs are not logged to MLflow.
        parameters: The configuration.
        tags: Tags of its runs.
        counts_env_steps: Whether the datamodule counts environment steps.
        env_steps: Environment steps of the training as it is written; None if it is not fixed.
    """

    experiment: str
    monitor: str | None
    mode: str
    num_threads: int | None
    loggers: Any
    tracking_uri: str | None
    parameters: Mapping[str, str]
    tags: Mapping[str, str]
    counts_env_steps: bool
    env_steps: int | None
