"""Compares what a module needs with what a datamodule gives."""

from typing import Any

from lightning import LightningDataModule

from rl_lightning.experience import GivesTDErrors, HasPriorities, unmet
from rl_lightning.runtime.errors import ConfigurationError


def check_pair(module: Any, data: Any) -> None:
    """Check that a datamodule provides what a module needs.

    A module or datamodule without a `batch_type` declares nothing. Only the methods and networks of
    the module that the datamodule uses are checked then.

    Raises:
        ConfigurationError: If the pair does not fit. The message names a pair that does.
    """
    check_batch_types(type(module), type(data))
    here, there = type(module).__name__, type(data).__name__
    needed = getattr(data, "needs_of_module", object)
    if missing := unmet(module, needed):
        raise ConfigurationError(
            f"{here} has no {' and no '.join(missing)} as {there} uses it: see "
            f"rl_lightning.experience.{needed.__name__}"
        )
    if not hasattr(module, "batch_type") or not hasattr(data, "batch_type"):
        return
    if not unmet(data, HasPriorities) and unmet(module, GivesTDErrors):
        raise ConfigurationError(
            f"{there} has priority_exponent, and {here} gives no TD errors to renew the priorities "
            "with: leave priority_exponent out"
        )
    needs_whole_episodes = getattr(module, "needs_whole_episodes", False)
    if needs_whole_episodes and not getattr(data, "gives_whole_episodes", False):
        raise ConfigurationError(
            f"{here} learns from whole episodes, and rollout_length of {there} cuts episodes: "
            "set episodes_per_update in place of rollout_length"
        )
    ours, theirs = getattr(module, "environment", None), getattr(data, "environment", None)
    if ours is None or theirs is None:
        return
    for key, value in theirs.items():
        if not _equal(ours.get(key), value):
            raise ConfigurationError(
                f"{here} was made for {key} {ours.get(key)}, and {there} has {key} {value}: make "
                f"{here} with the environment of the datamodule (environment=data.environment)"
            )


def check_batch_types(module: type, data: type) -> None:
    """Compare the declared batch types of two classes, before either is instantiated.

    Raises:
        ConfigurationError: If they differ. The message names datamodules that fit.
    """
    needed, given = getattr(module, "batch_type", None), getattr(data, "batch_type", None)
    if needed is None or given is None or needed is given:
        return
    fitting = sorted(
        each.__name__
        for each in _subclasses(LightningDataModule)
        if getattr(each, "batch_type", None) is needed and not each.__name__.startswith("_")
    )
    advice = f"use {' or '.join(fitting)} as data" if fitting else "no datamodule provides these"
    raise ConfigurationError(
        f"{module.__name__} learns from {needed.__name__}, and {data.__name__} provides "
        f"{given.__name__}: {advice}"
    )


def _subclasses(base: type) -> set[type]:
    direct: set[type] = set(base.__subclasses__())
    return direct.union(*(_subclasses(each) for each in direct))


def _equal(one: Any, other: Any) -> bool:
    # Tuples become lists in YAML files and in checkpoints, so compare both as lists.
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return [*one] == [*other]
    return bool(one == other)
