"""The hyperparameters that a sweep varies, and their ranges."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from rl_lightning.runtime.errors import ConfigurationError, one_line

if TYPE_CHECKING:
    from optuna import Trial
    from optuna.distributions import BaseDistribution

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
        raise ConfigurationError(f"--space is not YAML: {one_line(str(error))}") from error
    if not isinstance(space, dict) or not space:
        raise ConfigurationError(f"--space names no flag: give a mapping, and {_FORMS}")
    return {str(flag).removeprefix("--"): _distribution(flag, each) for flag, each in space.items()}


def _distribution(flag: str, given: Any) -> "BaseDistribution":
    from optuna.distributions import (
        CategoricalDistribution,
        FloatDistribution,
        IntDistribution,
    )

    if isinstance(given, list) and given:
        return CategoricalDistribution([_as_choice(value) for value in given])
    known = {"low", "high", "log", "step"}
    if not isinstance(given, Mapping) or not {"low", "high"} <= {*given} <= known:
        raise ConfigurationError(f"--space cannot read the range of {flag}: {_FORMS}")
    try:
        numbers = {name: _number(given[name]) for name in ("low", "high", "step") if name in given}
        options: dict[str, Any] = {**numbers, "log": bool(given.get("log", False))}
        if all(isinstance(number, int) for number in numbers.values()):
            return IntDistribution(**options)
        return FloatDistribution(**options)
    except (ValueError, TypeError) as error:
        raise ConfigurationError(f"--space, {flag}: {one_line(str(error))}") from error


def _number(value: Any) -> float | int:
    # YAML 1.1 reads 1e-4, which has no point, as a string.
    return value if isinstance(value, int) and not isinstance(value, bool) else float(value)


def _as_choice(value: Any) -> Any:
    """Optuna's choices are numbers and strings, so a list or a mapping becomes JSON."""
    return json.dumps(value) if isinstance(value, list | dict) else value


def suggest(trial: "Trial", space: Mapping[str, "BaseDistribution"]) -> None:
    """Draw a value of each hyperparameter for a trial; they are `trial.params` then."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    for flag, distribution in space.items():
        given: Any = distribution
        if isinstance(distribution, CategoricalDistribution):
            trial.suggest_categorical(flag, distribution.choices)
        elif isinstance(distribution, FloatDistribution):
            trial.suggest_float(flag, given.low, given.high, step=given.step, log=given.log)
        else:
            trial.suggest_int(flag, given.low, given.high, step=given.step, log=given.log)


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
