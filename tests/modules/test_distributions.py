import math

import pytest
import torch

from rl_lightning.experience import EnvironmentSpec
from rl_lightning.modules.distributions import CategoricalHead, GaussianHead, make_head


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


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
    head = GaussianHead(1, (2,), initial_log_std=math.log(0.5))
    torch.nn.init.zeros_(head.linear.weight)
    head.linear.bias.data = torch.tensor([3.0, -1.0])
    features = torch.zeros(20_000, 1)
    actions = head.act(features, generator())
    torch.testing.assert_close(actions.mean(0), torch.tensor([3.0, -1.0]), atol=0.02, rtol=0)
    torch.testing.assert_close(actions.std(0), torch.full((2,), 0.5), atol=0.02, rtol=0)
    assert torch.equal(head.act(features, None), head(features).mode)
    assert torch.equal(head.act(features, None)[0], torch.tensor([3.0, -1.0]))


def test_the_log_probability_is_of_all_dimensions_together() -> None:
    distribution = GaussianHead(1, (2, 3), initial_log_std=0.0)(torch.zeros(4, 1))
    log_probs = distribution.log_prob(distribution.mode)
    assert log_probs.shape == (4,)
    assert log_probs[0].item() == pytest.approx(-3 * math.log(2 * math.pi))


def test_log_std_is_no_function_of_the_state() -> None:
    distribution = GaussianHead(2, (1,), initial_log_std=-0.5)(torch.randn(5, 2))
    assert distribution.stddev.unique().tolist() == [pytest.approx(math.exp(-0.5))]


def test_draws_repeat_with_their_generator_and_differ_between_copies() -> None:
    head = GaussianHead(1, (1,), initial_log_std=0.0)
    first, again = (head.act(torch.zeros(8, 1), generator()) for _ in range(2))
    assert torch.equal(first, again)
    assert len(first.unique()) == 8


@pytest.mark.parametrize(("num_actions", "kind"), [(4, CategoricalHead), (None, GaussianHead)])
def test_the_head_fits_the_actions(num_actions: int | None, kind: type) -> None:
    spec = EnvironmentSpec(
        env_id="x",
        observation_shape=(3,),
        num_observations=None,
        action_shape=() if num_actions else (2,),
        num_actions=num_actions,
    )
    assert isinstance(make_head(spec, 8, 0.0), kind)
