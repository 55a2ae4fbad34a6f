"""What a study ends on: a table, files with its rows and curves, and a picture."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rl_lightning.studies.statistics import ScoreStatistics, score_statistics
from rl_lightning.tracking.tables import write_table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from optuna.trial import FrozenTrial

Trials = Sequence["FrozenTrial"]


def seed_statistics(trials: Trials, score: str) -> dict[str, ScoreStatistics]:
    """Statistics over seeds of the test score, of the checkpoints "last" and "best"."""
    kinds = [kind for kind in ("last", "best") if all(kind in t.user_attrs for t in trials)]
    return {kind: score_statistics([t.user_attrs[kind][score] for t in trials]) for kind in kinds}


def statistics_table(statistics: Mapping[str, ScoreStatistics], score: str) -> list[str]:
    """The lines of a table with a row for each checkpoint."""
    lines = [f"{'test/' + score:<14}{'mean':>10}{'IQM':>10}    95 % interval of the IQM"]
    for kind, (mean, iqm, low, high) in statistics.items():
        lines.append(f"{kind:<14}{mean:>10.4g}{iqm:>10.4g}    {low:.4g} to {high:.4g}")
    return lines


def trials_table(trials: Trials, best_first: Trials, shown: int = 5) -> list[str]:
    """The lines of a table with a row for each of the best trials."""
    rows = [
        [f"{trial.value:.4g}", *(_short(value) for value in trial.params.values())]
        for trial in best_first[:shown]
    ]
    heads = ["score", *best_first[0].params]
    widths = [max(map(len, column)) + 2 for column in zip(heads, *rows, strict=True)]
    pruned = len(trials) - len(best_first)
    return [
        *("".join(map(str.rjust, row, widths)) for row in (heads, *rows)),
        f"{len(best_first)} trials to the end, {pruned} pruned or failed",
    ]


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def write_rows(path: Path, trials: Trials) -> None:
    """Write a CSV file with a row for each trial: parameters, steps, seconds and scores."""
    rows = []
    for trial in sorted(trials, key=_order):
        known = trial.user_attrs
        row = {**trial.params, "state": trial.state.name.lower(), "score": trial.value}
        if known.get("curve"):
            row |= {"steps": int(known["curve"][-1][0]), "last_validation": known["curve"][-1][1]}
        row["fit_seconds"] = round(known["seconds"], 1) if "seconds" in known else None
        for kind in ("last", "best"):
            row |= {f"{kind}_{name}": value for name, value in known.get(kind, {}).items()}
        row["run_id"] = Path(known.get("folder", "")).name
        rows.append(row)
    write_table(path, rows)


def _order(trial: "FrozenTrial") -> tuple[int, int]:
    return trial.params.get("seed_everything", 0), trial.number


def write_curves(path: Path, trials: Trials) -> None:
    """Write a CSV file with a row for each validation of each trial."""
    names = ("step", "score", "seconds")
    rows = [
        {"trial": trial.number, **trial.params, **dict(zip(names, point, strict=True))}
        for trial in trials
        for point in trial.user_attrs.get("curve", [])
    ]
    write_table(path, [{**row, "seconds": round(row["seconds"], 2)} for row in rows])


def _curve(trial: "FrozenTrial") -> np.ndarray:
    """Steps, scores and seconds [3, number of validations]."""
    return np.array(trial.user_attrs["curve"]).T


def draw_seeds(path: Path, trials: Trials, title: str, score: str) -> None:
    """Draw the curve of each seed, and their interquartile mean with its 95 % interval."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    curves = [_curve(trial) for trial in trials]
    for curve in curves:
        axes.plot(curve[0], curve[1], color="tab:blue", alpha=0.25, linewidth=0.8)
    # A seed that has stopped early keeps its last score.
    steps = np.unique(np.concatenate([curve[0] for curve in curves]))
    steps = steps[steps >= max(curve[0, 0] for curve in curves)]
    at_steps = np.array([np.interp(steps, curve[0], curve[1]) for curve in curves])
    found = [score_statistics(scores) for scores in at_steps.T]
    axes.plot(steps, [each.iqm for each in found], color="tab:blue", label="IQM")
    low, high = [each.low for each in found], [each.high for each in found]
    axes.fill_between(steps, low, high, color="tab:blue", alpha=0.2, label="95 % interval")
    _label(axes, f"{title}, {len(trials)} seeds", score)
    axes.legend()
    figure.savefig(path, dpi=120)


def draw_sweep(path: Path, trials: Trials, best: "FrozenTrial", title: str, score: str) -> None:
    """Draw the curve of each trial, and the scores by each hyperparameter."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 3.5 + 3 * len(best.params)), layout="constrained")
    axes, *below = figure.subplots(1 + len(best.params))
    for trial in trials:
        if trial.user_attrs.get("curve"):
            is_best = trial.number == best.number
            steps, scores, _ = _curve(trial)
            axes.plot(steps, scores, color="tab:red" if is_best else "grey",
                      alpha=1 if is_best else 0.5, zorder=3 if is_best else 2,
                      linewidth=1.8 if is_best else 0.8)  # fmt: skip
    _label(axes, f"{title}, {len(trials)} trials, the best one in red", score)
    for each, (name, distribution) in zip(below, best.distributions.items(), strict=True):
        for trial in trials:
            if trial.user_attrs.get("curve"):
                value = trial.params[name]
                reached = _curve(trial)[1, -1]
                finished = trial.value is not None and trial.state.name == "COMPLETE"
                each.plot(
                    value if isinstance(value, int | float) else str(value),
                    reached,
                    "o" if finished else "x",
                    color="tab:red" if trial.number == best.number else "grey",
                )
        if getattr(distribution, "log", False):
            each.set_xscale("log")
        each.set_xlabel(f"{name} (x: pruned)")
        each.set_ylabel(score)
    figure.savefig(path, dpi=120)


def _label(axes: "Axes", title: str, score: str) -> None:
    axes.set_title(title)
    axes.set_xlabel("environment steps")
    axes.set_ylabel(score)
    axes.grid(alpha=0.3)
