"""What happens beside learning."""

from rl_lightning.callbacks.confusion_picture import ConfusionPicture
from rl_lightning.callbacks.experience_monitor import ExperienceMonitor
from rl_lightning.callbacks.game_writer import GameWriter
from rl_lightning.callbacks.glimpse_pictures import GlimpsePictures
from rl_lightning.callbacks.renew_priorities import RenewPriorities
from rl_lightning.callbacks.safeguards import Safeguards
from rl_lightning.callbacks.target_network import TargetNetwork
from rl_lightning.callbacks.tracking import MLflowTracker, TrackConfig
from rl_lightning.callbacks.value_pictures import ValuePictures

__all__ = [
    "ConfusionPicture",
    "ExperienceMonitor",
    "GameWriter",
    "GlimpsePictures",
    "MLflowTracker",
    "RenewPriorities",
    "Safeguards",
    "TargetNetwork",
    "TrackConfig",
    "ValuePictures",
]
