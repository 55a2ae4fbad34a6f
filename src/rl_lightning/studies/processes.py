"""Starts processes that are forked from one that has imported torch.

So a run of a study starts without waiting for imports, which take longer than a short training.
"""

import multiprocessing
import os
import runpy
import shlex
import signal
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from functools import cache
from multiprocessing import parent_process
from multiprocessing.connection import wait
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING

from rl_lightning.runtime.launchers import without_rank_variables
from rl_lightning.studies.subject import Subject

if TYPE_CHECKING:
    from multiprocessing.context import BaseContext

_PACKAGE = __name__.partition(".")[0]
# Imported before the fork: what a run imports, also what it imports late.
_IMPORTED = ("inspection", "trial_result")
_IMPORTED_LATE = ("mlflow", "matplotlib.figure")
# Seconds that a run has to end by itself when its study has died. It must be over when another
# process may take the trial over; see `rl_lightning.studies.runner.GRACE`.
TIME_TO_END = 8.0


@cache
def _context() -> "BaseContext":
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    ours = [f"{_PACKAGE}.studies.{name}" for name in _IMPORTED]
    context.set_forkserver_preload([*ours, *_IMPORTED_LATE])
    return context


def drop_rank_variables() -> None:
    """Forget what a launcher such as torchrun or srun says of ranks.

    The runs of a study start their own ranks. With these variables they would wait for those of the
    launcher.
    """
    for name in os.environ.keys() - without_rank_variables(os.environ).keys():
        del os.environ[name]


def inspect(arguments: Sequence[str], example: Sequence[str]) -> Subject:
    """Check the arguments of `fit`, and the flags of a trial: see `inspection.inspect`.

    Raises:
        ConfigurationError: If the configuration is refused.
    """
    # Ctrl-C reaches all processes of a terminal, and this one handles it.
    ignored = (signal.SIGINT, signal.SIG_IGN)
    with ProcessPoolExecutor(1, _context(), signal.signal, ignored) as executor:
        return executor.submit(_inspect, arguments, example).result()


def _inspect(arguments: Sequence[str], example: Sequence[str]) -> Subject:
    from rl_lightning.studies.inspection import inspect  # imports torch

    return inspect(arguments, example)


class RunningCommand:
    """A command of this package, such as `fit`, in a process of its own.

    Args:
        arguments: The command and its arguments.
        log: File that its output is appended to, after the command line.
    """

    def __init__(self, arguments: Sequence[str], log: Path) -> None:
        self._log = log
        self._process = _context().Process(  # type: ignore[attr-defined]
            target=_run, args=([*arguments], str(log))
        )
        self._process.start()

    @property
    def status(self) -> int | None:
        """The exit status, negative after a signal; None while it runs."""
        status: int | None = self._process.exitcode
        return status

    @property
    def error(self) -> str:
        """Why it failed, in one line."""
        if (status := self.status or 0) < 0:
            name = signal.Signals(-status).name
            memory = ", as the system does when memory is used up" if name == "SIGKILL" else ""
            return f"killed by {name}{memory} (see {self._log})"
        lines = self._log.read_text(errors="replace").strip().splitlines() or ["it printed nothing"]
        return f"{lines[-1].removeprefix('rl_lightning: ').removeprefix('error: ')} ({self._log})"

    def stop(self, signum: signal.Signals = signal.SIGINT) -> None:
        """Send a signal. After SIGINT the run can be resumed from its last checkpoint.

        SIGKILL ends the processes of the other ranks too.
        """
        with suppress(ProcessLookupError):
            if signum == signal.SIGKILL:
                self._process.kill()
                if hasattr(os, "killpg"):
                    os.killpg(self._process.pid, signum)
            else:
                os.kill(self._process.pid, signum)

    def wait(self) -> None:
        """Wait for its end; SIGKILL ends it if it does not end by itself."""
        self._process.join(TIME_TO_END)
        if self.status is None:
            self.stop(signal.SIGKILL)
        self._process.join()


def _run(arguments: Sequence[str], log: str) -> None:
    """Do what `python -m rl_lightning` does with these arguments."""
    # Ctrl-C reaches all processes of a terminal. The study's process passes it on once.
    if hasattr(os, "setsid"):
        os.setsid()
    file = os.open(log, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
        os.dup2(file, stream.fileno())
    print(f"process {os.getpid()}")
    print(f"$ {shlex.join(['python', '-m', _PACKAGE, *arguments])}", flush=True)
    Thread(target=_end_with_the_study, daemon=True).start()
    sys.argv = [_PACKAGE, *arguments]
    runpy.run_module(_PACKAGE, run_name="__main__", alter_sys=True)


def _end_with_the_study() -> None:
    """End this process and its ranks when the study's process has ended, also if it was killed."""
    study = parent_process()
    assert study is not None
    wait([study.sentinel])
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(TIME_TO_END)
    if hasattr(os, "killpg"):
        os.killpg(0, signal.SIGKILL)
    os._exit(1)
