"""Inputs of networks: images, discrete observations, and all dtypes and precisions."""

import math

import pytest
import torch
from torch import nn

from rl_lightning.networks.bodies import (
    MLP,
    Cast,
    Flatten,
    FullPrecisionLinear,
    Images,
    OneHot,
    initialise_orthogonally,
    make_body,
)
from rl_lightning.runtime.errors import ConfigurationError
from specs import spec

DTYPES = [torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64]
FLOATS = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


@pytest.mark.parametrize("precision", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("dtype", DTYPES + FLOATS)
def test_every_dtype_becomes_that_of_the_weights(dtype, precision):
    cast = Cast().to(precision)
    values = torch.tensor([0, 1, 100]).to(dtype)
    out = cast(values)
    assert out.dtype == precision
    scale = 255.0 if dtype == torch.uint8 else 1.0
    torch.testing.assert_close(out, values.to(precision) / scale)
    assert not cast.state_dict(), "Cast must not be in the checkpoint"


@pytest.mark.parametrize("precision", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize(
    ("shape", "dtype", "num_observations"),
    [
        ((), "float32", None),
        ((4,), "float32", None),
        ((4,), "float64", None),
        ((2, 3), "uint8", None),
        ((2, 3, 1, 2), "int64", None),
        ((), "int64", 5),
    ],
)
def test_an_mlp_takes_observations_of_every_shape(shape, dtype, num_observations, precision):
    environment = spec("x", shape, num_observations=num_observations, num_actions=2)
    body = make_body(environment, "mlp", (8, 3)).to(precision)
    observations = torch.ones(5, *shape).to(getattr(torch, dtype))
    assert body(observations).shape == (5, body.features) == (5, 3)
    assert body(observations).dtype == precision
    with torch.autocast("cpu", torch.bfloat16):
        assert body(observations).shape == (5, 3)


@pytest.mark.parametrize("layer_norm", [False, True])
@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_an_mlp_computes_all_its_layers(activation, layer_norm):
    body = MLP((4,), (8, 3), activation, layer_norm=layer_norm)
    features = observations = torch.randn(5, 4)
    for layer in (each for each in body if isinstance(each, nn.Linear)):
        features = features @ layer.weight.T + layer.bias
        if layer_norm:
            features = nn.functional.layer_norm(features, features.shape[1:])
        features = features.relu() if activation == "relu" else features.tanh()
    torch.testing.assert_close(body(observations), features)
    body[1] = nn.Linear(4, 8)  # a layer in place of another is used
    assert not torch.allclose(body(observations), features)


def test_observations_are_flattened_in_order():
    observations = torch.arange(12.0).reshape(2, 2, 3)
    assert Flatten()(observations).tolist() == observations.reshape(2, 6).tolist()
    flat = torch.ones(3, 2)
    assert Flatten()(flat) is flat
    # Observations of two dimensions and another dtype are converted too.
    assert Flatten()(flat.to(torch.uint8)).tolist() == [[pytest.approx(1 / 255)] * 2] * 3


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int64])
def test_discrete_observations_are_one_hot_and_not_scaled(dtype):
    out = OneHot(3)(torch.tensor([2, 0], dtype=dtype))
    assert out.dtype == torch.float32
    assert out.tolist() == [[0, 0, 1], [1, 0, 0]]


def numbered(*shape):
    """Images in which all numbers are different."""
    return torch.arange(2 * math.prod(shape), dtype=torch.float32).reshape(2, *shape)


@pytest.mark.parametrize(
    ("shape", "as_channels_first"),
    [
        ((4, 40, 50), lambda images: images),
        ((1, 40, 50), lambda images: images),
        ((40, 50, 3), lambda images: images.permute(0, 3, 1, 2)),
        ((40, 50, 1), lambda images: images.permute(0, 3, 1, 2)),
        ((40, 50), lambda images: images[:, None]),
        ((40, 40, 40), lambda images: images),
        ((36, 96, 36), lambda images: images),  # equal numbers, so channels are first
    ],
)
def test_images_have_their_channels_first_in_the_network(shape, as_channels_first):
    expected = as_channels_first(numbered(*shape))
    images = Images("nature", shape)
    torch.testing.assert_close(images(numbered(*shape)), expected)
    assert images.shape == tuple(expected.shape[1:])
    assert images(numbered(*shape)).is_contiguous(memory_format=torch.channels_last)
    pixels = numbered(*shape).to(torch.uint8)
    torch.testing.assert_close(images(pixels), as_channels_first(pixels) / 255)


@pytest.mark.parametrize("network", ["nature", "atari_2013"])
@pytest.mark.parametrize(
    "shape",
    [(4, 84, 84), (84, 84, 3), (84, 84), (3, 36, 200), (96, 96, 3), (210, 160, 3), (36, 36)],
)
def test_convolutions_take_images_of_every_size(network, shape):
    body = make_body(spec("x", shape, num_actions=2), network, ())
    pixels = torch.zeros(2, *shape, dtype=torch.uint8)
    assert body(pixels).shape == (2, body.features)
    with torch.autocast("cpu", torch.bfloat16):
        assert body(pixels).shape == (2, body.features)
    assert body.double()(pixels).dtype == torch.float64


@pytest.mark.parametrize("network", ["nature", "atari_2013"])
@pytest.mark.parametrize(
    "shape", [(), (4,), (35, 84), (4, 84, 35), (35, 84, 3), (7, 7, 3), (99, 20, 99), (2, 4, 84, 84)]
)
def test_other_observations_than_images_are_refused_and_the_advice_works(network, shape):
    environment = spec("x", shape, num_actions=2)
    with pytest.raises(ConfigurationError, match="use network mlp") as error:
        make_body(environment, network, (8,))
    assert "\n" not in str(error.value)
    assert str(shape) in str(error.value)
    assert network in str(error.value)
    assert make_body(environment, "mlp", (8,))(torch.zeros(2, *shape)).shape == (2, 8)


@pytest.mark.parametrize("weights", [torch.float32, torch.float64, torch.bfloat16])
def test_a_full_precision_layer_computes_in_its_weights_dtype(weights):
    torch.manual_seed(0)
    layer, features = FullPrecisionLinear(64, 3).to(weights), torch.randn(5, 64).to(weights)
    alone = layer(features)
    assert alone.dtype == weights
    with torch.autocast("cpu", torch.bfloat16):
        assert nn.functional.linear(features.float(), layer.weight.float()).dtype == torch.bfloat16
        assert torch.equal(layer(features), alone)
        # Under autocast the features are converted to the dtype of the layer.
        assert layer(features.bfloat16()).dtype == weights


def test_the_gradient_of_a_full_precision_layer_reaches_the_body():
    body, layer = nn.Linear(4, 8), FullPrecisionLinear(8, 1)
    with torch.autocast("cpu", torch.bfloat16):
        out = layer(body(torch.ones(2, 4)))
    out.sum().backward()
    assert body.weight.grad is not None
    assert body.weight.grad.abs().sum() > 0
    assert layer.weight.grad is not None
    assert layer.weight.grad.dtype == torch.float32


def test_layers_without_units_are_refused():
    with pytest.raises(ConfigurationError, match="make each at least 1"):
        MLP((4,), (8, 0))


def test_initial_weights_are_orthogonal_times_the_gain():
    layer = nn.Linear(8, 4)
    initialise_orthogonally(layer, gain=3.0)
    torch.testing.assert_close(layer.weight @ layer.weight.T, 9 * torch.eye(4))
    assert not layer.bias.any()


@pytest.mark.parametrize(("network", "convolutions"), [("atari_2013", 2), ("nature", 3)])
def test_each_layer_of_an_image_network_has_layer_normalisation(network, convolutions):
    body = make_body(spec(observation_shape=(4, 84, 84)), network, (), layer_norm=True)
    _, *kinds = [type(layer) for layer in body]
    assert kinds == [
        *[nn.Conv2d, nn.GroupNorm, nn.ReLU] * convolutions,
        *[nn.Flatten, nn.Linear, nn.LayerNorm, nn.ReLU],
    ]
    assert all(layer.num_groups == 1 for layer in body if isinstance(layer, nn.GroupNorm))
    assert body(torch.zeros(2, 4, 84, 84)).shape == (2, body.features)
