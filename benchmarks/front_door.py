"""Runs the command line with a callback of the benchmark added to the Trainer's."""

from collections.abc import Sequence
from typing import Any

from lightning import Callback


def run_watched(watch: Callback, arguments: Sequence[str]) -> None:
    """Run the command with `watch` before all other callbacks; its exit status must be 0."""
    from rl_lightning import cli

    original = cli.CommandLine.instantiate_trainer

    def with_watch(self: Any, **kwargs: Any) -> Any:
        trainer = original(self, **kwargs)
        trainer.callbacks.insert(0, watch)
        return trainer

    cli.CommandLine.instantiate_trainer = with_watch  # type: ignore[method-assign]
    try:
        assert cli.main([*arguments]) == 0, f"{' '.join(arguments)} failed"
    finally:
        cli.CommandLine.instantiate_trainer = original  # type: ignore[method-assign]
