import math

import pytest
import torch
from torch import tensor
from torch.distributions import Normal

from rl_lightning.functional.maximum_entropy import (
    soft_policy_loss,
    soft_q_target,
    squashed_log_probs,
    temperature_loss,
)

MEAN, LOG_STD = 0.4, math.log(0.7)


def density(actions):
    """π(a) of one-dimensional actions [B]."""
    unsquashed = torch.atanh(actions).unsqueeze(1)
    like = torch.ones_like(unsquashed)
    return squashed_log_probs(unsquashed, MEAN * like, LOG_STD * like).exp()


@pytest.mark.parametrize("upper", [-0.9, -0.2, 0.5, 0.99, 1.0])
def test_the_density_integrates_to_the_probability_of_the_gaussian(upper):
    edges = torch.linspace(-1, upper, 200_001, dtype=torch.float64)
    middles = (edges[1:] + edges[:-1]) / 2  # quadrature by the midpoint rule
    integral = density(middles).sum() * (edges[1] - edges[0])
    probability = Normal(MEAN, math.exp(LOG_STD)).cdf(torch.atanh(tensor(upper).double()))
    assert integral.item() == pytest.approx(probability.item(), abs=1e-6)


def test_the_log_probability_is_the_sum_over_components():
    unsquashed, mean, log_std = torch.randn(3, 5, 2, dtype=torch.float64)
    parts = [
        squashed_log_probs(unsquashed[:, i : i + 1], mean[:, i : i + 1], log_std[:, i : i + 1])
        for i in range(2)
    ]
    torch.testing.assert_close(squashed_log_probs(unsquashed, mean, log_std), parts[0] + parts[1])


def test_log_probabilities_and_their_gradients_are_finite_where_tanh_is_one():
    unsquashed = tensor([[-40.0], [40.0]], requires_grad=True)
    assert unsquashed.detach().tanh().abs().min() == 1
    log_probs = squashed_log_probs(unsquashed, torch.zeros(2, 1), torch.zeros(2, 1))
    log_probs.sum().backward()
    # log N(40) − log(1 − tanh² 40), where 1 − tanh² u is nearly 4 e^{−2u}
    expected = -800 - 0.5 * math.log(2 * math.pi) - math.log(4) + 80
    assert log_probs.tolist() == pytest.approx([expected] * 2)
    assert unsquashed.grad.flatten().tolist() == pytest.approx([38, -38])


REWARDS, DISCOUNTS = tensor([1.0, 2.0]), tensor([0.5, 0.0])
NEXT, LOG_PROBS = tensor([[3.0, 5.0], [7.0, 1.0]]), tensor([-2.0, 9.0])


def test_the_soft_target_by_hand():
    target = soft_q_target(REWARDS, DISCOUNTS, NEXT, LOG_PROBS, tensor(0.1))
    assert target.tolist() == pytest.approx([1 + 0.5 * (3 + 0.2), 2])


def test_the_policy_loss_by_hand():
    assert soft_policy_loss(NEXT, LOG_PROBS, tensor(0.1)).item() == pytest.approx(
        ((-0.2 - 3) + (0.9 - 1)) / 2
    )


@pytest.mark.parametrize(("entropy", "rises"), [(-3.0, True), (-1.0, False)])
def test_the_temperature_rises_while_the_entropy_is_below_its_target(entropy, rises):
    log_temperature = tensor(0.7, requires_grad=True)
    temperature_loss(log_temperature, torch.full((4,), -entropy), target_entropy=-2.0).backward()
    assert log_temperature.grad.item() == pytest.approx(-1 if rises else 1)


def test_columns_do_not_broadcast_into_a_square():
    for wrong in (
        lambda: soft_q_target(REWARDS.unsqueeze(1), DISCOUNTS, NEXT, LOG_PROBS, tensor(1.0)),
        lambda: soft_q_target(REWARDS, DISCOUNTS, NEXT, LOG_PROBS.unsqueeze(1), tensor(1.0)),
        lambda: soft_policy_loss(NEXT, LOG_PROBS.unsqueeze(1), tensor(1.0)),
        lambda: squashed_log_probs(torch.zeros(2, 1), torch.zeros(2, 2), torch.zeros(2, 2)),
    ):
        with pytest.raises(AssertionError):
            wrong()
