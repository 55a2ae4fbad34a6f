"""What an error of Lightning or torch means, where its type does not say it."""

import traceback
from pathlib import Path

import lightning
import torch


def raised_by_lightning(error: BaseException) -> bool:
    """Whether a `raise` in Lightning's own code raised an error, which is then about settings."""
    frames = traceback.extract_tb(error.__traceback__)
    if not frames:
        return False
    inside = Path(frames[-1].filename).is_relative_to(Path(lightning.__file__).parent)
    return inside and (frames[-1].line or "").startswith("raise ")


def is_lost_connection(error: BaseException) -> bool:
    """Whether torch's Gloo could not reach the process of another rank, which has then ended."""
    message = str(error)
    return "closed by peer" in message or "reset by peer" in message


def refused_by_torch(error: BaseException) -> bool:
    """Whether a constructor of torch.optim raised an error, or could not be called."""
    file = Path(traceback.extract_tb(error.__traceback__)[-1].filename)
    # A missing or unknown argument is raised where jsonargparse calls the class.
    return file.is_relative_to(Path(torch.optim.__file__).parent) or "jsonargparse" in file.parts
