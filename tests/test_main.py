"""What the program answers before torch and Lightning are imported."""

import subprocess
import sys

import pytest

from rl_lightning import __version__

# Runs the program, and says whether torch was imported.
PROGRAM = """
import sys
from rl_lightning.__main__ import main
status = main(sys.argv[1:])
print("imported" if "torch" in sys.modules else "light")
sys.exit(status)
"""


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (["--version"], 0, __version__),
        (["fti", "--config", "a2c/cartpole"], 2, "there is no command fti: did you mean fit?"),
        (["learn"], 2, "choose one of fit, validate"),
        (["fit", "--config", "a2c/cartpol"], 2, "no configuration of this name"),
        (["seeds", "--config=a2c/cartpol"], 2, "no configuration of this name"),
        (["sweep", "--config", "a2c/cartpole"], 2, "--space"),
    ],
)
def test_it_is_answered_without_torch(arguments, status, says):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments], capture_output=True, text=True
    )
    assert done.returncode == status, done.stderr
    assert says in done.stdout + done.stderr
    assert "imported" not in done.stdout
    assert "Traceback" not in done.stderr
