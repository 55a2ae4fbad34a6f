"""Speed of one process on one core, and of several processes on a core each.

In turn: one process alone, several as the ranks of one run, and as many separate runs at once. The
separate runs are the most that the machine can give.

    python benchmarks/processes.py --configs configs/a2c/cartpole.yaml configs/dqn/cartpole.yaml \
        --processes 2 --repeats 3 --out docs/runs/processes.csv

Processes are started as torchrun starts them. Writes one row for each run: environment steps per
second of all ranks (the median of the logged values, without the first quarter), the best greedy
return of its validations, and the environment steps and seconds to the first return of 475.
Arguments after `--` go to `fit`.
"""

import argparse
import csv
import os
import socket
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

GOAL = 475


def start(core: int, rank: int, processes: int, port: int, folder: str, given: list[str]) -> Any:
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": f"{port}",
        "WORLD_SIZE": f"{processes}",
        "LOCAL_WORLD_SIZE": f"{processes}",
        "RANK": f"{rank}",
        "LOCAL_RANK": f"{rank}",
        "GROUP_RANK": "0",
    }
    if processes > 1:
        environment["TORCHELASTIC_RUN_ID"] = "benchmark"
    command = [sys.executable, "-m", "rl_lightning", "fit", *given]
    if processes > 1:
        command += ["--trainer.devices", f"{processes}", "--trainer.strategy", "ddp"]
    return subprocess.Popen(
        ["taskset", "-c", f"{core}", *command],
        cwd=folder,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def begin(folder: str, config: str, cores: list[int], extra: list[str]) -> list[Any]:
    """Start one run with one rank on each of `cores`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    quiet = ["--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false"]
    given = ["--config", config, "--num_threads", "1", *quiet, *extra]
    return [start(core, rank, len(cores), port, folder, given) for rank, core in enumerate(cores)]


def end(folder: str, ranks: list[Any]) -> dict[str, Any]:
    from mlflow import MlflowClient

    for process in ranks:
        _, said = process.communicate()
        if process.returncode:
            sys.exit(said)
    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    (run,) = client.search_runs([e.experiment_id for e in client.search_experiments()])

    def history(name: str) -> list[Any]:
        return client.get_metric_history(run.info.run_id, name)

    speeds = [point.value for point in history("speed/env_steps_per_second")]
    returns = history("val/return")
    reached = next((point for point in returns if point.value >= GOAL), None)
    return {
        "env_steps_per_second": round(statistics.median(speeds[len(speeds) // 4 :])),
        "best_return": max((point.value for point in returns), default=""),
        "env_steps_to_475": reached.step if reached else "",
        "seconds_to_475": (
            round((reached.timestamp - run.info.start_time) / 1e3, 1) if reached else ""
        ),
    }


def measure(config: str, runs: list[list[int]], extra: list[str]) -> list[dict[str, Any]]:
    """Run all of `runs` at once, each given by the cores of its ranks; returns their rows."""
    with tempfile.TemporaryDirectory() as parent:
        folders = [f"{parent}/{index}" for index in range(len(runs))]
        begun = []
        for folder, cores in zip(folders, runs, strict=True):
            os.mkdir(folder)
            begun.append(begin(folder, config, cores, extra))
        return [end(folder, ranks) for folder, ranks in zip(folders, begun, strict=True)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--configs", type=Path, nargs="+", required=True)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, required=True)
    split = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    arguments, extra = parser.parse_args(sys.argv[1:split]), sys.argv[split + 1 :]
    cores = list(range(arguments.processes))
    turns = {"alone": [[0]], "ranks of one": [cores], "apart": [[core] for core in cores]}
    rows = []
    for config in arguments.configs:
        name = "/".join(config.with_suffix("").parts[-2:])
        for seed in range(1, arguments.repeats + 1):
            speeds = {}
            for turn, runs in turns.items():
                given = ["--seed_everything", f"{seed}", *extra]
                found = measure(str(config.resolve()), runs, given)
                speeds[turn] = sum(each["env_steps_per_second"] for each in found)
                for ranks, each in zip(runs, found, strict=True):
                    kind = {"config": name, "runs": turn, "processes": len(ranks), "seed": seed}
                    rows.append({**kind, **each})
                    print(rows[-1], flush=True)
            for turn in ("ranks of one", "apart"):
                print(f"{name}, {turn}: {speeds[turn] / speeds['alone']:.2f} times", flush=True)
    with arguments.out.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys(), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
