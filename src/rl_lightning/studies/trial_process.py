"""Starts the processes of trials, and reads what they report.

The processes are forked from a server that has imported the libraries once, so a run starts
without waiting for imports.
"""

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rl_lightning.runtime.errors import ConfigurationError, RunError

if TYPE_CHECKING:
    from multiprocessing.context import BaseContext
    from multiprocessing.process import BaseProcess

    from rl_lightning.studies.training import Subject

_TRAINING = "rl_lightning.studies.training"


class TrialFailedError(RunError):
    """The run of one trial failed. The study goes on."""


class StudyStoppedError(Exception):
    """The study was stopped, and so its runs were."""


def _context() -> "BaseContext":
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([_TRAINING])
    return context


def _call(function: str, connection: Connection, *arguments: Any) -> None:
    """Call a function of the training module, which the study's own process does not import."""
    from importlib import import_module

    getattr(import_module(_TRAINING), function)(connection, *arguments)


class TrialProcesses:
    """The processes of one study.

    Attributes:
        is_stopping: Whether `stop` was called.
    """

    def __init__(self) -> None:
        self._context = _context()
        self._running: set[BaseProcess] = set()
        self.is_stopping = False

    @contextmanager
    def _started(self, function: str, *arguments: Any) -> Iterator[tuple["BaseProcess", Any]]:
        here, there = self._context.Pipe()
        process = self._context.Process(  # type: ignore[attr-defined]
            target=_call, args=(function, there, *arguments)
        )
        process.start()
        there.close()
        self._running.add(process)
        try:
            yield process, here
        finally:
            process.join()
            self._running.discard(process)
            here.close()

    def inspect(self, arguments: Sequence[str]) -> "Subject":
        """Check a configuration.

        Returns:
            What the study is about.

        Raises:
            ConfigurationError: If the configuration is refused.
        """
        found: Subject | str = "the process that checks the configuration has died"
        started = self._started("inspect", [*arguments])
        with started as (_, connection), suppress(EOFError):
            found = connection.recv()
        if isinstance(found, str):
            lines = found.strip().splitlines() or ["it printed nothing"]
            raise ConfigurationError(lines[-1].removeprefix("rl_lightning: error: "))
        return found

    def run(
        self,
        arguments: Sequence[str],
        tags: dict[str, str],
        monitor: str,
        log: Path,
        heard: Callable[[str, Any], bool],
    ) -> None:
        """Run one command in a process of its own; see `rl_lightning.studies.training.run`.

        A process group of several ranks can be made once in a process, so training and its tests
        are different processes.

        Args:
            arguments: The command and its arguments.
            tags: Tags of the MLflow run.
            monitor: The validation metric by which runs are compared.
            log: File that the output is appended to.
            heard: Is called with the name and the content of each message. After a validation it
                returns whether the run is to stop.

        Raises:
            TrialFailedError: If the run failed. The message is the last line of its output.
            StudyStoppedError: If the run ended because the study was stopped.
        """
        started = self._started("run", [*arguments], tags, monitor, str(log))
        with started as (process, connection), suppress(EOFError, ConnectionError):
            while True:
                name, content = connection.recv()
                answer = heard(name, content)
                if name == "validated":
                    connection.send(answer)
        if process.exitcode and self.is_stopping:
            raise StudyStoppedError
        if process.exitcode:
            lines = log.read_text().strip().splitlines() or ["it printed nothing"]
            raise TrialFailedError(f"{lines[-1].removeprefix('rl_lightning: error: ')} (see {log})")

    def stop(self) -> None:
        """Let all runs end as after Ctrl-C. They can be resumed from their last checkpoints."""
        self.is_stopping = True
        for process in [*self._running]:
            if process.pid is not None:
                with suppress(ProcessLookupError):
                    os.kill(process.pid, signal.SIGINT)
