"""Errors whose message is printed for the user, without a traceback."""


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


def one_line(message: str) -> str:
    """Join the lines of a message to one line."""
    return " ".join(message.split())
