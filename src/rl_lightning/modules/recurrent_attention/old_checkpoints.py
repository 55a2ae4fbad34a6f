"""Checkpoints of RAM from the time when its options were not in groups and its networks not in one.

The networks were submodules of the module itself, such as `core` in place of `network.core`.
"""

from dataclasses import fields
from typing import Any

_NETWORKS = ("std", "glimpse_network", "core", "locator", "classifier", "baseline")


def move_into_network(checkpoint: dict[str, Any]) -> None:
    """Rename the weights of such a checkpoint in place. Others stay as they are."""
    weights = checkpoint["state_dict"]
    for name in [each for each in weights if each.partition(".")[0] in _NETWORKS]:
        weights[f"network.{name}"] = weights.pop(name)


def grouped(hyperparameters: dict[str, Any], **groups: type[Any]) -> dict[str, dict[str, Any]]:
    """The options of each group, from the hyperparameters of such a checkpoint or of a newer one.

    Args:
        hyperparameters: With a dictionary for each group, or with the options of all groups.
        groups: The dataclass of each group.
    """
    return {
        name: hyperparameters.get(name)
        or {each.name: hyperparameters[each.name] for each in fields(kind)}
        for name, kind in groups.items()
    }
