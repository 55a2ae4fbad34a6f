import pytest
import torch

from rl_lightning.networks import normalisation
from rl_lightning.networks.normalisation import (
    MovingAverage,
    ObservationNormaliser,
    ReturnStatistics,
    RunningStatistics,
)


@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_batches_of_any_size_add_up_to_the_whole(offset: float) -> None:
    values = offset + torch.randn(1_000, 3, generator=torch.Generator().manual_seed(0))
    statistics = RunningStatistics((3,))
    for batch in values.split([1, 9, 490, 500]):
        statistics.update(batch)
    torch.testing.assert_close(statistics.mean, values.double().mean(0))
    torch.testing.assert_close(statistics.variance, values.double().var(0, correction=0))
    assert statistics.count == 1_000


def test_pixels_add_up_too() -> None:
    draws = torch.Generator().manual_seed(0)
    pixels = 200 + torch.randint(8, (1_000, 4, 3, 3), generator=draws, dtype=torch.uint8)
    statistics = RunningStatistics((4, 3, 3))
    for batch in pixels.split([1, 9, 490, 500]):
        statistics.update(batch)
    torch.testing.assert_close(statistics.mean, pixels.double().mean(0))
    variance = pixels.double().var(0, correction=0)
    # A batch of pixels is summed in float32.
    torch.testing.assert_close(statistics.variance, variance, rtol=1e-6, atol=0)


def test_the_mean_of_pixels_still_changes_after_many_values() -> None:
    statistics = RunningStatistics((1,))
    statistics.mean.fill_(100.1)
    statistics.count.fill_(1e8)
    statistics.update(torch.full((100, 1), 101, dtype=torch.uint8))
    moved = statistics.mean - 100.1  # by less than the precision of float32 at 100.1
    torch.testing.assert_close(moved.item(), 0.9 * 100 / (1e8 + 100), rtol=1e-4, atol=0)


def test_scalars() -> None:
    statistics = RunningStatistics()
    statistics.update(torch.tensor([1.0, 3.0]))
    assert (statistics.mean, statistics.variance, statistics.count) == (2, 1, 2)


def test_statistics_include_the_values_of_all_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two ranks with half of the values each get the same statistics as one rank with all."""
    here, there = torch.tensor([[1.0], [2.0]]), torch.tensor([[6.0]])
    alone = RunningStatistics((1,))
    alone.update(torch.cat([here, there]))

    def with_the_other_rank(sums: torch.Tensor) -> torch.Tensor:
        centred = there.double()
        return sums + torch.stack([torch.ones(1), centred.sum(0), centred.square().sum(0)])

    monkeypatch.setattr(normalisation, "sum_over_ranks", with_the_other_rank)
    statistics = RunningStatistics((1,))
    statistics.update(here)
    assert statistics.state_dict() == alone.state_dict()


def test_observations_come_out_standardised_and_clipped() -> None:
    normaliser = ObservationNormaliser((2,), clip=3.0)
    unseen = torch.tensor([[0.5, -9.0]])
    assert normaliser(unseen).tolist() == [[0.5, -3.0]], "no values yet"
    observations = torch.tensor([5.0, 100.0]) + torch.randn(500, 2) * torch.tensor([2.0, 0.1])
    normaliser.update(observations)
    normalised = normaliser(observations)
    torch.testing.assert_close(normalised.mean(0), torch.zeros(2), atol=0.05, rtol=0)
    torch.testing.assert_close(normalised.std(0), torch.ones(2), atol=0.05, rtol=0)
    assert normalised.dtype == torch.float32


def test_forward_does_not_change_the_statistics() -> None:
    normaliser = ObservationNormaliser((2,))
    before = {name: value.clone() for name, value in normaliser.state_dict().items()}
    normaliser.train()(torch.randn(4, 2))
    assert all(torch.equal(before[name], value) for name, value in normaliser.state_dict().items())


def test_a_constant_component_stays_finite() -> None:
    normaliser = ObservationNormaliser((1,))
    normaliser.update(torch.full((10, 1), 4.0))
    assert normaliser(torch.full((1, 1), 4.0)).item() == 0.0
    assert normaliser(torch.full((1, 1), 5.0)).isfinite().all()


def test_a_moving_average_with_bias_correction_by_hand() -> None:
    average = MovingAverage(decay=0.5)
    assert average.value == 0
    average.update(torch.tensor([4.0, 8.0]))
    assert average.value.item() == pytest.approx(6.0)
    average.update(torch.tensor([0.0]))
    assert average.value.item() == pytest.approx((0.25 * 6 + 0.5 * 0) / 0.75)


@pytest.mark.parametrize("value", [-200.0, 1e-3, 7.0, 1e6])
def test_equal_returns_are_scaled_to_ten_and_not_to_infinity(value: float) -> None:
    statistics = ReturnStatistics()
    for _ in range(3):
        statistics.update(torch.full((50,), value))
    assert statistics.scale.item() == pytest.approx(abs(value) / 10, rel=1e-4)


def test_the_scale_is_the_deviation_of_returns_that_differ() -> None:
    returns = 5 + 2 * torch.randn(1_000, generator=torch.Generator().manual_seed(0))
    statistics = ReturnStatistics()
    statistics.update(returns)
    assert statistics.scale.item() == pytest.approx(returns.std(correction=0).item(), rel=1e-5)
    assert statistics.scale.dtype == torch.float32


@pytest.mark.parametrize("returns", [[], [0.0] * 9])
def test_the_scale_is_one_while_all_returns_are_zero(returns: list[float]) -> None:
    statistics = ReturnStatistics()
    assert statistics.scale == 1
    statistics.update(torch.tensor(returns))
    assert statistics.scale == 1
    assert statistics.scale.isfinite()


@pytest.mark.parametrize("known", [0, 5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8])
def test_an_update_without_rows_changes_nothing(known: int, dtype: torch.dtype) -> None:
    statistics = RunningStatistics((2,))
    if known:
        statistics.update(torch.arange(2.0 * known).reshape(known, 2).to(dtype))
    mean, variance = statistics.mean.clone(), statistics.variance.clone()
    statistics.update(torch.empty(0, 2, dtype=dtype))
    torch.testing.assert_close(statistics.mean, mean)
    torch.testing.assert_close(statistics.variance, variance)
    assert statistics.std.isfinite().all()


def test_an_update_without_rows_keeps_the_moving_average() -> None:
    average = MovingAverage(decay=0.5)
    average.update(torch.empty(0))
    assert average.value == 0
    average.update(torch.tensor([4.0]))
    average.update(torch.empty(0))
    assert average.value == 4
