"""A Q-network with an output for each discrete action."""

import torch
from torch import Tensor, nn

from rl_lightning.networks.bodies import Body, FullPrecisionLinear


class QNetwork(nn.Module):
    """Maps observations [B, *observation_shape] → Q-values [B, A], one for each action.

    With `dueling`, Q = V + A − mean A over actions (Wang et al. 2016, equation 9).
    """

    def __init__(self, body: Body, num_actions: int, dueling: bool) -> None:
        super().__init__()
        self.body = body
        self.advantages = FullPrecisionLinear(body.features, num_actions)
        self.value = FullPrecisionLinear(body.features, 1) if dueling else None

    def forward(self, observations: Tensor) -> Tensor:
        """Compute the Q-values of all actions."""
        features = self.body(observations)
        q_values: Tensor = self.advantages(features)
        if self.value is None:
            return q_values
        centred: Tensor = q_values - q_values.mean(dim=1, keepdim=True)
        return torch.add(self.value(features), centred)
