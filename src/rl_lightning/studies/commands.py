"""Runs the commands `seeds` and `sweep`."""

import argparse
import os
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rl_lightning.lightning_adapter.messages import quieten_libraries
from rl_lightning.runtime.errors import ConfigurationError
from rl_lightning.studies.kind import StudyKind
from rl_lightning.studies.parent_run import ParentRun
from rl_lightning.studies.search_space import as_flags
from rl_lightning.studies.seeds import Seeds
from rl_lightning.studies.study import Plan, StudyRunner, open_study
from rl_lightning.studies.sweep import Sweep
from rl_lightning.studies.trial_process import TrialProcesses

if TYPE_CHECKING:
    from optuna import Study

    from rl_lightning.studies.training import Subject

KINDS: dict[str, type[StudyKind]] = {kind.name: kind for kind in (Seeds, Sweep)}
PROGRAM = "python -m rl_lightning"
_QUIET = ["--trainer.enable_progress_bar", "false"]


def _parser(kind: type[StudyKind]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"{PROGRAM} {kind.name}",
        description=f"{kind.summary} Takes all flags of fit too, such as --config and "
        "--data.num_envs.",
        allow_abbrev=False,
    )
    number = dict[str, Any](type=_positive, metavar="N")
    kind.add_options(parser, number)
    parser.add_argument(
        "--processes", **number, help="runs at once (default: cores / num_threads of the runs)"
    )
    parser.add_argument("--name", help="name of the study; the name of an earlier study resumes it")
    parser.add_argument(
        "--storage", default="sqlite:///optuna.db", help="Optuna's storage (default: %(default)s)"
    )
    return parser


def _positive(text: str) -> int:
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"{number} is not at least 1")
    return number


def main(arguments: Sequence[str]) -> int:
    """Run `seeds` or `sweep`; returns the exit status.

    Args:
        arguments: The command and its arguments.
    """
    quieten_libraries()
    kind, *given = arguments
    options, rest = _parser(KINDS[kind]).parse_known_args(given)
    try:
        return _run(KINDS[kind](options, rest), f"{PROGRAM} {shlex.join(arguments)}")
    except ConfigurationError as error:
        print(f"rl_lightning: error: {error}", file=sys.stderr, flush=True)
        return 2


def _run(kind: StudyKind, command: str) -> int:
    options, arguments = kind.options, [*kind.arguments, *_QUIET]
    processes = TrialProcesses()
    subject = _check(kind, processes, arguments)
    name = options.name or f"{subject.experiment}-{kind.name}-{time.strftime('%Y%m%d-%H%M%S')}"
    study = open_study(name, options.storage, subject, kind.contents(), **kind.samplers())
    parent = _parent_run(study, subject, kind.name, command)
    folder = Path("runs", "studies", name)
    folder.mkdir(parents=True, exist_ok=True)
    kind.queue(study)
    if (tests := kind.test_arguments()) is not None:
        tests = [*tests, *_QUIET]
    parent_id = None if parent is None else parent.run_id
    plan = Plan(subject, arguments, tests, folder, parent_id, kind.draw)
    at_once = options.processes or max(1, _num_cores() // (subject.num_threads or _num_cores()))
    print(f"Study {name}: {kind.remaining(study)} runs, {at_once} at once, in {folder}")
    try:
        StudyRunner(study, plan, processes, _show).run(at_once, lambda: kind.remaining(study))
    except KeyboardInterrupt:
        if parent is not None:
            parent.stop()
        again = command if options.name else f"{command} --name {name}"
        print(f"rl_lightning: stopped, resume it with: {again}", file=sys.stderr, flush=True)
        return 130
    print("\n".join(["", *kind.finish(study, subject, folder, parent)]))
    return 0


def _check(kind: StudyKind, processes: TrialProcesses, arguments: Sequence[str]) -> "Subject":
    """Check the configuration before anything is written."""
    flags = [each.partition("=")[0] for each in arguments]
    if found := [flag for flag in flags if flag in kind.own_flags]:
        raise ConfigurationError(f"{kind.name} sets {found[0]} of each run itself: leave it out")
    subject = processes.inspect([*arguments, *as_flags(kind.example())])
    if subject.monitor is None:
        raise ConfigurationError(
            f"{kind.name} compares runs by a validation metric, and this module has none: name one "
            "with --checkpoint.monitor"
        )
    return subject


def _show(line: str) -> None:
    print(line, flush=True)


def _num_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _parent_run(study: "Study", subject: "Subject", kind: str, command: str) -> ParentRun | None:
    if subject.tracking_uri is None:
        return None
    before = study.user_attrs.get("mlflow_run_id")
    parent = ParentRun(subject, study.study_name, kind, command, before)
    if before is None:
        parent.log_parameters(subject.parameters)
        study.set_user_attr("mlflow_run_id", parent.run_id)
    return parent
