import copy

import pytest
import torch

from rl_lightning.networks.rmsprop_tf import RMSpropTF


def test_epsilon_is_inside_the_root_and_the_average_is_initially_one() -> None:
    parameter = torch.nn.Parameter(torch.tensor([1.0]))
    optimizer = RMSpropTF([parameter], lr=0.1, alpha=0.9, eps=0.01)
    expected, average = 1.0, 1.0
    for gradient in (2.0, -0.5):
        parameter.grad = torch.tensor([gradient])
        optimizer.step()
        average = 0.9 * average + 0.1 * gradient**2
        expected -= 0.1 * gradient / (average + 0.01) ** 0.5
        assert parameter.item() == pytest.approx(expected, rel=1e-6)


def test_state_goes_through_a_checkpoint() -> None:
    parameters = [torch.nn.Parameter(torch.ones(2)) for _ in range(2)]
    optimizers = [RMSpropTF([parameter]) for parameter in parameters]
    parameters[0].grad = torch.ones(2)
    optimizers[0].step()
    parameters[1].data.copy_(parameters[0].data)
    optimizers[1].load_state_dict(copy.deepcopy(optimizers[0].state_dict()))
    for parameter, optimizer in zip(parameters, optimizers, strict=True):
        parameter.grad = torch.full((2,), 3.0)
        optimizer.step()
    assert torch.equal(*parameters)


def test_a_closure_is_evaluated_with_gradients() -> None:
    parameter = torch.nn.Parameter(torch.tensor(2.0))
    optimizer = RMSpropTF([parameter], lr=0.1)

    def closure() -> torch.Tensor:
        loss = parameter.square()
        loss.backward()
        return loss

    assert optimizer.step(closure) == 4
    assert parameter < 2
