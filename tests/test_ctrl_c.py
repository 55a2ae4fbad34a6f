"""Ctrl-C ends a command with one line and the status 130, whenever it comes."""

import os
import random
import re
import signal
import subprocess
import sys
import time

import pytest

import small_runs

CONFIG = str(small_runs.CONFIGS / "a2c/cartpole.yaml")
SMALL = ["--config", CONFIG, *small_runs.EXPERIMENTS["a2c/cartpole"].split()]
SMALL += ["--trainer.enable_progress_bar", "false"]
COMMANDS = {
    "fit": ["fit", *SMALL, "--trainer.max_epochs", "30"],
    "validate": ["validate", *SMALL, "--untrained", "true"],
    "test": ["test", *SMALL, "--untrained", "true", "--data.eval_episodes", "200"],
    "predict": ["predict", *SMALL, "--untrained", "true", "--data.predict_episodes", "2"],
}
# Before this, Python itself starts, and its own handler prints a traceback.
STARTED = 'import os, rl_lightning.__main__ as m; os.write(3, b"."); m.run()'


def stopped(arguments, folder, after):
    """Exit status, lines that are no progress, and whether it was stopped before its end."""
    there, here = os.pipe()
    os.set_inheritable(here, True)
    program = STARTED.replace("write(3", f"write({here}")
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", program, *arguments],
        cwd=folder, pass_fds=[here], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    os.close(here)
    os.read(there, 1)
    os.close(there)
    time.sleep(after)
    process.send_signal(signal.SIGINT)
    try:
        _, said = process.communicate(timeout=120)
    finally:
        process.kill()  # it hangs if it has not ended
    return process.returncode, said


def check(command, folder, after):
    status, said = stopped(COMMANDS[command], folder, after)
    assert "Traceback" not in said, said
    assert "Exception ignored" not in said, said
    if status == 0:  # it had ended before
        return False
    lines = [line for line in said.splitlines() if line.startswith("rl_lightning: ")]
    # The interpreter ends without our handler for a moment, and the signal ends it silently.
    assert status in (130, -signal.SIGINT), said
    assert len(lines) == (status == 130), said
    assert all(re.match("rl_lightning: SIGINT", line) for line in lines)
    return True


@pytest.mark.parametrize("after", [0, 0.5, 2])
def test_ctrl_c_while_libraries_are_imported_is_one_line(after, working_folder):
    assert check("fit", working_folder, after)


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_ctrl_c_at_any_moment_is_one_line(command, working_folder, store):
    rng = random.Random(command)
    for _ in range(20):
        check(command, working_folder, rng.uniform(0, 15))
