"""Does the trials of a study, together with all other processes that have started the study."""

import json
import math
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rl_lightning.runtime.stopping import StoppedError
from rl_lightning.studies.parent_run import ParentRun
from rl_lightning.studies.processes import RunningCommand
from rl_lightning.studies.search_space import as_flags
from rl_lightning.studies.study import CHECKPOINTS, Study
from rl_lightning.studies.trial_table import Trial, TrialTable

# Seconds between two beats of a running trial, and without a beat until it is taken over.
BEAT, GRACE = 3.0, 15.0
_CALLBACK = "rl_lightning.studies.trial_result.TrialResult"


class TrialRun:
    """A trial that this process runs: `fit`, and a `test` of each of its checkpoints.

    The results are files which the commands write. So a trial that was interrupted goes on with
    the command that has not written its result.

    Attributes:
        trial: Its row as this process has written it last.
        command: The running command.
        beat_at: Time of the last beat.
    """

    def __init__(self, trial: Trial, study: Study, parent: ParentRun | None) -> None:
        self.trial, self._study, self._parent = trial, study, parent
        self._folder = study.folder / f"trial-{trial.number}"
        self._folder.mkdir(parents=True, exist_ok=True)
        (self._folder / "prune").unlink(missing_ok=True)
        self.beat_at = time.monotonic()
        self.end_mlflow_runs()
        self.command: RunningCommand | None = None
        self.start_next()

    def _read(self, stage: str) -> dict[str, Any]:
        path = self._folder / f"{stage}.json"
        return json.loads(path.read_text()) if path.is_file() else {}

    @property
    def result(self) -> dict[str, Any]:
        """What the commands have written."""
        tested = {kind: self._read(kind).get("metrics") for kind in CHECKPOINTS}
        return {**self._read("fit"), **{kind: each for kind, each in tested.items() if each}}

    def start_next(self) -> bool:
        """Start the next command; false if there is none."""
        result, study = self.result, self._study
        if "seconds" not in result:
            last = Path(result.get("folder", ""), "checkpoints", "last.ckpt")
            self._start("fit", "fit", study.arguments, str(last) if last.is_file() else None)
            return True
        for kind, checkpoint in result["checkpoints"].items():
            if study.test is not None and kind not in result:
                self._start("test", kind, study.test, checkpoint)
                return True
        return False

    def _start(
        self, command: str, stage: str, arguments: Sequence[str], checkpoint: str | None
    ) -> None:
        flags: dict[str, Any] = {**self.trial.parameters, "trainer.enable_progress_bar": False}
        if self._parent is not None:
            flags["trainer.logger"] = self._parent.loggers_of(self.trial)
        flags["trainer.callbacks+"] = _CALLBACK
        flags["trainer.callbacks.init_args.path"] = str(self._folder / f"{stage}.json")
        if command == "fit" and self._study.env_steps is not None:
            flags |= {"trainer.max_epochs": -1, "trainer.max_steps": -1}
            flags["trainer.callbacks.init_args.env_steps"] = self._study.env_steps
        if checkpoint is not None:
            flags["ckpt_path"] = checkpoint
        given = [command, *arguments, *as_flags(flags)]
        self.command = RunningCommand(given, self._folder / "output.log")

    def prune(self) -> None:
        """Let the training stop after its next validation."""
        (self._folder / "prune").touch()

    def stop(self, signum: signal.Signals = signal.SIGINT) -> None:
        """Send a signal to the running command."""
        if self.command is not None:
            self.command.stop(signum)

    def end_mlflow_runs(self) -> None:
        """End what a killed process of this trial has left as running."""
        if self._parent is not None:
            self._parent.end_runs(self.trial.number)


class Runner:
    """Does the trials of a study until all have ended, here or in another process.

    Args:
        table: The study's trials.
        study: The kind of the study.
        parent: The study's MLflow run, if there is one.
    """

    def __init__(self, table: TrialTable, study: Study, parent: ParentRun | None) -> None:
        self._table, self._study, self._parent = table, study, parent
        self._running: list[TrialRun] = []
        # The beats of other processes' trials, and when this process has seen them first.
        self._beats: dict[int, tuple[int, float]] = {}
        # What failed before this start is tried once more, unless it would diverge again.
        self._tried_again = {
            trial.number: trial.beat
            for trial in table.trials()
            if trial.state == "failed" and not trial.result.get("diverged")
        }

    def run(self, at_once: int) -> None:
        """Do the trials.

        Args:
            at_once: How many run at once here.

        Raises:
            StoppedError: If SIGINT or SIGTERM stopped the study. Its trials can be resumed.
        """
        with _received_signals() as received:
            try:
                while not received and self._advance(at_once):
                    time.sleep(0.05)
            finally:
                self._stop()
        if received:
            raise StoppedError(received[0], "the study was stopped")

    def _advance(self, at_once: int) -> bool:
        """Look after the running trials and begin others; false if all trials have ended."""
        self._running = [each for each in self._running if self._goes_on(each)]
        if len(self._running) == at_once:
            return True
        trials = self._table.trials()
        if (begun := self._begin(trials)) is not None:
            self._running.append(TrialRun(begun, self._study, self._parent))
            return True
        if not self._running:
            time.sleep(0.5)  # another process has begun the last trials
        return any(trial.state == "running" for trial in self._table.trials())

    def _begin(self, trials: Sequence[Trial]) -> Trial | None:
        """Take the next trial; None if there is none that this process may take."""
        for trial in trials:
            if self._is_free(trial):
                taken = self._table.save(trial, "running", trial.result)
                if taken is not None:
                    return taken
        while (parameters := self._study.propose(trials)) is not None:
            if (new := self._table.add(len(trials), parameters)) is not None:
                return new
            trials = self._table.trials()  # another process was faster
        return None

    def _is_free(self, trial: Trial) -> bool:
        if trial.state == "failed":
            return self._tried_again.get(trial.number) == trial.beat
        if trial.state != "running" or any(
            each.trial.number == trial.number for each in self._running
        ):
            return trial.state == "stopped"
        beat, since = self._beats.get(trial.number, (-1, 0.0))
        if beat != trial.beat:
            self._beats[trial.number] = trial.beat, time.monotonic()
            return False
        return time.monotonic() - since > GRACE

    def _goes_on(self, run: TrialRun) -> bool:
        """Whether a trial still runs. Otherwise its result is in the table."""
        # Without a command its results are all there: an earlier process was killed just then.
        status = 0 if run.command is None else run.command.status
        if status is None:
            return time.monotonic() - run.beat_at < BEAT or self._beat(run)
        if status == 0 and run.start_next():
            return True
        result = run.result
        if run.command is not None and status:
            result["error"] = run.command.error
            run.command.stop(signal.SIGKILL)  # the other ranks
            run.end_mlflow_runs()
        elif not result.get("curve"):
            result["error"] = "it ended before its first validation"
        elif math.isnan(value := self._study.value(result)):
            result |= {"error": f"its score is {value}", "diverged": True}
        elif not result.get("pruned"):
            result["value"] = value
        state = "failed" if "error" in result else "complete" if "value" in result else "pruned"
        if (ended := self._table.save(run.trial, state, result)) is not None:
            print(self._study.line(ended), flush=True)
        return False

    def _beat(self, run: TrialRun) -> bool:
        """Keep a trial; false if another process has taken it over, and it is not ours any more."""
        run.beat_at = time.monotonic()
        saved = self._table.save(run.trial, "running", run.result)
        if saved is None:
            run.stop(signal.SIGKILL)
            return False
        run.trial = saved
        if self._study.is_hopeless(saved, self._table.trials()):
            run.prune()
        return True

    def _stop(self) -> None:
        """Stop what runs. It can be resumed."""
        for run in self._running:
            run.stop()
        for run in self._running:
            if run.command is not None:
                run.command.wait()
            run.end_mlflow_runs()
            self._table.save(run.trial, "stopped", run.result)


@contextmanager
def _received_signals() -> Iterator[list[int]]:
    """Collect the signals to stop, so that none interrupts a change of the table."""
    received: list[int] = []

    def receive(signum: int, frame: Any) -> None:
        received.append(signum)
        for each in before:
            signal.signal(each, signal.SIG_DFL)  # a second signal ends the process at once

    before = {each: signal.signal(each, receive) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
