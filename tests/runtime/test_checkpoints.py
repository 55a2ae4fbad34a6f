"""Weights of a checkpoint for a new run."""

import pytest
import torch
from torch import nn

from rl_lightning.experience import EnvironmentSpec
from rl_lightning.modules import DQN
from rl_lightning.modules.learner import Learner
from rl_lightning.runtime.checkpoints import load_weights
from rl_lightning.runtime.errors import ConfigurationError
from specs import spec


class Small(Learner):
    """Two parts, a counter and an architecture."""

    architecture = ("environment", "size")
    counts = ("seen",)

    def __init__(self, environment: EnvironmentSpec, size: int, parts: tuple[str, ...]) -> None:
        super().__init__()
        self.save_hyperparameters()
        for part in parts:
            setattr(self, part, nn.Linear(size, size))
        self.register_buffer("seen", torch.zeros((), dtype=torch.float64))


def saved(module, path):
    torch.save({"state_dict": module.state_dict(), "hyper_parameters": dict(module.hparams)}, path)
    return path


def test_shared_parts_are_loaded_and_counters_are_new(tmp_path):
    source, module = Small(spec(), 3, ("policy", "other")), Small(spec(), 3, ("policy", "value"))
    source.seen += 7
    before = module.value.weight.clone()
    line = load_weights(saved(source, tmp_path / "a.ckpt"), module)
    assert torch.equal(module.policy.weight, source.policy.weight)
    assert torch.equal(module.policy.bias, source.policy.bias)
    assert torch.equal(module.value.weight, before)
    assert module.seen == 0
    assert "weights of policy from" in line
    assert line.endswith("it has no value")


@pytest.mark.parametrize(
    ("source", "says"),
    [
        (Small(spec(), 4, ("policy",)), "size is 4 in the checkpoint and 3"),
        (Small(spec(num_actions=9), 3, ("policy",)), r"environment\.action_high is None"),
        (Small(spec(), 3, ("other",)), "has the weights of other, and Small has policy, value"),
    ],
)
def test_another_network_is_refused(source, says, tmp_path):
    module = Small(spec(), 3, ("policy", "value"))
    before = {name: value.clone() for name, value in module.state_dict().items()}
    with pytest.raises(ConfigurationError, match=says) as error:
        load_weights(saved(source, tmp_path / "a.ckpt"), module)
    assert "\n" not in str(error.value)
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


def test_another_shape_of_a_shared_part_is_refused(tmp_path):
    module = Small(spec(), 3, ("policy",))
    source = Small(spec(), 3, ("policy",))
    source.policy = nn.Linear(3, 5)
    with pytest.raises(ConfigurationError, match=r"the shape of policy\.bias is \(5,\)"):
        load_weights(saved(source, tmp_path / "a.ckpt"), module)


def test_another_id_of_the_environment_is_accepted(tmp_path):
    source, module = (DQN(spec(name, num_actions=2)) for name in ("one", "other"))
    load_weights(saved(source, tmp_path / "a.ckpt"), module)
    for one, other in zip(source.parameters(), module.parameters(), strict=True):
        assert torch.equal(one, other)
