import math

import pytest
import torch
from torch.distributions import Normal

from rl_lightning.experience import EnvironmentSpec
from rl_lightning.networks.policy_heads import (
    CategoricalHead,
    GaussianHead,
    SquashedGaussianHead,
    make_head,
)
from specs import spec


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def box(*action_shape: int, bounds: float = 1.0) -> EnvironmentSpec:
    return spec(action_shape=action_shape, bounds=bounds)


def test_a_categorical_is_sampled_at_its_probabilities() -> None:
    head = CategoricalHead(1, 3)
    torch.nn.init.zeros_(head.linear.weight)
    probabilities = torch.tensor([0.1, 0.6, 0.3])
    head.linear.bias.data = probabilities.log()
    features = torch.zeros(20_000, 1)
    counts = torch.bincount(head.act(features, generator()), minlength=3)
    torch.testing.assert_close(counts / 20_000, probabilities, atol=0.015, rtol=0)
    torch.testing.assert_close(head(features[:1]).probs[0], probabilities)
    assert (head.act(features, None) == 1).all()


def test_a_gaussian_is_sampled_around_its_mean() -> None:
    head = GaussianHead(1, box(2), initial_log_std=math.log(0.5))
    torch.nn.init.zeros_(head.linear.weight)
    head.linear.bias.data = torch.tensor([3.0, -1.0])
    features = torch.zeros(20_000, 1)
    actions = head.act(features, generator())
    torch.testing.assert_close(actions.mean(0), torch.tensor([3.0, -1.0]), atol=0.02, rtol=0)
    torch.testing.assert_close(actions.std(0), torch.full((2,), 0.5), atol=0.02, rtol=0)
    assert torch.equal(head.act(features, None), head(features).mode)
    assert torch.equal(head.act(features, None)[0], torch.tensor([3.0, -1.0]))


def test_the_log_probability_is_of_all_dimensions_together() -> None:
    distribution = GaussianHead(1, box(2, 3), initial_log_std=0.0)(torch.zeros(4, 1))
    log_probs = distribution.log_prob(distribution.mode)
    assert log_probs.shape == (4,)
    assert log_probs[0].item() == pytest.approx(-3 * math.log(2 * math.pi))


def test_log_std_does_not_depend_on_the_state() -> None:
    distribution = GaussianHead(2, box(1), initial_log_std=-0.5)(torch.randn(5, 2))
    assert distribution.stddev.unique().tolist() == [pytest.approx(math.exp(-0.5))]


def test_actions_repeat_with_the_generator_and_differ_between_environment_copies() -> None:
    head = GaussianHead(1, box(1), initial_log_std=0.0)
    first, again = (head.act(torch.zeros(8, 1), generator()) for _ in range(2))
    assert torch.equal(first, again)
    assert len(first.unique()) == 8


@pytest.mark.parametrize(("num_actions", "kind"), [(4, CategoricalHead), (None, GaussianHead)])
def test_the_head_fits_the_actions(num_actions: int | None, kind: type) -> None:
    environment = spec(action_shape=() if num_actions else (2,), num_actions=num_actions)
    assert isinstance(make_head(environment, 8, 0.0), kind)


def bounded(low: list[float], high: list[float]) -> EnvironmentSpec:
    environment = spec(action_shape=(len(low),))
    return {**environment, "action_low": low, "action_high": high}


def test_mean_and_deviation_are_counted_in_half_the_distance_between_the_bounds() -> None:
    torch.manual_seed(0)
    head = GaussianHead(3, bounded([-1.0, -2.0], [3.0, 8.0]), initial_log_std=-0.5)
    features = torch.randn(6, 3)
    actions = torch.randn(6, 2)
    mean = torch.tensor([1.0, 3.0]) + torch.tensor([2.0, 5.0]) * head.linear(features)
    deviation = math.exp(-0.5) * torch.tensor([2.0, 5.0])
    by_hand = Normal(mean, deviation).log_prob(actions).sum(1)
    torch.testing.assert_close(head(features).log_prob(actions), by_hand)
    torch.testing.assert_close(head(features).entropy(), Normal(mean, deviation).entropy().sum(1))
    torch.testing.assert_close(head.act(features, None), mean)
    noise = torch.empty(6, 2).normal_(generator=generator())
    torch.testing.assert_close(head.act(features, generator()), mean + deviation * noise)


@pytest.mark.parametrize(
    ("low", "high"),
    [
        (-math.inf, math.inf),
        (-math.inf, 3.0),
        (0.0, math.inf),
        (-torch.finfo(torch.float32).max, torch.finfo(torch.float32).max),
        (-torch.finfo(torch.float64).max, torch.finfo(torch.float64).max),
        (2.0, 2.0),
    ],
    ids=["none", "above", "below", "largest float", "largest double", "equal"],
)
def test_without_two_bounds_nothing_is_scaled(low: float, high: float) -> None:
    torch.manual_seed(0)
    head = GaussianHead(3, bounded([low, -1.0], [high, 3.0]), initial_log_std=0.0)
    features = torch.randn(6, 3)
    mean = head.linear(features) * torch.tensor([1.0, 2.0]) + torch.tensor([0.0, 1.0])
    by_hand = Normal(mean, torch.tensor([1.0, 2.0])).log_prob(torch.ones(6, 2)).sum(1)
    torch.testing.assert_close(head(features).log_prob(torch.ones(6, 2)), by_hand)
    assert by_hand.isfinite().all()


def test_actions_may_be_single_numbers_or_tables() -> None:
    for shape in ((), (1,), (2, 3)):
        head = GaussianHead(3, box(*shape, bounds=2.0), initial_log_std=0.0)
        features = torch.randn(5, 3)
        actions = head.act(features, generator())
        assert actions.shape == (5, *shape)
        assert head(features).log_prob(actions).shape == (5,)
        assert head(features).entropy().shape == (5,)


def test_squashed_actions_may_be_single_numbers_or_tables() -> None:
    for shape in ((), (1,), (2, 3)):
        head = SquashedGaussianHead(3, box(*shape, bounds=2.0))
        features = torch.randn(5, 3)
        actions = head.act(features, None)
        assert actions.shape == (5, *shape)
        torch.testing.assert_close(head.from_environment(actions), head(features)[0].tanh())


def test_bounds_are_buffers_with_the_device_and_dtype_of_the_weights() -> None:
    head = GaussianHead(3, box(2), initial_log_std=0.0).double()
    assert {name for name, _ in head.named_parameters()} == {
        "linear.weight",
        "linear.bias",
        "log_std",
    }
    assert head.act(torch.zeros(1, 3, dtype=torch.float64), None).dtype == torch.float64


@pytest.mark.parametrize("num_actions", [None, 4])
def test_log_probabilities_stay_in_full_precision_under_autocast(num_actions: int | None) -> None:
    torch.manual_seed(0)
    environment = spec(action_shape=() if num_actions else (2,), num_actions=num_actions)
    head, features = make_head(environment, 8, 0.0), torch.randn(5, 8)
    actions = head.act(features, generator())
    alone = head(features).log_prob(actions)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(head(features).log_prob(actions), alone)
        assert torch.equal(head.act(features, generator()), actions)
