"""Runs the commands `seeds` and `sweep`."""

import argparse
import os
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

from sqlalchemy.exc import SQLAlchemyError

from rl_lightning.lightning_adapter.messages import quieten_libraries
from rl_lightning.runtime.errors import ConfigurationError, one_line
from rl_lightning.runtime.stopping import StoppedError
from rl_lightning.studies.parent_run import ParentRun
from rl_lightning.studies.processes import drop_rank_variables, inspect
from rl_lightning.studies.runner import Runner
from rl_lightning.studies.search_space import as_flags
from rl_lightning.studies.seeds import Seeds
from rl_lightning.studies.study import Study
from rl_lightning.studies.subject import Subject
from rl_lightning.studies.sweep import Sweep
from rl_lightning.studies.trial_table import Trial, TrialTable

KINDS: dict[str, type[Study]] = {kind.name: kind for kind in (Seeds, Sweep)}
PROGRAM = "python -m rl_lightning"


def _parser(kind: type[Study]) -> argparse.ArgumentParser:
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
        "--storage",
        default="sqlite:///studies.db",
        help="database of the studies (default: %(default)s)",
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
    drop_rank_variables()
    kind, *given = arguments
    options, rest = _parser(KINDS[kind]).parse_known_args(given)
    command = f"{PROGRAM} {shlex.join(arguments)}"
    try:
        return _run(KINDS[kind](options, rest), command)
    except ConfigurationError as error:
        _complain(f"error: {error}")
        return 2
    except SQLAlchemyError as error:
        _complain(
            f"error: the storage {options.storage} failed ({one_line(error, 200)}): the runs "
            "were stopped, resume the study by --name"
        )
        return 1


def _run(study: Study, command: str) -> int:
    options, subject = study.options, _check(study)
    name = options.name or "-".join(
        [subject.experiment, study.name, time.strftime("%Y%m%d-%H%M%S"), uuid4().hex[:4]]
    )
    folder = Path("runs", "studies", name)
    study.prepare(subject, folder)
    table = TrialTable(options.storage, name, study.contents())
    folder.mkdir(parents=True, exist_ok=True)
    tracked = subject.tracking_uri is not None
    parent = ParentRun(subject, table, study.name, command) if tracked else None
    at_once = options.processes or max(1, _num_cores() // (subject.num_threads or _num_cores()))
    print(f"Study {name}: {at_once} runs at once, in {folder}", flush=True)
    try:
        Runner(table, study, parent).run(at_once)
    except StoppedError as stopped:
        if parent is not None:
            parent.stop()
        again = command if options.name else f"{command} --name {name}"
        _complain(f"stopped, resume it with: {again}")
        return 128 + stopped.signum
    return _end(study, table.trials(), parent)


def _check(study: Study) -> Subject:
    """Check the configuration before anything is written."""
    flags = [each.partition("=")[0] for each in study.arguments]
    if found := [flag for flag in flags if flag in study.own_flags]:
        raise ConfigurationError(f"{study.name} sets {found[0]} of each run itself: leave it out")
    subject = inspect(study.arguments, as_flags(study.example()))
    if subject.monitor is None:
        raise ConfigurationError(
            f"{study.name} compares runs by a validation metric, and this module has none: name "
            "one with --checkpoint.monitor"
        )
    return subject


def _end(study: Study, trials: Sequence[Trial], parent: ParentRun | None) -> int:
    """Write the tables and the picture, and name what failed; returns the exit status."""
    ending = study.write(trials)
    failed = [trial for trial in trials if trial.state == "failed"]
    if parent is not None:
        all_failed = len(failed) == len(trials)
        ending.metrics["num_failed"] = len(failed)
        parent.finish(ending, "FAILED" if all_failed else "FINISHED")
    lines = ["", *ending.lines, f"Table, curves and picture: {study.folder}"]
    print("\n".join([*lines, *map(study.line, failed)]), flush=True)
    if failed:
        _complain(f"error: {len(failed)} of {len(trials)} runs failed")
    return 1 if failed else 0


def _complain(line: str) -> None:
    print(f"rl_lightning: {line}", file=sys.stderr, flush=True)


def _num_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
