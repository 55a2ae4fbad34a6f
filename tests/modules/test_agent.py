import pytest
import torch

from rl_lightning.experience import Episodes
from rl_lightning.modules.agent import EpisodeStatistics, interquartile_mean


def episodes(*returns: float) -> Episodes:
    values = torch.tensor(returns, dtype=torch.float64)
    return Episodes(values, values.long())


def test_interquartile_mean_drops_a_quarter_at_either_end():
    assert interquartile_mean(torch.tensor([100.0, 2, 3, -50])) == 2.5


def test_statistics_are_of_all_episodes_and_not_means_of_means():
    statistics = EpisodeStatistics()
    statistics.update(episodes(1, 2, 3))
    statistics.update(episodes(10))
    values = {name: value.item() for name, value in statistics.compute().items()}
    assert values["return"] == 4
    assert values["return_std"] == pytest.approx(((9 + 4 + 1 + 36) / 4) ** 0.5)
    assert (values["return_min"], values["return_max"], values["return_iqm"]) == (1, 10, 2.5)
    assert (values["length"], values["episodes"]) == (4, 4)
