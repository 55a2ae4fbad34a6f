"""Entry point of `python -m rl_lightning` and of the command `rl_lightning`."""

import os
import sys
from collections.abc import Sequence

from rl_lightning import __version__
from rl_lightning.runtime.errors import ConfigurationError
from rl_lightning.runtime.launchers import launch_of
from rl_lightning.runtime.stopping import end_at_sigint

STUDIES = ("seeds", "sweep")
COMMANDS = ("fit", "validate", "test", "predict", *STUDIES, "gtp")


def run() -> None:
    """Run the command line, and exit with its status."""
    end_at_sigint("SIGINT stopped the command before it began")
    status = main(sys.argv[1:])
    end_at_sigint("SIGINT came after the end of the command")
    sys.exit(status)


def main(arguments: Sequence[str]) -> int:
    """Run a command; returns the exit status.

    What can be answered without torch and Lightning is answered before they are imported, because
    that takes seconds.
    """
    from rl_lightning.command_line.configurations import with_found_configurations

    try:
        if [*arguments] == ["--version"]:
            print(f"rl_lightning {__version__}")
            return 0
        _check_command(arguments)
        list(with_found_configurations(arguments))  # refuses a name that does not exist
        if arguments and arguments[0] not in STUDIES:  # which leave out these variables
            launch_of(os.environ)  # refuses variables that Lightning's import would fail at
    except ConfigurationError as error:
        print(f"rl_lightning: error: {error}", file=sys.stderr)
        return 2
    if arguments and arguments[0] in STUDIES:
        return _run_study([*arguments])
    from rl_lightning import cli

    return cli.main([*arguments])


def _run_study(arguments: list[str]) -> int:
    import signal

    from rl_lightning.runtime.stopping import restored_sigint
    from rl_lightning.studies import commands

    try:
        with restored_sigint():
            signal.signal(signal.SIGINT, signal.default_int_handler)
            return commands.main(arguments)
    except KeyboardInterrupt:
        print(f"rl_lightning: SIGINT stopped {arguments[0]}", file=sys.stderr, flush=True)
        return 130


def _check_command(arguments: Sequence[str]) -> None:
    import difflib

    if not arguments or arguments[0].startswith("-") or arguments[0] in COMMANDS:
        return
    close = difflib.get_close_matches(arguments[0], COMMANDS, n=1)
    hint = f"did you mean {close[0]}?" if close else f"choose one of {', '.join(COMMANDS)}"
    raise ConfigurationError(f"there is no command {arguments[0]}: {hint}")


if __name__ == "__main__":
    run()
