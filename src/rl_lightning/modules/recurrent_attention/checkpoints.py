"""RAM's options in checkpoints, which hold them as plain dictionaries.

In older checkpoints the options were not in groups, and the networks were submodules of the module
itself, such as `core` in place of `network.core`.
"""

from dataclasses import fields
from pathlib import Path
from typing import Any, ClassVar

from lightning import LightningModule

from rl_lightning.runtime.checkpoints import load_plain

_NETWORKS = ("std", "glimpse_network", "core", "locator", "classifier", "baseline")


class OptionsInCheckpoints(LightningModule):
    """Loads checkpoints with groups of options, and older ones.

    Attributes:
        option_groups: The dataclass of each group, by the name of its argument.
    """

    option_groups: ClassVar[dict[str, type[Any]]]

    def options_from(self, **groups: Any) -> list[Any]:
        """Make an instance of each group, which may be a dictionary from a checkpoint."""
        kinds = self.option_groups
        return [
            each if isinstance(each, kinds[name]) else kinds[name](**each)
            for name, each in groups.items()
        ]

    @classmethod
    def load_from_checkpoint(cls, checkpoint_path: Any, *args: Any, **options: Any) -> Any:
        """Make the module of a checkpoint; see `LightningModule.load_from_checkpoint`."""
        saved = load_plain(Path(checkpoint_path))["hyper_parameters"]
        groups = {
            name: saved.get(name) or {each.name: saved[each.name] for each in fields(kind)}
            for name, kind in cls.option_groups.items()
        }
        return super().load_from_checkpoint(checkpoint_path, *args, **{**groups, **options})

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Rename the weights of an older checkpoint before Lightning loads them."""
        self.upgrade_checkpoint(checkpoint)
        super().on_load_checkpoint(checkpoint)

    @staticmethod
    def upgrade_checkpoint(checkpoint: dict[str, Any]) -> None:
        """Rename the weights of an older checkpoint in place; those of others have no such names.

        `runtime.checkpoints` calls this too, before it compares shapes.
        """
        weights = checkpoint["state_dict"]
        for name in [each for each in weights if each.partition(".")[0] in _NETWORKS]:
            weights[f"network.{name}"] = weights.pop(name)
