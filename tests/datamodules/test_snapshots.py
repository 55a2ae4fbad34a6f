import importlib.util
import io

import gymnasium as gym
import numpy as np
import pytest
import torch

from rl_lightning.datamodules.collector import Collector
from rl_lightning.datamodules.snapshots import UnreadableStateError, read_state, write_state


def plain(state):
    """What a checkpoint makes of it."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


@pytest.mark.parametrize(
    ("env_id", "vectorization_mode"),
    [
        ("CartPole-v1", "vector_entry_point"),
        ("CartPole-v1", "sync"),
        ("Acrobot-v1", "sync"),
        ("FrozenLake-v1", "sync"),
        ("Blackjack-v1", "sync"),
        ("test/Signal-v0", "sync"),
        ("Ant-v5", "sync"),
    ],
)
def test_games_go_on_from_a_snapshot(env_id, vectorization_mode):
    if env_id == "Ant-v5" and importlib.util.find_spec("mujoco") is None:
        pytest.skip("MuJoCo is not installed")
    envs, others = (
        gym.make_vec(env_id, num_envs=3, vectorization_mode=vectorization_mode) for _ in range(2)
    )
    envs.action_space.seed(0)
    actions = [envs.action_space.sample() for _ in range(80)]
    envs.reset(seed=1)
    for action in actions[:40]:
        envs.step(action)
    state = plain(read_state(envs))
    others.reset(seed=2)
    write_state(others, state)
    for action in actions[40:]:
        for one, other in zip(envs.step(action)[:4], others.step(action)[:4], strict=True):
            np.testing.assert_array_equal(one, other)


class Native:
    """Keeps its state where Python does not see it."""

    __slots__ = ("steps",)


class Emulated(gym.Env):
    observation_space = gym.spaces.Box(0, 1, (1,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def __init__(self):
        self.emulator = Native()

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(1, np.float32), {}

    def step(self, action):
        return np.zeros(1, np.float32), 0.0, False, False, {}


def test_what_cannot_be_read_is_named_and_no_games_are_kept():
    envs = gym.vector.SyncVectorEnv([Emulated])
    with pytest.raises(UnreadableStateError, match=r"emulator is a .*Native"):
        read_state(envs)
    collector = Collector(envs, gamma=0.9)
    collector.reset(0)
    assert not collector.resumable
    assert "envs" not in collector.state_dict()


def test_shared_parts_stay_shared():
    class Shared:
        pass

    def make():
        whole = Shared()
        whole.rng = np.random.default_rng(0)
        whole.same = whole.rng
        whole.array = np.zeros(3)
        whole.view = whole.array[1:]
        return whole

    one, other = make(), make()
    one.rng.random(5)
    one.array += 7
    write_state(other, plain(read_state(one)))
    assert other.same is other.rng
    assert other.rng.random() == one.rng.random()
    assert (other.array == 7).all()
