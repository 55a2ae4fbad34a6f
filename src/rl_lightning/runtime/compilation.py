"""Compiles functions of tensors."""

import os
import shutil
from collections.abc import Callable
from typing import Any

import torch

from rl_lightning.runtime.errors import ConfigurationError


def compile_whole(function: Callable[..., Any], device: torch.device) -> Callable[..., Any]:
    """Compile a function in one piece, for the shapes of its inputs, with `torch.compile`.

    Raises:
        ConfigurationError: If this needs a C++ compiler and there is none.
    """
    compilers = (os.environ.get("CXX", "g++"), "clang++", "cl")
    if device.type == "cpu" and not any(map(shutil.which, compilers)):
        raise ConfigurationError(
            "compiled is true and there is no C++ compiler: install g++, or set "
            "model.init_args.compiled to false"
        )
    return torch.compile(function, fullgraph=True, dynamic=False)
