"""Callbacks: target networks, monitoring, tracking, and files written during training."""

from typing import TYPE_CHECKING

from rl_lightning.runtime.lazy import on_first_use

if TYPE_CHECKING:
    from rl_lightning.callbacks.alphago.game_writer import BoardGameWriter as BoardGameWriter
    from rl_lightning.callbacks.episode_writer import EpisodeWriter as EpisodeWriter
    from rl_lightning.callbacks.experience_monitor import ExperienceMonitor as ExperienceMonitor
    from rl_lightning.callbacks.model_logger import ModelLogger as ModelLogger
    from rl_lightning.callbacks.recurrent_attention.confusion_picture import (
        ConfusionPicture as ConfusionPicture,
    )
    from rl_lightning.callbacks.recurrent_attention.glimpse_pictures import (
        GlimpsePictures as GlimpsePictures,
    )
    from rl_lightning.callbacks.renew_priorities import RenewPriorities as RenewPriorities
    from rl_lightning.callbacks.safeguards import Safeguards as Safeguards
    from rl_lightning.callbacks.target_network import TargetNetwork as TargetNetwork
    from rl_lightning.callbacks.value_pictures import ValuePictures as ValuePictures
    from rl_lightning.tracking.mlflow_tracker import MLflowTracker as MLflowTracker
    from rl_lightning.tracking.run_folder import TrackConfig as TrackConfig

__getattr__, __all__ = on_first_use(__name__, __file__)
