"""Time and memory of one sweep of value iteration against the grid's size, compared with NumPy.

    python benchmarks/value_iteration.py --max_size 4000 --threads 2

Each measurement runs in its own process; the memory of its imports is subtracted. Writes
`docs/value_iteration_scaling.csv` and `.png`. Linux only.
"""

import argparse
import csv
import multiprocessing
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from rl_lightning.environments.dynamics import to_tensors
from rl_lightning.environments.gridworld import GridWorld
from rl_lightning.functional.bellman import optimality_sweep

SIZES = (4, 10, 32, 100, 316, 1000, 2000, 3000, 4000, 5000)
DOCS = Path(__file__).parent.parent / "docs"


def torch_sweeps(grid: GridWorld) -> Callable[[], float]:
    """The package's sweep, as `ValueIteration.training_step` runs it."""
    dynamics = to_tensors(grid.transitions(), grid.initial_state_distrib, 4, gamma=1.0)
    action_values = torch.zeros_like(dynamics.rewards)

    def sweep() -> float:
        swept = optimality_sweep(dynamics, action_values)
        residual = torch.linalg.vector_norm(action_values.sub_(swept), torch.inf)
        action_values.copy_(swept)
        return residual.item()

    return sweep


def numpy_sweeps(grid: GridWorld) -> Callable[[], float]:
    """A sweep in NumPy, with a table of one successor for each state and action."""
    outcomes = grid.transitions()
    shape = (grid.walls.size, 4)
    successors = outcomes.next_states.astype(np.intp).reshape(shape)
    rewards = outcomes.rewards.reshape(shape)
    goes_on = (~outcomes.terminated).astype(np.float64).reshape(shape)
    action_values = np.zeros(shape)

    def sweep() -> float:
        nonlocal action_values
        values = action_values.max(axis=1)
        new_values = rewards + goes_on * values[successors]
        residual = np.abs(new_values - action_values).max()
        action_values = new_values
        return float(residual)

    return sweep


def python_sweeps(grid: GridWorld) -> Callable[[], float]:
    """The textbook's loop over all states of the dictionary `P`."""
    table = grid.P
    values = {state: 0.0 for state in table}

    def sweep() -> float:
        residual = 0.0
        for state, actions in table.items():
            old = values[state]
            values[state] = max(
                sum(p * (r + (0.0 if t else values[s])) for p, s, r, t in outcomes)
                for outcomes in actions.values()
            )
            residual = max(residual, abs(values[state] - old))
        return residual

    return sweep


KINDS = {"rl_lightning": torch_sweeps, "numpy": numpy_sweeps, "python": python_sweeps}


def memory(field: str) -> float:
    """A memory figure of this process, in MB."""
    status = Path("/proc/self/status").read_text()
    return int(status.split(f"{field}:")[1].split()[0]) / 1000


def reset_peak() -> None:
    """Reset VmHWM, the peak of memory, to the present value."""
    Path("/proc/self/clear_refs").write_text("5")


def measure(kind: str, size: int, threads: int) -> dict[str, Any]:
    """Build the grid and sweep it, in this process."""
    torch.set_num_threads(threads)
    imported = memory("VmRSS")
    began = time.perf_counter()
    sweep = KINDS[kind](GridWorld(size=size))
    build_seconds = time.perf_counter() - began
    build_peak = memory("VmHWM") - imported
    reset_peak()
    sweep(), sweep()
    seconds: list[float] = []
    cpu_began = time.process_time()
    while len(seconds) < 5 or (sum(seconds) < 2.0 and len(seconds) < 500):
        began = time.perf_counter()
        sweep()
        seconds.append(time.perf_counter() - began)
    cpu_seconds = time.process_time() - cpu_began
    return {
        "kind": kind,
        "states": size * size,
        "threads": threads,
        "sweep_seconds": median(seconds),
        "sweep_seconds_min": min(seconds),
        "sweep_cpu_seconds": cpu_seconds / len(seconds),
        "sweep_peak_mb": memory("VmHWM") - imported,
        "build_seconds": build_seconds,
        "build_peak_mb": build_peak,
        "imported_mb": imported,
    }


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Time and memory against the number of states, on double logarithmic axes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained", dpi=100)
    for axes, key, label in zip(
        figure.subplots(1, 2),
        ("sweep_cpu_seconds", "sweep_peak_mb"),
        ("CPU seconds per sweep", "peak memory of a sweep (MB)"),
        strict=True,
    ):
        for kind in KINDS:
            points = [(row["states"], row[key]) for row in rows if row["kind"] == kind]
            points = [point for point in points if point[1] > (1 if "mb" in key else 0)]
            axes.plot(*zip(*points, strict=True), "o-", label=kind)
        axes.set(xscale="log", yscale="log", xlabel="states", title=label)
        axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--max_size", type=int, default=1000, help="largest grid's edge")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=DOCS)
    args = parser.parse_args()
    rows = []
    for size in (size for size in SIZES if size <= args.max_size):
        for kind in KINDS:
            if kind == "python" and size > 316:
                continue  # takes seconds per sweep, and gigabytes for the dictionary
            with multiprocessing.get_context("fork").Pool(1) as process:
                rows.append(process.apply(measure, (kind, size, args.threads)))
            print(rows[-1], flush=True)
    with (args.out / "value_iteration_scaling.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    draw(rows, args.out / "value_iteration_scaling.png")


if __name__ == "__main__":
    main()
