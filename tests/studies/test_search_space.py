"""Ranges of hyperparameters."""

import re
from pathlib import Path

import pytest
from optuna.distributions import (
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from rl_lightning.runtime.errors import ConfigurationError
from rl_lightning.studies.search_space import as_flags, example, read_search_space

SPACE = """
model.optimizer.lr: {low: 1e-4, high: 0.1, log: true}
--data.num_envs: {low: 8, high: 64, step: 8}
model.hidden_sizes: [[64], [64, 64]]
model.activation: [tanh, relu]
"""


def test_each_form_is_read():
    space = read_search_space(SPACE)
    assert space == {
        "model.optimizer.lr": FloatDistribution(1e-4, 0.1, log=True),
        "data.num_envs": IntDistribution(8, 64, step=8),
        "model.hidden_sizes": CategoricalDistribution(["[64]", "[64, 64]"]),
        "model.activation": CategoricalDistribution(["tanh", "relu"]),
    }
    assert as_flags(example(space)) == [
        "--model.optimizer.lr=0.0001",
        "--data.num_envs=8",
        "--model.hidden_sizes=[64]",
        "--model.activation=tanh",
    ]


def test_the_example_of_the_page_can_be_read():
    page = (Path(__file__).parents[2] / "docs" / "seeds.md").read_text()
    (text,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    assert len(read_search_space(text)) == 3


def test_a_file_is_read(tmp_path):
    (tmp_path / "space.yaml").write_text(SPACE)
    assert read_search_space(str(tmp_path / "space.yaml")) == read_search_space(SPACE)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("missing.yaml", "there is no file missing.yaml"),
        ("{a: [", "is not YAML"),
        ("{}", "names no flag"),
        ("{model.lr: 3}", "cannot read the range of model.lr"),
        ("{model.lr: {low: 1, high: 2, lag: true}}", "cannot read the range of model.lr"),
        ("{model.lr: {low: 2, high: 1}}", "model.lr"),
        ("{model.lr: {low: banana, high: 1}}", "banana"),
        ("{model.lr: {low: 0, high: 1.0, log: true}}", "model.lr"),
        ("{model.lr: []}", "cannot read the range"),
    ],
)
def test_what_cannot_be_read_is_one_line(given, said):
    with pytest.raises(ConfigurationError, match=said) as raised:
        read_search_space(given)
    assert "\n" not in str(raised.value)
