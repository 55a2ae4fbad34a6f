"""Errors that are for people."""


class ConfigurationError(ValueError):
    """Something asked for cannot be done.

    The message is one line: what was asked, what is wrong and what to do. The
    command line prints it without a traceback and exits with status 2.
    """


class RunError(RuntimeError):
    """A run that had begun cannot go on.

    The message is one line: what happened, what is kept and what to do. The command
    line prints it without a traceback and exits with status 1.
    """


def one_line(message: str) -> str:
    """The words of a message of several lines on one."""
    return " ".join(message.split())
