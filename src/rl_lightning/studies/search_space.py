"""The hyperparameters that a sweep varies, and their ranges."""

import json
import warnings
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

from rl_lightning.runtime.errors import ConfigurationError, one_line
from rl_lightning.studies.trial_table import Trial

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.samplers import BaseSampler
    from optuna.trial import FrozenTrial

_FORMS = "write {low: 1e-4, high: 1e-1, log: true}, or a list of values"


def read_search_space(given: str) -> dict[str, "BaseDistribution"]:
    """Read the ranges of the hyperparameters.

    Args:
        given: A YAML file, or YAML text. It maps each flag, such as `model.optimizer.lr`, to a
            list of values or to a range {low, high} with `log: true` or `step` if wanted. A range
            of two integers has integers.

    Raises:
        ConfigurationError: If it cannot be read.
    """
    is_text = given.lstrip().startswith("{") or "\n" in given
    if not is_text and not Path(given).is_file():
        raise ConfigurationError(
            f"there is no file {given} for --space: give a YAML file, or text such as "
            "'{model.optimizer.lr: {low: 1e-4, high: 1e-1, log: true}}'"
        )
    try:
        space = yaml.safe_load(given if is_text else Path(given).read_text())
    except yaml.YAMLError as error:
        raise ConfigurationError(f"--space is not YAML: {one_line(error)}") from error
    if not isinstance(space, dict) or not space:
        raise ConfigurationError(f"--space names no flag: give a mapping, and {_FORMS}")
    return {str(flag).removeprefix("--"): _distribution(flag, each) for flag, each in space.items()}


def _distribution(flag: str, given: Any) -> "BaseDistribution":
    from optuna import distributions

    if isinstance(given, list) and given:
        return distributions.CategoricalDistribution([_as_choice(value) for value in given])
    known = {"low", "high", "log", "step"}
    if not isinstance(given, Mapping) or not {"low", "high"} <= {*given} <= known:
        raise ConfigurationError(f"--space cannot read the range of {flag}: {_FORMS}")
    try:
        numbers = {name: _number(each) for name, each in given.items() if name != "log"}
        are_integers = all(isinstance(each, int) for each in numbers.values())
        kind: Any = (
            distributions.IntDistribution if are_integers else distributions.FloatDistribution
        )
        return kind(**numbers, log=bool(given.get("log", False)))
    except (ValueError, TypeError) as error:
        raise ConfigurationError(f"--space, {flag}: {one_line(error)}") from error


def _number(value: Any) -> float | int:
    # YAML 1.1 reads 1e-4, which has no point, as a string.
    return value if isinstance(value, int) and not isinstance(value, bool) else float(value)


def _as_choice(value: Any) -> Any:
    """Optuna's choices are numbers and strings, so a list or a mapping becomes JSON."""
    return json.dumps(value) if isinstance(value, list | dict) else value


def draw(
    space: Mapping[str, "BaseDistribution"],
    trials: Sequence[Trial],
    name: str,
    sign: int,
) -> dict[str, Any] | None:
    """Draw the parameters of the next trial with Optuna's TPE sampler.

    They depend on the name of the study and on the trials so far, and differ from those of each.
    Running trials count as bad ones, so that two processes do not try similar values.

    Args:
        space: The ranges.
        trials: The trials so far.
        name: Name of the study.
        sign: 1 if a higher score is better, else −1.

    Returns:
        Values by flag; None if every combination of a discrete space has been tried.
    """
    import optuna
    from optuna.samplers import BruteForceSampler, TPESampler

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    known = [trial.parameters for trial in trials]
    done = [_as_optuna_trial(trial, space) for trial in trials]
    seeds = np.random.default_rng([zlib.crc32(name.encode()), len(trials)]).integers(2**31, size=10)
    direction: Any = "maximize" if sign > 0 else "minimize"
    samplers: list[BaseSampler] = [
        TPESampler(multivariate=True, constant_liar=True, seed=int(seed)) for seed in seeds
    ]
    # TPE may propose only known values of a discrete space. This one finds what is left.
    for sampler in (*samplers, BruteForceSampler(seed=int(seeds[0]))):
        study = optuna.create_study(sampler=sampler, direction=direction)
        study.add_trials(done)
        if (drawn := study.ask({**space}).params) not in known:
            return drawn
    return None


def _as_optuna_trial(trial: Trial, space: Mapping[str, "BaseDistribution"]) -> "FrozenTrial":
    from optuna.trial import TrialState, create_trial

    value = trial.result.get("value")
    failed = TrialState.FAIL if trial.state == "failed" else TrialState.RUNNING
    state = failed if value is None else TrialState.COMPLETE
    return create_trial(state=state, value=value, params=trial.parameters, distributions={**space})


def example(space: Mapping[str, "BaseDistribution"]) -> dict[str, Any]:
    """One value of each range, to check that the flags exist."""
    return {
        flag: distribution.choices[0] if hasattr(distribution, "choices") else distribution.low  # type: ignore[attr-defined]
        for flag, distribution in space.items()
    }


def as_flags(parameters: Mapping[str, Any]) -> list[str]:
    """The flags of the command line that set these values."""
    return [
        f"--{flag}={value if isinstance(value, str) else json.dumps(value)}"
        for flag, value in parameters.items()
    ]
