"""What a study ends on: files with its rows and curves, and a picture."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from rl_lightning.studies.statistics import FEWEST_FOR_INTERVAL, score_statistics
from rl_lightning.studies.study import CHECKPOINTS
from rl_lightning.studies.trial_table import Trial
from rl_lightning.tracking.tables import write_table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from optuna.distributions import BaseDistribution

Curve = Sequence[Sequence[float]]


def write_rows(path: Path, trials: Sequence[Trial]) -> None:
    """Write a CSV file with a row for each trial: parameters, steps, seconds and scores."""
    rows = []
    for trial in trials:
        result = trial.result
        row = {**trial.parameters, "state": trial.state, "score": result.get("value")}
        if trial.curve:
            row |= {"steps": int(trial.curve[-1][0]), "last_validation": trial.curve[-1][1]}
        row["fit_seconds"] = round(result["seconds"], 1) if "seconds" in result else None
        for kind in CHECKPOINTS:
            row |= {f"{kind}_{name}": value for name, value in result.get(kind, {}).items()}
        row["run_id"] = Path(result.get("folder", "")).name
        row["error"] = result.get("error") if trial.state == "failed" else None
        rows.append(row)
    write_table(path, rows)


def write_curves(path: Path, trials: Sequence[Trial]) -> None:
    """Write a CSV file with a row for each validation of each trial."""
    rows = [
        {"trial": trial.number, **trial.parameters, "step": step, "score": score,
         "seconds": round(seconds, 2)}
        for trial in trials
        for step, score, seconds in trial.curve
    ]  # fmt: skip
    write_table(path, rows)


def at_common_steps(curves: Sequence[Curve]) -> tuple[np.ndarray, np.ndarray]:
    """The scores of several runs at equal environment steps.

    They begin where all runs have been validated, because no score of a run is known before its
    first validation. A run that has stopped early keeps its last score.

    Args:
        curves: [step, score, seconds] of each validation of each run.

    Returns:
        Steps [K] and scores [number of runs, K].
    """
    arrays = [np.array(curve).T for curve in curves]
    steps = np.unique(np.concatenate([array[0] for array in arrays]))
    steps = steps[steps >= max(array[0, 0] for array in arrays)]
    return steps, np.array([np.interp(steps, array[0], array[1]) for array in arrays])


def draw_seeds(path: Path, curves: Sequence[Curve], title: str, score: str) -> None:
    """Draw the curve of each seed, and their interquartile mean with its 95 % interval."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for curve in curves:
        steps, scores, _ = zip(*curve, strict=True)
        axes.plot(steps, scores, color="tab:blue", alpha=0.25, linewidth=0.8)
    if curves:
        common, at_steps = at_common_steps(curves)
        found = [score_statistics(scores) for scores in at_steps.T]
        axes.plot(common, [each.iqm for each in found], color="tab:blue", label="IQM")
        if len(curves) >= FEWEST_FOR_INTERVAL:
            low, high = [each.low for each in found], [each.high for each in found]
            axes.fill_between(common, low, high, color="tab:blue", alpha=0.2, label="95 % interval")
        axes.legend()
    _label(axes, f"{title}, {len(curves)} seeds", score)
    figure.savefig(path, dpi=120)


def draw_sweep(
    path: Path,
    trials: Sequence[Trial],
    best: Trial,
    space: Mapping[str, "BaseDistribution"],
    title: str,
    score: str,
) -> None:
    """Draw the curve of each trial, and the scores by each hyperparameter."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 3.5 + 3 * len(space)), layout="constrained")
    axes, *below = figure.subplots(1 + len(space))
    for trial in trials:
        if not trial.curve:
            continue
        colour, alpha, width = ("grey", 0.5, 0.8)
        if trial.number == best.number:
            colour, alpha, width = ("tab:red", 1, 1.8)
        steps, scores, _ = zip(*trial.curve, strict=True)
        axes.plot(steps, scores, color=colour, alpha=alpha, linewidth=width, zorder=2 + alpha)
        marker = "o" if trial.state == "complete" else "x"
        for each, name in zip(below, space, strict=True):
            value = trial.parameters[name]
            x = value if isinstance(value, int | float) else str(value)
            each.plot(x, scores[-1], marker, color=colour)
    _label(axes, f"{title}, {len(trials)} trials, the best one in red", score)
    for each, (name, distribution) in zip(below, space.items(), strict=True):
        if getattr(distribution, "log", False):
            each.set_xscale("log")
        each.set(xlabel=f"{name} (x: pruned or failed)", ylabel=score)
    figure.savefig(path, dpi=120)


def _label(axes: "Axes", title: str, score: str) -> None:
    axes.set(title=title, xlabel="environment steps", ylabel=score)
    axes.grid(alpha=0.3)
