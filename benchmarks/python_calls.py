"""Calls of Python and C functions in one update, counted by cProfile, which no noise changes.

    python benchmarks/python_calls.py

Trains the real configurations with all default callbacks, and counts the calls of the updates after
the first ones. `--top 20` also prints the functions that are called most.
"""

import argparse
import cProfile
import pstats
import sys
from contextlib import redirect_stdout
from io import StringIO
from typing import Any

from lightning import Callback, LightningModule, Trainer

from rl_lightning import cli

CONFIGS: dict[str, list[str]] = {
    "dqn/cartpole": [],
    "a2c/cartpole": [],
    "sac/halfcheetah": ["--data.warmup_env_steps", "500", "--data.num_envs", "1"],
}
SKIPPED, COUNTED = 30, 200


class Counter(Callback):
    """Profiles the updates from number `SKIPPED` on."""

    def __init__(self) -> None:
        self.profile = cProfile.Profile()
        self.updates = 0

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.updates += 1
        if self.updates == SKIPPED:
            self.profile.enable()
        if self.updates == SKIPPED + COUNTED:
            self.profile.disable()


def count(config: str, flags: list[str]) -> pstats.Stats:
    """The profile of `COUNTED` updates of a configuration."""
    counter = Counter()

    class CountingCLI(cli.CommandLine):
        def instantiate_trainer(self, **kwargs: Any) -> Trainer:
            trainer = super().instantiate_trainer(**kwargs)
            trainer.callbacks.append(counter)  # type: ignore[attr-defined]
            return trainer

    given = ["fit", "--config", config, *flags, "--trainer.logger", "false"]
    given += ["--trainer.max_steps", f"{SKIPPED + COUNTED + 1}", "--trainer.callbacks", "null"]
    given += ["--trainer.enable_checkpointing", "false", "--trainer.limit_val_batches", "0"]
    given += ["--trainer.log_every_n_steps", "1000000"]
    given += ["--data.updates_per_epoch", f"{SKIPPED + COUNTED + 1}"]
    with redirect_stdout(StringIO()):
        assert cli.main(given, CountingCLI) == 0
    return pstats.Stats(counter.profile)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--configs", nargs="+", default=[*CONFIGS])
    parser.add_argument("--top", type=int, default=0)
    arguments = parser.parse_args()
    for config in arguments.configs:
        stats = count(config, CONFIGS.get(config, []))
        print(f"{config}: {stats.total_calls / COUNTED:,.0f} calls an update", flush=True)
        if arguments.top:
            stats.stream = sys.stdout
            stats.sort_stats("ncalls").print_stats(arguments.top)


if __name__ == "__main__":
    main()
