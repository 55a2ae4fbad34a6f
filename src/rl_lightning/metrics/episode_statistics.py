"""Statistics of whole games, and when a metric is worth computing."""

import torch
from torch import Tensor
from torchmetrics import Metric

from rl_lightning.experience import Episodes


def interquartile_mean(values: Tensor) -> Tensor:
    """Mean of the middle half of `values` [K], a quarter cut off either end.

    Source: Agarwal et al. 2021, "Deep RL at the Edge of the Statistical Precipice".
    """
    cut = values.numel() // 4
    return values.sort().values[cut : values.numel() - cut].mean()


class EpisodeStatistics(Metric):
    """Statistics over all games of an evaluation, gathered over ranks.

    `compute` gives `return` (the mean), `return_std` (population), `return_min`,
    `return_max`, `return_iqm`, `length` (the mean) and `episodes` (their number).
    """

    full_state_update = False
    returns: list[Tensor]
    lengths: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        self.add_state("returns", default=[], dist_reduce_fx="cat")
        self.add_state("lengths", default=[], dist_reduce_fx="cat")

    def update(self, episodes: Episodes) -> None:
        """Add the games of `episodes`."""
        self.returns.append(episodes.returns)
        self.lengths.append(episodes.lengths)

    def compute(self) -> dict[str, Tensor]:
        """Reduce all games seen since the last reset."""
        # A list before the ranks are gathered, one tensor after. In one order, whoever played
        # which game, so that the sums are the same to the last bit.
        returns = torch.cat([*self.returns]) if isinstance(self.returns, list) else self.returns
        returns = returns.sort().values
        lengths = torch.cat([*self.lengths]) if isinstance(self.lengths, list) else self.lengths
        return {
            "return": returns.mean(),
            "return_std": returns.std(correction=0),
            "return_min": returns.min(),
            "return_max": returns.max(),
            "return_iqm": interquartile_mean(returns),
            "length": lengths.double().mean(),
            "episodes": torch.tensor(float(returns.numel()), device=returns.device),
        }
