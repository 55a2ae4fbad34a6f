"""Assertions in exported graphs."""

import torch
from torch import Tensor


def zero_if(condition: Tensor, message: str) -> Tensor:
    """The number 0 [], made in a graph that fails where a condition is False.

    Args:
        condition: [] bool.
        message: Message of the error in torch.
    """
    torch._assert_async(condition, message)
    # ONNX has no assertion, so index 1 of one element fails there.
    return torch.zeros(1).index_select(0, (~condition).long().reshape(1)).squeeze(0)
