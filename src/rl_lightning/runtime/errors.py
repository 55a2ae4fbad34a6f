"""Errors whose message is printed for the user, without a traceback."""

import importlib
from types import ModuleType


class ConfigurationError(ValueError):
    """A setting cannot be used. It is raised before training or evaluation starts.

    The message is one line that says what was asked, what is wrong and what to do. The command
    line prints it without a traceback and exits with status 2.
    """


class RunError(RuntimeError):
    """A run that has started cannot continue.

    The message is one line that says what happened, what is saved and what to do. The command
    line prints it without a traceback and exits with status 1.
    """


class DivergedError(RunError):
    """The loss, a weight or a statistic is NaN or infinite."""


def one_line(message: object, longest: int | None = None) -> str:
    """The text of an error or a message in one line.

    Args:
        message: The error or the message.
        longest: Number of characters to which it is cut; None is all.
    """
    return " ".join(str(message).split())[:longest]


def import_extra(module: str, need: str, extra: str) -> ModuleType:
    """Import a module of a package that only an extra of this package installs.

    Args:
        module: Its name.
        need: What needs it, such as "tree search needs numba".
        extra: The extra that installs the package.

    Raises:
        ConfigurationError: If the package is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ConfigurationError(
            f"{need}, which is not installed: pip install 'rl_lightning[{extra}]'"
        ) from error
