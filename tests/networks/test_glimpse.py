"""The glimpse sensor agrees with a loop over single pixels, and the glimpse network."""

import pytest
import torch
from torch import Tensor

from rl_lightning.networks.glimpse import GlimpseNetwork, GlimpseSensor, glimpse_centres
from rl_lightning.runtime.errors import ConfigurationError

BORDERS = [-1.0, -0.97, -0.5, 0.0, 0.31, 0.97, 1.0]


def look_slowly(image: Tensor, location: Tensor, size: int, num_scales: int) -> Tensor:
    """The patches of one image [C, H, W] at one location, computed pixel by pixel."""
    channels, height, width = image.shape
    x = round(((location[0] + 1) / 2 * width).item())
    y = round(((location[1] + 1) / 2 * height).item())
    out = torch.zeros(num_scales, channels, size, size)
    for scale in range(num_scales):
        step = 2**scale
        left, top = x - size * step // 2, y - size * step // 2
        for row in range(size * step):
            for column in range(size * step):
                if 0 <= top + row < height and 0 <= left + column < width:
                    pixel = image[:, top + row, left + column]
                    out[scale, :, row // step, column // step] += pixel / step**2
    return out


@pytest.mark.parametrize(
    ("shape", "size", "num_scales"),
    [((1, 28, 28), 8, 1), ((1, 30, 40), 6, 3), ((2, 20, 20), 5, 2), ((1, 28, 28), 56, 1)],
)
def test_sensor_equals_a_loop_at_random_corner_border_and_centre_locations(
    shape: tuple[int, int, int], size: int, num_scales: int
) -> None:
    generator = torch.Generator().manual_seed(0)
    grid = torch.tensor([[x, y] for x in BORDERS for y in BORDERS])
    locations = torch.cat([grid, torch.rand(15, 2, generator=generator) * 2 - 1])
    if size > 40:
        locations = locations[::8]
    images = torch.rand(3, *shape, generator=generator)
    rows = torch.arange(len(locations)) % len(images)
    sensor = GlimpseSensor(shape, size, num_scales)
    seen = sensor(sensor.pad(images), locations, rows)
    for n, row in enumerate(rows):
        expected = look_slowly(images[row], locations[n], size, num_scales)
        torch.testing.assert_close(seen[n], expected, atol=1e-6, rtol=0)


def test_x_runs_along_columns_and_y_along_rows() -> None:
    image = torch.zeros(1, 1, 28, 28)
    image[0, 0, 5, 20] = 1  # row 5, column 20
    sensor = GlimpseSensor((1, 28, 28), 4)
    location = torch.tensor([[20 / 14 - 1, 5 / 14 - 1]])
    seen = sensor(sensor.pad(image), location, torch.tensor([0]))
    assert seen[0, 0, 0, 2, 2] == 1
    swapped = sensor(sensor.pad(image), location.flip(-1), torch.tensor([0]))
    assert swapped.sum() == 0


def test_corners_of_the_location_square_are_corners_of_the_image() -> None:
    corners = torch.tensor([[-1.0, -1.0], [0.0, 0.0], [1.0, 1.0], [1.0, -1.0]])
    expected = torch.tensor([[0, 0], [20, 15], [40, 30], [40, 0]])
    assert torch.equal(glimpse_centres(corners, height=30, width=40), expected)


def test_pixels_outside_the_image_are_zero() -> None:
    sensor = GlimpseSensor((1, 28, 28), 8)
    seen = sensor(
        sensor.pad(torch.ones(1, 1, 28, 28)), torch.tensor([[1.0, -1.0]]), torch.tensor([0])
    )
    assert torch.equal(seen[0, 0, 0, 4:, :4], torch.ones(4, 4))
    assert seen.sum() == 16


def test_a_glimpse_larger_than_the_padded_image_is_refused_in_one_line() -> None:
    with pytest.raises(ConfigurationError, match=r"64 pixels.*28x28") as error:
        GlimpseSensor((1, 28, 28), size=8, num_scales=4)
    assert "\n" not in str(error.value)
    with pytest.raises(ConfigurationError, match="at least 1"):
        GlimpseSensor((1, 28, 28), size=0)


def test_glimpse_network_is_the_papers_sum_of_what_and_where() -> None:
    network = GlimpseNetwork(num_features=6, hidden_size=4, output_size=5)
    glimpses, locations = torch.randn(3, 6), torch.randn(3, 2)
    what = torch.relu(network.what(glimpses)) @ network.merge.weight[:, :4].T
    where = torch.relu(network.where(locations)) @ network.merge.weight[:, 4:].T
    expected = torch.relu(what + where + network.merge.bias)
    torch.testing.assert_close(network(glimpses, locations), expected)
