"""Entry point of `python -m rl_lightning` and of the command `rl_lightning`."""

import sys


def run() -> None:
    """Run the command line, and exit with its status."""
    from rl_lightning.studies import commands

    if sys.argv[1:] and sys.argv[1] in commands.COMMANDS:
        sys.exit(commands.main(sys.argv[1:]))
    # The processes of a study import torch, and the study itself does not need it.
    from rl_lightning.cli import main

    sys.exit(main())


if __name__ == "__main__":
    run()
