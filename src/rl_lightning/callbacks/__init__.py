"""Callbacks: target networks, monitoring, tracking, and files written beside training."""

from typing import TYPE_CHECKING

from rl_lightning.runtime.lazy import on_first_use

if TYPE_CHECKING:
    from rl_lightning.callbacks.alphago.game_writer import BoardGameWriter
    from rl_lightning.callbacks.episode_writer import EpisodeWriter
    from rl_lightning.callbacks.experience_monitor import ExperienceMonitor
    from rl_lightning.callbacks.model_logger import ModelLogger
    from rl_lightning.callbacks.recurrent_attention.confusion_picture import ConfusionPicture
    from rl_lightning.callbacks.recurrent_attention.glimpse_pictures import GlimpsePictures
    from rl_lightning.callbacks.renew_priorities import RenewPriorities
    from rl_lightning.callbacks.safeguards import Safeguards
    from rl_lightning.callbacks.target_network import TargetNetwork
    from rl_lightning.callbacks.value_pictures import ValuePictures
    from rl_lightning.tracking.mlflow_tracker import MLflowTracker
    from rl_lightning.tracking.run_folder import TrackConfig

__all__ = [
    "BoardGameWriter",
    "ConfusionPicture",
    "EpisodeWriter",
    "ExperienceMonitor",
    "GlimpsePictures",
    "MLflowTracker",
    "ModelLogger",
    "RenewPriorities",
    "Safeguards",
    "TargetNetwork",
    "TrackConfig",
    "ValuePictures",
]

__getattr__ = on_first_use(__name__, __file__)
