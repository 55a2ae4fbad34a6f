"""Draws the README's learning curves from docs/runs, into docs/learning_curves.png.

python benchmarks/learning_curves.py
"""

from collections.abc import Iterable
from typing import Any

from recorded import DOCS, Row, column, read, seed_curves

SEEDS = ("1", "2", "3")


def panel(axes: Any, title: str, lines: Iterable[tuple[str, str, list[Row], str]]) -> None:
    """One environment: a line for each run.

    Args:
        axes: Where to draw.
        title: Name of the environment.
        lines: Label, colour, rows and the column of returns of each line.
    """
    labelled = set()
    for label, colour, rows, returns in lines:
        name = "step" if "step" in rows[0] else "env_steps"  # as `seeds` writes it, or by hand
        steps = [each / 1000 for each in column(rows, name)]
        shown = label if label not in labelled else None
        axes.plot(steps, column(rows, returns), color=colour, label=shown, linewidth=1.2)
        labelled.add(label)
    axes.set(title=title, xlabel="thousand environment steps")
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")


def main() -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 3.2), layout="constrained", dpi=100)
    cartpole, pong, breakout, halfcheetah = figure.subplots(1, 4)
    names = {"value": "REINFORCE, V(s)", "trajectory": "REINFORCE, whole trajectory"}
    colours = {"value": "tab:blue", "trajectory": "tab:gray"}
    panel(
        cartpole,
        "CartPole-v1",
        [
            (names[rung], colours[rung], seed_curves(f"cartpole_{rung}")[seed], "score")
            for rung in names
            for seed in SEEDS
        ],
    )
    panel(
        pong,
        "Pong from pixels",
        [
            *(("DQN", "tab:orange", seed_curves("pong_dqn")[seed], "score") for seed in SEEDS),
            ("A2C", "tab:green", read("pong_curves", run="a2c", metric="val/return"), "value"),
        ],
    )
    panel(
        breakout,
        "Breakout from pixels",
        [("A2C", "tab:green", read("a2c_breakout_curve"), "val_return")],
    )
    panel(
        halfcheetah,
        "HalfCheetah-v5",
        [
            (label, colour, read(name, env_id="HalfCheetah-v5", seed=seed), "val_return")
            for label, colour, name in (
                ("SAC", "tab:red", "sac_curves"),
                ("A2C", "tab:green", "a2c_locomotion_curves"),
            )
            for seed in SEEDS
        ],
    )
    cartpole.set_ylabel("greedy return")
    figure.savefig(DOCS / "learning_curves.png")


if __name__ == "__main__":
    main()
