"""Memory, open files and speed of one configuration over an hour on one core.

    python benchmarks/soak.py --config configs/a2c/pong.yaml --core 1 --minutes 62 \
        --out docs/runs/soak_a2c_pong.csv

Writes one row for each minute: resident memory, open files, threads and child processes at the
minute's end, environment steps per second of training (the median of the logged values, without
evaluation), and environment steps per second of CPU time, with evaluation. The configuration's
EarlyStopping is left out. Needs the extra `bench`.
"""

import argparse
import contextlib
import csv
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
import yaml


def endless(config: Path, folder: str) -> Path:
    """A copy of the configuration without EarlyStopping."""
    settings = yaml.safe_load(config.read_text())
    callbacks = settings["trainer"].get("callbacks", [])
    settings["trainer"]["callbacks"] = [
        each for each in callbacks if each["class_path"] != "EarlyStopping"
    ]
    copy = Path(folder) / config.name
    copy.write_text(yaml.safe_dump(settings))
    return copy


def watch(command: list[str], folder: str) -> list[dict[str, float]]:
    """Measure the process of `command` every ten seconds until it ends."""
    environment, samples = {**os.environ, "OMP_NUM_THREADS": "1"}, []
    running = psutil.Popen(command, cwd=folder, env=environment)
    while running.poll() is None:
        with contextlib.suppress(psutil.NoSuchProcess), running.oneshot():
            cpu = running.cpu_times()
            sample = {
                "time": time.time(),
                "cpu_seconds": cpu.user + cpu.system,
                "rss_mb": running.memory_info().rss / 1e6,
                "file_descriptors": running.num_fds(),
                "threads": running.num_threads(),
                "children": len(running.children(recursive=True)),
            }
            samples.append(sample)
        time.sleep(10)
    if running.returncode:
        sys.exit(f"{' '.join(command)} ended with {running.returncode}")
    return samples


def by_minute(samples: list[dict[str, float]], store: str) -> list[dict[str, Any]]:
    """One row for each whole minute of `samples`, with the speeds of that minute in `store`."""
    from mlflow import MlflowClient

    client = MlflowClient(store)
    (run,) = client.search_runs([each.experiment_id for each in client.search_experiments()])
    points = client.get_metric_history(run.info.run_id, "speed/env_steps_per_second")
    start, rows = samples[0]["time"], []
    for minute in range(1, int((samples[-1]["time"] - start) / 60) + 1):
        until = start + 60 * minute
        within = [p for p in points if until - 60 <= p.timestamp / 1e3 < until]
        of_minute = [each for each in samples if until - 60 <= each["time"] < until]
        row: dict[str, Any] = {"minute": minute, "env_steps_per_second": ""}
        row["env_steps_per_cpu_second"] = ""
        if within:
            row["env_steps_per_second"] = round(statistics.median(p.value for p in within))
        if len(within) > 1:
            steps = within[-1].step - within[0].step
            share = (within[-1].timestamp - within[0].timestamp) / 1e3
            used = of_minute[-1]["cpu_seconds"] - of_minute[0]["cpu_seconds"]
            seconds = of_minute[-1]["time"] - of_minute[0]["time"]
            row["env_steps_per_cpu_second"] = round(steps / (share * used / seconds))
        last = of_minute[-1]
        row["rss_mb"] = round(last["rss_mb"], 1)
        row |= {key: last[key] for key in ("file_descriptors", "threads", "children")}
        rows.append(row)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--core", type=int, default=0)
    parser.add_argument("--minutes", type=int, default=62)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    hours, minutes = divmod(arguments.minutes, 60)
    with tempfile.TemporaryDirectory() as folder:
        command = ["taskset", "-c", f"{arguments.core}", sys.executable, "-m", "rl_lightning"]
        command += ["fit", "--config", str(endless(arguments.config, folder))]
        command += ["--num_threads", "1", "--trainer.max_epochs", "-1"]
        command += ["--trainer.max_time", f"00:{hours:02}:{minutes:02}:00"]
        command += ["--trainer.enable_progress_bar", "false"]
        rows = by_minute(watch(command, folder), f"sqlite:///{folder}/mlflow.db")
    with arguments.out.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys(), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
