"""An exported graph fails where its condition is False."""

import pytest
import torch
from torch import nn

from rl_lightning.lightning_adapter.graphs import zero_if


class Positive(nn.Module):
    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return values + zero_if((values > 0).all(), "not positive")


def test_the_condition_is_a_part_of_the_graph():
    graph = torch.export.export(Positive(), (torch.ones(2),)).module()
    assert graph(torch.ones(2)).tolist() == [1, 1]
    with pytest.raises(RuntimeError, match="not positive"):
        graph(torch.tensor([1.0, -1.0]))
