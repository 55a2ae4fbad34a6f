"""Ctrl-C (SIGINT) ends a command with one line and the status 130, whenever it comes.

Until the Trainer runs and after it has ended, nothing is half-written, so the process ends at once.
While the Trainer runs, an error is raised, so that loggers record the end of the run. During
training `callbacks.safeguards` has a message of its own.
"""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class StoppedError(BaseException):
    """A signal stopped the run. It is not an Exception, so that only the command line catches it.

    Attributes:
        signum: Number of the signal.
    """

    def __init__(self, signum: int, message: str) -> None:
        super().__init__(message)
        self.signum = signum


def end_at_sigint(message: str) -> None:
    """Let SIGINT end this process at once, with a line on stderr.

    Python's own handler raises KeyboardInterrupt. Many libraries print a traceback of it while they
    are imported or while the process ends, or ignore it.
    """

    def end(signum: int, frame: FrameType | None) -> None:
        if os.environ.get("LOCAL_RANK", "0") == "0":
            # sys.stderr may be locked by the code that was interrupted.
            os.write(2, f"rl_lightning: {message}\n".encode())
        os._exit(128 + signum)

    signal.signal(signal.SIGINT, end)


@contextmanager
def restored_sigint() -> Iterator[None]:
    """Restore the handler of SIGINT at the end."""
    if threading.current_thread() is not threading.main_thread():
        yield  # Python sets handlers in the main thread only
        return
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def raise_at_sigint(message: str) -> None:
    """Let SIGINT raise a StoppedError. A second SIGINT ends the process at once."""
    if threading.current_thread() is not threading.main_thread():
        return

    def stop(signum: int, frame: FrameType | None) -> None:
        signal.signal(signum, signal.SIG_DFL)
        sys.stdout.flush()
        raise StoppedError(signum, message)

    signal.signal(signal.SIGINT, stop)
