"""The callbacks that all experiments share, where they fit."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from lightning import Callback
from lightning.pytorch.callbacks import ModelCheckpoint, ProgressBar

from rl_lightning.callbacks.alphago.game_writer import BoardGameWriter
from rl_lightning.callbacks.episode_writer import EpisodeWriter
from rl_lightning.callbacks.experience_monitor import ExperienceMonitor
from rl_lightning.callbacks.model_logger import ModelLogger
from rl_lightning.callbacks.needs import NeedsCallback
from rl_lightning.callbacks.progress import TrainingProgress, ValidationLines
from rl_lightning.callbacks.recurrent_attention.confusion_picture import ConfusionPicture
from rl_lightning.callbacks.recurrent_attention.glimpse_pictures import GlimpsePictures
from rl_lightning.callbacks.renew_priorities import RenewPriorities
from rl_lightning.callbacks.target_network import TargetNetwork
from rl_lightning.callbacks.value_pictures import ValuePictures
from rl_lightning.runtime.errors import ConfigurationError

# Each of these is added to the Trainer's callbacks if it fits the module and the datamodule.
# The key is also the name of its flags.
DEFAULT_CALLBACKS: dict[str, tuple[type[Callback], dict[str, Any]]] = {
    "target_network": (TargetNetwork, {}),
    "renew_priorities": (RenewPriorities, {}),
    "experience_monitor": (ExperienceMonitor, {}),
    "episode_writer": (EpisodeWriter, {}),
    "board_game_writer": (BoardGameWriter, {}),
    "value_pictures": (ValuePictures, {}),
    "confusion_picture": (ConfusionPicture, {}),
    "glimpse_pictures": (GlimpsePictures, {}),
    "model_logger": (ModelLogger, {}),
    "checkpoint": (ModelCheckpoint, {"filename": "best-{epoch}"}),
    "last_checkpoint": (
        ModelCheckpoint,
        # By default Lightning writes no checkpoint if an epoch ends without a validation.
        {"filename": "last", "enable_version_counter": False, "save_on_train_epoch_end": True},
    ),
    "validation_lines": (ValidationLines, {}),
    "progress_bar": (TrainingProgress, {"refresh_rate": 25}),  # each refresh costs time
}

# Some algorithms cannot train without these, so they are added with trainer.barebones too.
NECESSARY_CALLBACKS = (TargetNetwork, RenewPriorities)


def is_wanted(
    key: str,
    callback: Callback,
    trainer: Mapping[str, Any],
    module: Any,
    data: Any,
    given: Sequence[Callback],
) -> bool:
    """Whether a default callback fits and the configuration does not list it itself.

    A ModelCheckpoint for the best checkpoint gets the metric of the module here.

    Args:
        key: Its key in `DEFAULT_CALLBACKS`.
        callback: The callback.
        trainer: The Trainer's flags.
        module: The module.
        data: The datamodule.
        given: The callbacks that the configuration lists.
    """
    if trainer.get("barebones") and not isinstance(callback, NECESSARY_CALLBACKS):
        return False
    if isinstance(callback, NeedsCallback):
        is_given = any(type(each) is type(callback) for each in given)
        return not is_given and callback.misfit(module, data) is None
    if isinstance(callback, ProgressBar):
        is_given = any(isinstance(each, ProgressBar) for each in given)
        return not is_given and trainer.get("enable_progress_bar") is not False
    assert isinstance(callback, ModelCheckpoint)
    if trainer.get("enable_checkpointing") is False:
        return False
    if key != "checkpoint" or callback.monitor is not None:
        return True
    # trainer.callbacks may have an equal one.
    return _set_monitor(callback, module, trainer) and all(
        each.state_key != callback.state_key for each in given
    )


def _set_monitor(checkpoint: ModelCheckpoint, module: Any, trainer: Mapping[str, Any]) -> bool:
    """Let a ModelCheckpoint watch the module's metric; false if no validation logs one."""
    monitored = getattr(module, "monitor", None)
    if monitored is None or trainer.get("limit_val_batches") == 0:
        return False
    checkpoint.monitor, checkpoint.mode = monitored
    checkpoint.kth_value = torch.tensor(torch.inf if checkpoint.mode == "min" else -torch.inf)
    return True


def check_checkpoint_callbacks(callbacks: Sequence[Callback]) -> None:
    """Check that no two ModelCheckpoints have equal settings.

    Lightning finds their states in a checkpoint by their settings.

    Raises:
        ConfigurationError: If two have equal settings.
    """
    keys = [each.state_key for each in callbacks if isinstance(each, ModelCheckpoint)]
    if len({*keys}) < len(keys):
        raise ConfigurationError(
            "trainer.callbacks lists a ModelCheckpoint with the settings of another one: change "
            "--checkpoint or --last_checkpoint in its place, or give it a monitor of its own"
        )
