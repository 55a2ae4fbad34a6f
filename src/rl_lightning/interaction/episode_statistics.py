"""Statistics of whole episodes."""

import torch
from torch import Tensor
from torchmetrics import Metric

from rl_lightning.experience import Episodes


def interquartile_mean(values: Tensor) -> Tensor:
    """Mean of the middle half of `values` [K], without the lowest and the highest quarter.

    Source: Agarwal et al. 2021, "Deep RL at the Edge of the Statistical Precipice".
    """
    cut = values.numel() // 4
    return values.sort().values[cut : values.numel() - cut].mean()


class EpisodeStatistics(Metric):
    """Statistics over all episodes of an evaluation, gathered over ranks.

    `compute` returns `return` (the mean), `return_std` (of the population), `return_min`,
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
        """Add `episodes`."""
        self.returns.append(episodes.returns)
        self.lengths.append(episodes.lengths)

    def compute(self) -> dict[str, Tensor]:
        """Compute the statistics of all episodes since the last reset."""
        # torchmetrics holds a list here, and one tensor after it has gathered the ranks. The
        # returns are sorted, so that the sums do not depend on which rank played which episode.
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
