"""Entry point of `python -m rl_lightning` and of the command `rl_lightning`."""

import sys

from rl_lightning.cli import main


def run() -> None:
    """Run the command line, and exit with its status."""
    sys.exit(main())


if __name__ == "__main__":
    run()
