"""What Lightning's Trainer does not tell publicly."""

from typing import Any

from lightning import Trainer
from lightning.pytorch.loops.evaluation_loop import _EvaluationLoop
from lightning.pytorch.strategies import Strategy
from lightning.pytorch.strategies.launchers import _MultiProcessingLauncher
from lightning_utilities.core.apply_func import apply_to_collection
from torch import Tensor


def start_method(strategy: Strategy) -> str | None:
    """How the processes of a strategy start: "fork", "spawn" or "forkserver".

    None means that Lightning starts none, or that each runs the command again.
    """
    launcher = strategy.launcher
    return launcher._start_method if isinstance(launcher, _MultiProcessingLauncher) else None


def round_tables(trainer: Trainer) -> None:
    """Round the figures of the tables after `validate` and `test`, which have all digits."""
    for loop in (trainer.test_loop, trainer.validate_loop):
        loop._print_results = _print_rounded  # type: ignore[method-assign]


def _print_rounded(results: list[Any], stage: str) -> None:
    rounded = apply_to_collection(results, (Tensor, float), _rounded)
    _EvaluationLoop._print_results(rounded, stage)


def _rounded(value: Any) -> str:
    number = float(value)
    return f"{number:.0f}" if number.is_integer() or abs(number) >= 1e4 else f"{number:.4g}"
