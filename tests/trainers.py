"""A Trainer for tests."""

from lightning import Trainer


def quiet(**flags) -> Trainer:
    """A Trainer on the CPU that prints and writes nothing, with the given flags."""
    defaults = {
        "accelerator": "cpu",
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    return Trainer(**{**defaults, **flags})
