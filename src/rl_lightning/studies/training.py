"""What the processes of a trial do: each runs one command, and reports to the study."""

import io
import logging
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr
from functools import partial
from importlib import import_module
from multiprocessing import parent_process
from multiprocessing.connection import Connection, wait
from pathlib import Path
from threading import Thread
from typing import Any, NamedTuple

# The server that starts the processes of trials imports this module once. So what a training
# imports when it is first used is imported here.
import matplotlib.figure  # noqa: F401
import mlflow  # noqa: F401
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn

from rl_lightning import cli
from rl_lightning.tracking.mlflow_tracker import MLflowTracker
from rl_lightning.tracking.run_description import RunDescription
from rl_lightning.tracking.run_folder import run_folder


class Subject(NamedTuple):
    """What a study is about.

    Attributes:
        experiment: Name of the experiment.
        monitor: The validation metric by which runs are compared, such as "val/return".
        mode: "max" or "min".
        num_threads: Threads of each run.
        tracking_uri: MLflow's store; None if the runs are not logged to MLflow.
        parameters: The configuration.
        tags: Tags of its runs.
    """

    experiment: str
    monitor: str | None
    mode: str
    num_threads: int | None
    tracking_uri: str | None
    parameters: Mapping[str, str]
    tags: Mapping[str, str]


class _InspectingCLI(cli.CommandLine):
    """Makes and checks all objects, and sends a `Subject` in place of running."""

    def __init__(self, connection: Connection, *args: Any, **kwargs: Any) -> None:
        self._connection = connection
        super().__init__(*args, **kwargs)

    def _run_subcommand(self, subcommand: str) -> None:
        described, checkpoint = self.describe(), self.trainer.checkpoint_callback
        trackers = [each for each in self.trainer.loggers if isinstance(each, MLflowTracker)]
        self._connection.send(
            Subject(
                trackers[0].name if trackers else described.experiment,
                getattr(checkpoint, "monitor", None),
                getattr(checkpoint, "mode", "max"),
                self._get(self.config, "num_threads"),
                trackers[0].tracking_uri if trackers else None,
                described.parameters,
                described.tags,
            )
        )


def inspect(connection: Connection, arguments: Sequence[str]) -> None:
    """Check a configuration as `fit` does, and send its `Subject`, or else the error lines."""
    logging.getLogger("lightning").setLevel(logging.WARNING)
    errors = io.StringIO()
    with redirect_stderr(errors):
        status = cli.main(["fit", *arguments], partial(_InspectingCLI, connection))
    if status:
        connection.send(errors.getvalue())


class _TrialCLI(cli.CommandLine):
    """Adds tags to the MLflow run, and a callback to the Trainer."""

    def __init__(
        self, tags: Mapping[str, str], callback: Callback, *args: Any, **kwargs: Any
    ) -> None:
        self._tags = tags
        self._callback = callback
        super().__init__(*args, **kwargs)

    def describe(self) -> RunDescription:
        described = super().describe()
        return described._replace(tags={**described.tags, **self._tags})

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        trainer = super().instantiate_trainer(**kwargs)
        trainer.callbacks.insert(0, self._callback)  # type: ignore[attr-defined]
        return trainer


class TrialReporter(Callback):
    """Sends what happens in a run to the study, and stops a run that the study prunes.

    The messages are (name, content): "folder" of the run; "validated" with (epoch, step, score,
    seconds, whether the run can be stopped), which the study answers with whether to stop; "fitted"
    with the seconds; "checkpoints", the paths of "last" and "best"; "tested" with the metrics.

    Args:
        connection: To the study.
        monitor: The validation metric by which runs are compared.
    """

    def __init__(self, connection: Connection, monitor: str) -> None:
        self._connection = connection
        self._monitor = monitor
        self._start = time.perf_counter()

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Send the folder. An interrupted run is resumed from the checkpoint in it."""
        self._connection.send(("folder", str(run_folder(trainer).absolute())))

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Send the score, and stop if the study says so."""
        value = trainer.callback_metrics.get(self._monitor)
        fitting = trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking
        if value is None or not fitting:
            return
        step = int(trainer.callback_metrics.get("step", trainer.global_step))
        seconds = time.perf_counter() - self._start
        # All ranks must agree on a stop, and only this one has the answer.
        can_stop = trainer.world_size == 1
        content = (trainer.current_epoch, step, float(value), seconds, can_stop)
        self._connection.send(("validated", content))
        if self._connection.recv():
            trainer.should_stop = True

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Send the seconds and the checkpoints of the run."""
        found = {
            "last": str(run_folder(trainer).absolute() / "checkpoints" / "last.ckpt"),
            "best": getattr(trainer.checkpoint_callback, "best_model_path", ""),
        }
        written = {kind: path for kind, path in found.items() if Path(path).is_file()}
        self._connection.send(("checkpoints", written))
        self._connection.send(("fitted", time.perf_counter() - self._start))

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Send the metrics without the prefix "test/"."""
        metrics = {
            name.removeprefix("test/"): float(value)
            for name, value in trainer.callback_metrics.items()
            if name.startswith("test/")
        }
        self._connection.send(("tested", metrics))


def run(
    connection: Connection,
    arguments: Sequence[str],
    tags: Mapping[str, str],
    monitor: str,
    log: str,
) -> None:
    """Run a command, such as `fit`, and report to the study.

    Args:
        connection: To the study.
        arguments: The command and its arguments.
        tags: Tags of the MLflow run.
        monitor: The validation metric by which runs are compared.
        log: File that the output is appended to.
    """
    _leave_the_terminal(log)
    # Lightning starts the other ranks of a run with the command of this process.
    sys.argv = ["rl_lightning", *arguments]
    sys.modules["__main__"] = import_module("rl_lightning.__main__")
    reporter = TrialReporter(connection, monitor)
    sys.exit(cli.main([*arguments], partial(_TrialCLI, tags, reporter)))


def _leave_the_terminal(log: str) -> None:
    """Write to a file, and end when the study's process ends, also if that was killed."""
    # Ctrl-C reaches all processes of a terminal. The study's process passes it on once.
    if hasattr(os, "setsid"):
        os.setsid()
    file = os.open(log, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
        os.dup2(file, stream.fileno())
    parent = parent_process()
    assert parent is not None

    def follow() -> None:
        wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGINT)

    Thread(target=follow, daemon=True).start()
