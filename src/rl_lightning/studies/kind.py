"""Base class of the kinds of studies, each of which is one command."""

import argparse
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from rl_lightning.studies.parent_run import ParentRun

if TYPE_CHECKING:
    from optuna import Study, Trial

    from rl_lightning.studies.training import Subject


class StudyKind(ABC):
    """What a command draws for its trials, and what it ends on.

    Attributes:
        name: Name of the command.
        summary: Its description.
        own_flags: Flags of `fit` that the study sets itself.

    Args:
        options: The command's own options.
        arguments: Arguments of `fit`.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    own_flags: ClassVar[tuple[str, ...]] = ("--ckpt_path",)

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
        """What must be equal when a study is resumed."""
        return {"kind": self.name, "arguments": [*self.arguments]}

    @abstractmethod
    def samplers(self) -> dict[str, Any]:
        """Optuna's sampler and pruner."""

    def queue(self, study: "Study") -> None:  # noqa: B027, because most kinds queue none
        """Queue trials whose parameters are given."""

    @abstractmethod
    def draw(self, trial: "Trial") -> None:
        """Draw the parameters of a trial. They are its flags."""

    @abstractmethod
    def remaining(self, study: "Study") -> int:
        """The number of trials that no process has started yet."""

    def test_arguments(self) -> list[str] | None:
        """Arguments of `test`; None is no test."""
        return None

    @abstractmethod
    def finish(
        self, study: "Study", subject: "Subject", folder: Path, parent: ParentRun | None
    ) -> list[str]:
        """Write the tables and the picture, and log them.

        Returns:
            Lines for the terminal.

        Raises:
            ConfigurationError: If no trial came to its end.
        """
