"""Measures how long commands take, compared with importing torch and Lightning.

    python benchmarks/startup.py --source . --repeats 5 --out docs/runs/startup.csv

Each command runs in a process of its own. `fit` does one update, without a validation, in an
empty folder and in the same folder again, and without MLflow. `--source` is a checkout of this
package; several can be compared in one run.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rl_lightning.tracking.tables import write_table

FIT = (
    *("fit", "--config", "a2c/cartpole", "--trainer.max_steps", "1", "--data.num_envs", "2"),
    *("--trainer.limit_val_batches", "0", "--trainer.enable_progress_bar", "false"),
)
COMMANDS = {
    "--version": ("--version",),
    "unknown command": ("fti",),
    "unknown configuration": ("fit", "--config", "a2c/cartpol"),
    "unknown flag": ("fit", "--config", "a2c/cartpole", "--data.num_env", "3"),
    "fit --help": ("fit", "--help"),
    "fit, one update, new folder": FIT,
    "fit, one update, same folder": FIT,
    "fit, one update, no logger": (*FIT, "--trainer.logger", "false"),
}
BASELINE = "import torch, lightning"


def seconds_of(command: list[str], source: Path, folder: str) -> tuple[float, float]:
    """Seconds of a command, and the part of them after its last line."""
    environment = {**os.environ, "PYTHONPATH": str(source.resolve() / "src")}
    start = last = time.perf_counter()
    process = subprocess.Popen(
        command, cwd=folder, env=environment, text=True, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert process.stdout is not None
    for _ in process.stdout:
        last = time.perf_counter()
    process.wait()
    end = time.perf_counter()
    return end - start, end - last


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--source", type=Path, nargs="+", default=[Path(".")])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    rows = []
    for repeat in range(arguments.repeats):
        baseline, _ = seconds_of([sys.executable, "-c", BASELINE], Path(), ".")
        for number, source in enumerate(arguments.source):
            with tempfile.TemporaryDirectory() as folder:
                for name, given in COMMANDS.items():
                    command = [sys.executable, "-m", "rl_lightning", *given]
                    seconds, ending = seconds_of(command, source, folder)
                    rows.append(
                        {
                            "source": number,
                            "command": name,
                            "repeat": repeat,
                            "seconds": round(seconds, 2),
                            "after_last_line": round(ending, 2),
                            "baseline_seconds": round(baseline, 2),
                        }
                    )
                    print(rows[-1], flush=True)
    write_table(arguments.out, rows)
    for number, source in enumerate(arguments.source):
        for name in COMMANDS:
            mine = [row for row in rows if row["source"] == number and row["command"] == name]
            ratio = statistics.median(row["seconds"] / row["baseline_seconds"] for row in mine)
            ending = statistics.median(row["after_last_line"] for row in mine)
            print(f"{source}: {name}: {ratio:.2f} × {BASELINE}, {ending:.2f} s after the last line")


if __name__ == "__main__":
    main()
