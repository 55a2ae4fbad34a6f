import pytest
import torch
from torch import nn

from rl_lightning.networks.q_ensemble import QEnsemble
from specs import spec


def twins(layer_norm=False):
    torch.manual_seed(0)
    environment = spec(observation_shape=(2, 3), action_shape=(2,))
    return QEnsemble(environment, (5, 4), layer_norm=layer_norm)


@pytest.mark.parametrize("layer_norm", [False, True])
def test_the_batched_product_equals_two_separate_networks(layer_norm):
    functions = twins(layer_norm)
    observations, actions = torch.randn(7, 2, 3), torch.randn(7, 2)
    inputs = torch.cat([observations.flatten(1), actions], dim=1)
    expected = []
    for index in range(2):
        layers = []
        for layer in functions.layers:
            linear = nn.Linear(*layer.weight.shape[1:])
            linear.weight.data = layer.weight[index].T
            linear.bias.data = layer.bias[index, 0]
            norm = [nn.LayerNorm(linear.out_features)] if layer_norm else []
            layers += [linear, *norm, nn.ReLU()]
        networks = nn.Sequential(*layers[: -2 if layer_norm else -1])
        expected.append(networks(inputs).squeeze(1))
    torch.testing.assert_close(functions(observations, actions), torch.stack(expected))


def test_they_share_no_weights_and_begin_differently():
    functions = twins()
    functions(torch.randn(7, 2, 3), torch.randn(7, 2))[0].sum().backward()
    for parameter in functions.parameters():
        assert parameter.grad[0].any()
        assert not parameter.grad[1].any()
        assert not torch.equal(parameter[0], parameter[1])


@pytest.mark.parametrize("layer_norm", [False, True])
def test_frozen_weights_get_no_gradient_and_actions_get_the_same(layer_norm):
    functions = twins(layer_norm)
    gradients = []
    for frozen in (False, True):
        actions = torch.ones(7, 2, requires_grad=True)
        functions.zero_grad()
        functions(torch.ones(7, 2, 3), actions, frozen=frozen).sum().backward()
        gradients.append(actions.grad)
        assert all((parameter.grad is None) == frozen for parameter in functions.parameters())
    torch.testing.assert_close(*gradients)


def test_discrete_observations_are_encoded():
    functions = QEnsemble(spec(observation_shape=(), num_observations=3, action_shape=(1,)), (8,))
    q_values = functions(torch.arange(3), torch.zeros(3, 1))
    assert q_values.shape == (2, 3)
    assert len(q_values[0].unique()) == 3


def test_q_values_are_float32_in_mixed_precision():
    with torch.autocast("cpu", torch.bfloat16):
        q_values = twins()(torch.randn(7, 2, 3), torch.randn(7, 2))
    assert q_values.dtype == torch.float32


def test_initial_weights_are_those_of_a_linear_layer():
    layer = QEnsemble(spec(observation_shape=(98,), action_shape=(2,)), (400,)).layers[0]
    for values in (layer.weight, layer.bias):
        assert values.abs().max().item() == pytest.approx(0.1, rel=0.05)
        assert values.std().item() == pytest.approx(0.1 / 3**0.5, rel=0.1)
