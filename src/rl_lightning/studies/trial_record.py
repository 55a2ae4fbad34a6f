"""What is known of a trial."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from optuna import Trial

    from rl_lightning.studies.training import Subject


def describe(parameters: Mapping[str, Any]) -> str:
    """The parameters of a trial in one line, with short names."""
    short = {"seed_everything": "seed"}
    return ", ".join(
        f"{short.get(flag, flag)} {value:.4g}"
        if isinstance(value, float)
        else f"{short.get(flag, flag)} {value}"
        for flag, value in parameters.items()
    )


class TrialRecord:
    """What is known of a trial. It is kept in the trial's attributes, so it survives a crash.

    The attributes are `folder` (of the run), `curve` (list of [step, score, seconds]),
    `checkpoints` and `seconds` of a training that has ended, and the test metrics of the
    checkpoints `last` and `best`.

    Args:
        trial: The trial.
    """

    def __init__(self, trial: "Trial") -> None:
        self._trial = trial
        self._curve: list[list[float]] = trial.user_attrs.get("curve", [])
        self._earlier = self._curve[-1][2] if self._curve else 0.0
        self.is_pruned = False

    @property
    def scores(self) -> list[float]:
        """The score of each validation."""
        return [score for _, score, _ in self._curve]

    @property
    def is_fitted(self) -> bool:
        """Whether the training has come to its end."""
        return "seconds" in self._trial.user_attrs

    @property
    def checkpoints(self) -> dict[str, str]:
        """Paths of the checkpoints "last" and "best" of a training that has ended."""
        found: dict[str, str] = self._trial.user_attrs.get("checkpoints", {})
        return found

    def checkpoint(self) -> str | None:
        """The checkpoint from which an interrupted run is resumed."""
        folder = self._trial.user_attrs.get("folder")
        path = Path(folder or "", "checkpoints", "last.ckpt")
        return str(path) if folder is not None and path.is_file() else None

    def hear(self, name: str, content: Any) -> bool:
        """Take a message of the run. Returns whether the run is to stop."""
        if name == "validated":
            epoch, step, score, seconds, can_stop = content
            kept = [point for point in self._curve if point[0] < step]
            self._curve = [*kept, [step, score, self._earlier + seconds]]
            self._trial.set_user_attr("curve", self._curve)
            self._trial.report(score, epoch)
            self.is_pruned = can_stop and self._trial.should_prune()
            return self.is_pruned
        if name == "fitted":
            name, content = "seconds", self._earlier + content
        self._trial.set_user_attr(name, content)
        return False

    def value(self, subject: "Subject") -> float:
        """The test score of the last checkpoint; without a test, the last validation's."""
        tested = self._trial.user_attrs.get("last", {})
        return float(tested.get(score_name(subject), self.scores[-1]))

    def line(self, subject: "Subject") -> str:
        """What the run reached, for the terminal."""
        attributes, name = self._trial.user_attrs, score_name(subject)
        tested = [
            f"test/{name} {attributes[kind][name]:.4g} ({kind})"
            for kind in ("last", "best")
            if name in attributes.get(kind, {})
        ]
        reached = tested or [f"{subject.monitor} {self.scores[-1]:.4g}"]
        pruned = ["pruned"] if self.is_pruned else []
        what = [*reached, f"{int(self._curve[-1][0]):,} steps", f"{attributes['seconds']:.0f} s"]
        return ", ".join([describe(self._trial.params), *what, *pruned])


def score_name(subject: "Subject") -> str:
    """The monitored metric without the prefix "val/"."""
    return str(subject.monitor).removeprefix("val/")
