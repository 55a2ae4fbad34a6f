"""Callbacks that say what they need of module and datamodule."""

from collections.abc import Iterable
from typing import Any, ClassVar

from lightning import Callback, LightningModule, Trainer

from rl_lightning.runtime.errors import ConfigurationError


class NeedsCallback(Callback):
    """A callback with declared needs, which are checked before anything starts.

    Attributes:
        needs_of_module: Protocol of `rl_lightning.experience` that the module must follow.
        needs_of_data: Protocol that the datamodule must follow.
    """

    needs_of_module: ClassVar[type] = object
    needs_of_data: ClassVar[type] = object

    @classmethod
    def misfit(cls, module: Any, data: Any) -> str | None:
        """Why this callback cannot run beside a module and datamodule; None if it can."""
        for needed, given in ((cls.needs_of_module, module), (cls.needs_of_data, data)):
            if not isinstance(given, needed):
                need = (needed.__doc__ or needed.__name__).splitlines()[0].rstrip(".")
                return (
                    f"{cls.__name__} needs {need[0].lower()}{need[1:]}, and "
                    f"{type(given).__name__} is not one: take {cls.__name__} out of "
                    "trainer.callbacks"
                )
        return None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Compare needs and what there is.

        Raises:
            ConfigurationError: If they do not fit.
        """
        super().setup(trainer, pl_module, stage)
        data = getattr(trainer, "datamodule", None)
        if (misfit := self.misfit(pl_module, data)) is not None:
            raise ConfigurationError(misfit)


def check_needs(callbacks: Iterable[Callback], module: Any, data: Any) -> None:
    """Compare the needs of all callbacks with a module and datamodule.

    Raises:
        ConfigurationError: For the first callback that does not fit.
    """
    for callback in callbacks:
        if isinstance(callback, NeedsCallback) and (misfit := callback.misfit(module, data)):
            raise ConfigurationError(misfit)
