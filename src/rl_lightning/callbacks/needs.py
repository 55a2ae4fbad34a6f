"""Callbacks that declare what they need from the module and the datamodule."""

from collections.abc import Iterable
from typing import Any, ClassVar

from lightning import Callback, LightningModule, Trainer

from rl_lightning.experience import unmet
from rl_lightning.runtime.constructors import CheckedConstructor
from rl_lightning.runtime.errors import ConfigurationError


class NeedsCallback(CheckedConstructor, Callback):
    """A callback with declared needs, which are checked before training or evaluation starts.

    Attributes:
        needs_of_module: Protocol of `rl_lightning.experience` that the module must implement.
        needs_of_data: Protocol that the datamodule must implement.
    """

    needs_of_module: ClassVar[type] = object
    needs_of_data: ClassVar[type] = object

    @classmethod
    def misfit(cls, module: Any, data: Any) -> str | None:
        """The reason why this callback cannot be used with them; None if it can."""
        for needed, given in ((cls.needs_of_module, module), (cls.needs_of_data, data)):
            if unmet(given, needed):
                need = (needed.__doc__ or needed.__name__).splitlines()[0].rstrip(".")
                return (
                    f"{cls.__name__} needs {need[0].lower()}{need[1:]}, and "
                    f"{type(given).__name__} is not one: take {cls.__name__} out of "
                    "trainer.callbacks"
                )
        return None

    def check_trainer(self, trainer: Trainer, module: LightningModule) -> None:
        """Check the Trainer before any logger or callback writes files.

        Raises:
            ConfigurationError: If it does not have what this callback needs.
        """

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Check the needs of this callback, with a module that does not check them itself.

        Raises:
            ConfigurationError: If the module or the datamodule does not meet them.
        """
        super().setup(trainer, pl_module, stage)
        if getattr(pl_module, "checks_compatibility", False):
            return
        data = getattr(trainer, "datamodule", None)
        if (misfit := self.misfit(pl_module, data)) is not None:
            raise ConfigurationError(misfit)


def missing_callbacks(
    trainer: Trainer, kinds: Iterable[type[NeedsCallback]], module: Any
) -> list[Callback]:
    """Make one callback of each kind that fits module and datamodule and the Trainer has not."""
    given, data = trainer.callbacks, getattr(trainer, "datamodule", None)  # type: ignore[attr-defined]
    missing = (kind() for kind in kinds if not any(isinstance(each, kind) for each in given))
    return [callback for callback in missing if callback.misfit(module, data) is None]
