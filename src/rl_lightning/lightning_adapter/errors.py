"""What an error of Lightning or torch means, where its type does not say it."""

import traceback
from pathlib import Path

import lightning
import torch

# Where a `raise` is about settings of the user.
_CHECKING = (Path(lightning.__file__).parent, Path(torch.optim.__file__).parent)


def refuses_settings(error: BaseException) -> bool:
    """Whether a `raise` in the code of Lightning or of torch.optim raised an error."""
    frames = traceback.extract_tb(error.__traceback__)
    if not frames or not (frames[-1].line or "").startswith("raise "):
        return False
    return any(Path(frames[-1].filename).is_relative_to(folder) for folder in _CHECKING)


def is_lost_connection(error: BaseException) -> bool:
    """Whether torch's Gloo could not reach the process of another rank, which has then ended."""
    message = str(error)
    return "closed by peer" in message or "reset by peer" in message
