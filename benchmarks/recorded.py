"""Reads the recorded files of docs/runs, and writes numbers as the pages do."""

import csv
from collections.abc import Iterable
from pathlib import Path

DOCS = Path(__file__).resolve().parent.parent / "docs"
Row = dict[str, str]
Table = list[list[str]]
# The rungs of the ladder of variance reduction, and what a page calls them.
RUNGS = {
    "trajectory": "whole trajectory",
    "reward_to_go": "reward to go",
    "discounted": "discounted",
    "moving_average": "− moving average",
    "value": "− V(s)",
}


def read(name: str, **wanted: str) -> list[Row]:
    """The rows of docs/runs/NAME.csv whose columns have the wanted values."""
    with (DOCS / "runs" / f"{name}.csv").open(newline="") as file:
        return [
            row
            for row in csv.DictReader(file)
            if all(row[key] == value for key, value in wanted.items())
        ]


def seed_curves(study: str) -> dict[str, list[Row]]:
    """The validations of each seed of a study, as `python -m rl_lightning seeds` writes them."""
    curves: dict[str, list[Row]] = {}
    for row in read(f"{study}_curves"):
        curves.setdefault(row["seed_everything"], []).append(row)
    return curves


def column(rows: Iterable[Row], name: str) -> list[float]:
    """The values of a column, without empty ones."""
    return [float(row[name]) for row in rows if row[name]]


def number(value: str | float, digits: int = 0) -> str:
    """A number with separators of thousands and a true minus sign."""
    return f"{float(value):,.{digits}f}".replace("-", "−")


def spread(row: Row, digits: int = 0) -> str:
    """Return ± standard deviation."""
    return f"{number(row['return'], digits)} ± {number(row['return_std'], digits)}"
