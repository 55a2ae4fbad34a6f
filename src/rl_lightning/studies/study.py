"""Base class of the kinds of studies, each of which is one command."""

import argparse
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from rl_lightning.studies.subject import Subject
from rl_lightning.studies.trial_table import Trial

CHECKPOINTS = ("last", "best")


class Ending(NamedTuple):
    """What a study ends on.

    Attributes:
        lines: For the terminal.
        files: What was written.
        metrics: For MLflow.
        tags: For MLflow.
    """

    lines: list[str]
    files: list[Path]
    metrics: dict[str, float]
    tags: dict[str, str]


class Study(ABC):
    """What a command draws for its trials, and what it ends on.

    Attributes:
        name: Name of the command.
        summary: Its description.
        own_flags: Flags of `fit` that the study sets itself.
        test: Arguments of `test`; None is no test.
        env_steps: Environment steps of each trial; None if the configuration ends it.
        subject: What the study is about; set by `prepare`.
        folder: Folder of the study; set by `prepare`.

    Args:
        options: The command's own options.
        arguments: Arguments of `fit`.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    own_flags: ClassVar[tuple[str, ...]] = ("--ckpt_path",)
    test: Sequence[str] | None = None
    env_steps: int | None = None
    subject: Subject
    folder: Path

    def __init__(self, options: argparse.Namespace, arguments: Sequence[str]) -> None:
        self.options = options
        self.arguments = arguments

    @staticmethod
    @abstractmethod
    def add_options(parser: argparse.ArgumentParser, number: dict[str, Any]) -> None:
        """Add the command's own options.

        Args:
            parser: The parser of the command.
            number: Settings of an option that is a number of at least 1.
        """

    def example(self) -> dict[str, Any]:
        """Parameters of a trial, with which the configuration is checked."""
        return {}

    def contents(self) -> dict[str, Any]:
        """What must be equal whenever the study is started."""
        return {"kind": self.name, "arguments": [*self.arguments]}

    def prepare(self, subject: Subject, folder: Path) -> None:
        """Set what is known once the configuration has been checked.

        Raises:
            ConfigurationError: If the study cannot use this configuration.
        """
        self.subject, self.folder = subject, folder

    @property
    def score(self) -> str:
        """The monitored metric without the prefix "val/"."""
        return str(self.subject.monitor).removeprefix("val/")

    @property
    def sign(self) -> int:
        """1 if a higher score is better, else −1."""
        return 1 if self.subject.mode == "max" else -1

    @abstractmethod
    def propose(self, trials: Sequence[Trial]) -> dict[str, Any] | None:
        """Parameters of the next trial; None if no more are wanted."""

    def is_hopeless(self, trial: Trial, trials: Sequence[Trial]) -> bool:
        """Whether a running trial is to stop, in comparison with the other trials."""
        return False

    def value(self, result: dict[str, Any]) -> float:
        """The test score of the last checkpoint; without a test, the last validation's."""
        return float(result.get("last", {}).get(self.score, result["curve"][-1][1]))

    def line(self, trial: Trial) -> str:
        """What a trial reached, for the terminal."""
        result = trial.result
        if trial.state == "failed":
            return f"{trial.name} failed: {result['error']}"
        tested = [
            f"test/{self.score} {result[kind][self.score]:.4g} ({kind})"
            for kind in CHECKPOINTS
            if self.score in result.get(kind, {})
        ]
        step, score, _ = trial.curve[-1]
        reached = tested or [f"{self.subject.monitor} {score:.4g}"]
        pruned = ["pruned"] if trial.state == "pruned" else []
        what = [*reached, f"{int(step):,} steps", f"{result['seconds']:.0f} s", *pruned]
        return ", ".join([trial.name, *what])

    @abstractmethod
    def write(self, trials: Sequence[Trial]) -> Ending:
        """Write the tables and the picture."""
