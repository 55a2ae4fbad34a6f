import pytest
import torch
from torch import tensor

from rl_lightning.functional.targets import double_q_target, q_learning_target, td_error, td_loss

REWARDS, DISCOUNTS = tensor([1.0, 2.0]), tensor([0.5, 0.0])
NEXT = tensor([[3.0, 5.0], [7.0, 1.0]])
NEXT_ONLINE = tensor([[9.0, 8.0], [0.0, 1.0]])


def test_q_learning_target_takes_the_maximum_and_stops_at_a_terminal():
    assert q_learning_target(REWARDS, DISCOUNTS, NEXT).tolist() == [1 + 0.5 * 5, 2]


def test_double_q_target_is_the_target_networks_value_of_the_online_choice():
    assert double_q_target(REWARDS, DISCOUNTS, NEXT, NEXT_ONLINE).tolist() == [1 + 0.5 * 3, 2]


def test_td_error_is_the_target_minus_the_value_of_the_action_taken():
    assert td_error(NEXT, tensor([1, 0]), tensor([4.0, 9.0])).tolist() == [-1, 2]


def test_squared_and_huber_loss_by_hand():
    error = tensor([0.5, -3.0])
    assert td_loss(error, "squared").tolist() == [0.25, 9]
    assert td_loss(error, "huber").tolist() == [0.125, 2.5]


def test_huber_gradient_is_the_clipped_error():
    error = tensor([0.5, -3.0], requires_grad=True)
    td_loss(error, "huber").sum().backward()
    assert error.grad.tolist() == [0.5, -1]


def test_columns_do_not_broadcast_into_a_square():
    with pytest.raises(AssertionError):
        q_learning_target(REWARDS.unsqueeze(1), DISCOUNTS, NEXT)
    with pytest.raises(AssertionError):
        td_error(NEXT, tensor([1, 0]), torch.zeros(2, 1))
