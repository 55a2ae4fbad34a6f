"""The commands `seeds` and `sweep`."""

import argparse
import os
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rl_lightning.runtime.errors import ConfigurationError
from rl_lightning.runtime.log_lines import quieten_libraries
from rl_lightning.studies.parent_run import ParentRun
from rl_lightning.studies.search_space import as_flags, example, read_search_space, suggest
from rl_lightning.studies.study import Plan, StudyRunner, open_study, score_name
from rl_lightning.studies.trial_process import TrialProcesses

if TYPE_CHECKING:
    from optuna import Study, Trial

    from rl_lightning.studies.training import Subject

PROGRAM = "python -m rl_lightning"
_QUIET = ["--trainer.enable_progress_bar", "false"]


def _parser(kind: str) -> argparse.ArgumentParser:
    summary = {
        "seeds": "Train a configuration with several seeds, test the last and the best checkpoint "
        "of each, and summarise them.",
        "sweep": "Search for hyperparameters of a configuration with Optuna.",
    }[kind]
    parser = argparse.ArgumentParser(
        prog=f"{PROGRAM} {kind}",
        description=f"{summary} Takes all flags of fit too, such as --config and --data.num_envs.",
        allow_abbrev=False,
    )
    number = dict[str, Any](type=_positive, metavar="N")
    if kind == "seeds":
        parser.add_argument("--seeds", default=5, **number, help="number of seeds (default: 5)")
        parser.add_argument("--first_seed", type=int, default=1, help="the first one (default: 1)")
        parser.add_argument(
            "--test_episodes", **number, help="episodes of each test (default: data.eval_episodes)"
        )
    else:
        parser.add_argument("--space", required=True, help="YAML file, or YAML text, with ranges")
        parser.add_argument("--trials", default=20, **number, help="number (default: 20)")
    parser.add_argument(
        "--processes", **number, help="runs at once (default: cores / num_threads of the runs)"
    )
    parser.add_argument(
        "--name", help="name of the study; that of an earlier study goes on with it"
    )
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
    options, rest = _parser(kind).parse_known_args(given)
    try:
        return _run(kind, options, rest, shlex.join(["python", "-m", "rl_lightning", *arguments]))
    except ConfigurationError as error:
        print(f"rl_lightning: error: {error}", file=sys.stderr, flush=True)
        return 2


def _run(kind: str, options: argparse.Namespace, rest: list[str], command: str) -> int:
    own = ("--ckpt_path", "--seed_everything") if kind == "seeds" else ("--ckpt_path",)
    if found := [flag for each in rest if (flag := each.partition("=")[0]) in own]:
        raise ConfigurationError(f"{kind} sets {found[0]} of each run itself: leave it out")
    space = read_search_space(options.space) if kind == "sweep" else {}
    processes = TrialProcesses()
    subject = processes.inspect([*rest, *_QUIET, *as_flags(example(space))])
    if subject.monitor is None:
        raise ConfigurationError(
            f"{kind} compares runs by a validation metric, and this module has none: name one "
            "with --checkpoint.monitor"
        )
    name = options.name or f"{subject.experiment}-{kind}-{time.strftime('%Y%m%d-%H%M%S')}"
    contents: dict[str, Any] = {"kind": kind, "arguments": rest}
    if kind == "sweep":
        contents["space"] = str(space)
    study = open_study(name, options.storage, subject, contents, **_samplers(kind))
    parent = _parent_run(study, subject, kind, command)
    folder = Path("runs", "studies", name)
    folder.mkdir(parents=True, exist_ok=True)
    if kind == "seeds":
        draw, remaining = _seeds(study, options)
    else:
        draw, remaining = (lambda trial: suggest(trial, space)), _trials(study, options.trials)
    tests = _test_arguments(options, rest) if kind == "seeds" else None
    plan = Plan(subject, [*rest, *_QUIET], tests, folder, parent.run_id if parent else None, draw)
    at_once = options.processes or max(1, _num_cores() // (subject.num_threads or _num_cores()))
    again = command if options.name else f"{command} --name {name}"
    print(f"Study {name}: {remaining()} runs, {at_once} at once, in {folder}")
    try:
        StudyRunner(study, plan, processes, _show).run(at_once, remaining)
    except KeyboardInterrupt:
        if parent is not None:
            parent.stop()
        print(f"rl_lightning: stopped, go on with: {again}", file=sys.stderr, flush=True)
        return 130
    return _END[kind](study, subject, folder, parent, rest)


def _show(line: str) -> None:
    print(line, flush=True)


def _num_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _samplers(kind: str) -> dict[str, Any]:
    from optuna.pruners import MedianPruner, NopPruner
    from optuna.samplers import RandomSampler, TPESampler

    if kind == "seeds":  # all values are given
        return {"sampler": RandomSampler(), "pruner": NopPruner()}
    # Trials that run are counted as bad ones, so that two processes do not try the same values.
    sampler = TPESampler(multivariate=True, constant_liar=True, seed=1)
    return {"sampler": sampler, "pruner": MedianPruner(n_startup_trials=5, n_warmup_steps=2)}


def _parent_run(study: "Study", subject: "Subject", kind: str, command: str) -> ParentRun | None:
    if subject.tracking_uri is None:
        return None
    before = study.user_attrs.get("mlflow_run_id")
    parent = ParentRun(subject, study.study_name, kind, command, before)
    if before is None:
        parent.log_parameters(subject.parameters)
        study.set_user_attr("mlflow_run_id", parent.run_id)
    return parent


def _seeds(
    study: "Study", options: argparse.Namespace
) -> tuple["Callable[[Trial], None]", Callable[[], int]]:
    """Queue the seeds that the study does not have yet."""
    from optuna import TrialPruned
    from optuna.trial import TrialState

    counted = [TrialState.COMPLETE, TrialState.RUNNING, TrialState.WAITING]
    known = {
        trial.user_attrs.get("seed") for trial in study.get_trials(deepcopy=False, states=counted)
    }
    for seed in range(options.first_seed, options.first_seed + options.seeds):
        if seed not in known:
            study.enqueue_trial({"seed_everything": seed}, user_attrs={"seed": seed})

    def draw(trial: "Trial") -> None:
        if "seed" not in trial.user_attrs:
            raise TrialPruned  # another machine has taken the last seed
        trial.suggest_int("seed_everything", 0, 2**31 - 1)

    return draw, lambda: len(study.get_trials(deepcopy=False, states=[TrialState.WAITING]))


def _trials(study: "Study", wanted: int) -> Callable[[], int]:
    from optuna.trial import TrialState

    # A trial that was cut off has failed without an error, and has a successor.
    counted = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING)

    def remaining() -> int:
        known = [
            trial
            for trial in study.get_trials(deepcopy=False)
            if trial.state in counted or "error" in trial.user_attrs
        ]
        return max(0, wanted - len(known))

    return remaining


def _test_arguments(options: argparse.Namespace, rest: Sequence[str]) -> list[str]:
    """The arguments of `test`, which has no --weights_path."""
    fit_only = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    fit_only.add_argument("--weights_path")
    _, kept = fit_only.parse_known_args(rest)
    if options.test_episodes is None:
        return [*kept, *_QUIET]
    return [*kept, *_QUIET, f"--data.eval_episodes={options.test_episodes}"]


def _end_seeds(
    study: "Study", subject: "Subject", folder: Path, parent: ParentRun | None, rest: Sequence[str]
) -> int:
    from optuna.trial import TrialState

    from rl_lightning.studies import report

    trials = study.get_trials(states=[TrialState.COMPLETE])
    score = score_name(subject)
    if not trials:
        raise ConfigurationError(f"all runs failed: see the .log files in {folder}")
    files = [folder / name for name in ("seeds.csv", "curves.csv", "curves.png")]
    report.write_rows(files[0], trials)
    report.write_curves(files[1], trials)
    report.draw_seeds(files[2], trials, subject.experiment, str(subject.monitor))
    statistics = report.seed_statistics(trials, score)
    if parent is not None:
        metrics = {
            f"{kind}/{score}_{name}": value
            for kind, each in statistics.items()
            for name, value in each._asdict().items()
        }
        parent.finish({**metrics, "num_seeds": len(trials)}, files)
    print("\n".join(["", f"{len(trials)} seeds", *report.statistics_table(statistics, score)]))
    print(f"Table, curves and picture: {folder}")
    return 0


def _end_sweep(
    study: "Study", subject: "Subject", folder: Path, parent: ParentRun | None, rest: Sequence[str]
) -> int:
    from optuna.trial import TrialState

    from rl_lightning.studies import report

    trials = [each for each in study.get_trials() if each.state.is_finished() and each.params]
    ended = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    if not ended:
        raise ConfigurationError(f"no trial came to its end: see the .log files in {folder}")
    ended.sort(key=lambda trial: trial.value or 0.0, reverse=subject.mode == "max")
    files = [folder / name for name in ("trials.csv", "curves.csv", "sweep.png")]
    report.write_rows(files[0], trials)
    report.write_curves(files[1], trials)
    report.draw_sweep(files[2], trials, ended[0], subject.experiment, str(subject.monitor))
    best = as_flags(ended[0].params)
    if parent is not None:
        parent.log_parameters({f"best.{key}": str(v) for key, v in ended[0].params.items()})
        reached = {str(subject.monitor): ended[0].value or 0.0, "num_trials": len(trials)}
        parent.finish(reached, files)
    print("\n".join(["", f"{subject.monitor} at the end", *report.trials_table(trials, ended)]))
    print(f"Table, curves and picture: {folder}")
    print(f"Next, other seeds: {PROGRAM} seeds --first_seed 101 {shlex.join([*rest, *best])}")
    return 0


_END = {"seeds": _end_seeds, "sweep": _end_sweep}
