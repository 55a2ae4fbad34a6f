import sys

import gymnasium as gym
import numpy as np
import pytest
import torch

from rl_lightning.datamodules import ReplayDataModule, RolloutDataModule
from rl_lightning.environments.envpool import make_pooled
from rl_lightning.environments.making import EnvironmentMaker, longest_episode
from rl_lightning.environments.state import read_state
from rl_lightning.interaction.collector import Collector
from rl_lightning.runtime.errors import ConfigurationError

pytest.importorskip("envpool")


def pooled(env_id, num_envs=4, **options):
    maker = EnvironmentMaker(env_id, **options)
    return make_pooled(maker, maker.describe(), num_envs)


def make_threads(num_threads):
    maker = EnvironmentMaker("CartPole-v1")
    return make_pooled(maker, maker.describe(), 2, num_threads)


class RandomPolicy:
    """Draws actions with the exploration stream."""

    device = torch.device("cpu")

    def act(self, observations, exploration=None):
        return torch.randint(2, (len(observations),), generator=exploration.generator)


def collected(seed, steps=40):
    collector = Collector(pooled("CartPole-v1"), gamma=0.9)
    collector.reset(seed)
    return collector, collector.collect(RandomPolicy(), steps)


def test_episodes_are_a_function_of_the_seed():
    first, again, other = (collected(seed)[1] for seed in (1, 1, 2))
    assert all(torch.equal(a, b) for a, b in zip(first[:6], again[:6], strict=True))
    assert not torch.equal(first.observations[0], other.observations[0])
    assert len(first.observations[0].unique(dim=0)) == 4, "environment copies are equal"


def test_the_row_after_an_end_is_a_reset():
    collector, rollout = collected(3)
    ended, begun = rollout.ends[:-1], rollout.observations[2:]
    assert ended.any()
    assert not rollout.mask[1:][ended].any()
    assert rollout.mask[1:][~ended].all()
    assert not rollout.rewards[1:][ended].any()
    assert (begun[ended].abs() < 0.05).all(), "CartPole begins near 0"
    final = rollout.observations[1:-1][ended]
    assert ((final[:, 0].abs() > 2.4) | (final[:, 2].abs() > 0.2095)).all()
    assert collector.env_steps == rollout.mask.sum()
    lengths = [length for _, length in collector.finished]
    assert lengths == [return_ for return_, _ in collector.finished]


def test_spaces_are_those_of_all_copies():
    envs, expected = pooled("Pendulum-v1", 3), gym.make_vec("Pendulum-v1", 3)
    assert envs.observation_space.shape == expected.observation_space.shape == (3, 3)
    assert envs.action_space.shape == expected.action_space.shape == (3, 1)
    envs.reset(seed=1)
    assert envs.step(envs.action_space.sample())[1].shape == (3,)


def test_a_time_limit_is_a_truncation():
    envs = pooled("CartPole-v1", env_kwargs={"max_episode_steps": 3})
    envs.reset(seed=0)
    steps = [envs.step(np.zeros(4, np.int64)) for _ in range(3)]
    assert [step[3].all() for step in steps] == [False, False, True]
    assert not steps[-1][2].any()
    assert longest_episode(envs) == 3
    assert gym.spec("CartPole-v1").max_episode_steps == 500


def test_a_lost_life_is_marked_under_nature_only():
    for protocol in ("nature", "sticky"):
        envs = pooled("ALE/Breakout-v5", 2, env_kwargs={"protocol": protocol})
        _, infos = envs.reset(seed=1)
        lives, lost, ends = infos["lives"], 0, 0
        for t in range(400):
            *_, terminated, _, infos = envs.step(np.full(2, 1 if t % 20 == 0 else 0))
            if protocol == "nature":
                expected = (infos["lives"] < lives) & ~terminated
                assert np.array_equal(infos["life_lost"], expected)
                lost += expected.sum()
            ends += terminated.sum()
            lives = infos["lives"]
        assert ("life_lost" in infos) == (protocol == "nature")
        assert (lost > 0) == (protocol == "nature")
        assert ends > 0, "the test needs the loss of a last life"


def test_arguments_have_the_same_names_as_in_gymnasium():
    envs = pooled(
        "ALE/Pong-v5",
        1,
        env_kwargs={"frameskip": 2, "max_num_frames_per_episode": 40, "stack_num": 2},
    )
    assert envs.single_observation_space.shape == (2, 84, 84)
    envs.reset(seed=0)
    steps = [envs.step(np.zeros(1, np.int64))[3].all() for _ in range(20)]
    assert steps.index(True) == 19
    assert pooled("Hopper-v5", env_kwargs={"camera_name": "track"}).num_envs == 4


def test_other_spaces_than_gymnasiums_are_refused():
    maker = EnvironmentMaker("Pendulum-v1")
    for key, value in (("observation_shape", (4,)), ("action_high", [1.0])):
        with pytest.raises(ConfigurationError, match=f"EnvPool's Pendulum-v1 has {key}"):
            make_pooled(maker, maker.describe() | {key: value}, 1)


def test_it_has_no_state():
    assert read_state(pooled("CartPole-v1")) is None


def test_a_resume_says_that_episodes_begin_anew(monkeypatch):
    data = RolloutDataModule("CartPole-v1", rollout_length=2, engine="envpool", eval_episodes=2,
                             num_eval_envs=2, num_envs=2)  # fmt: skip
    said = []
    monkeypatch.setattr("rl_lightning.datamodules.online.rank_zero_info", said.append)
    data.setup("fit")
    data._start_episodes()
    assert not said, "the first episodes are no resume"
    data.collector.env_steps = 10  # as in a checkpoint
    data._start_episodes()
    data.teardown("fit")
    assert len(said) == 1
    assert "New episodes of CartPole-v1 start here" in said[0]
    assert "EnvPool cannot save it" in said[0]


def test_evaluation_is_in_gymnasium():
    data = RolloutDataModule("CartPole-v1", rollout_length=2, engine="envpool", eval_episodes=2,
                             num_eval_envs=2, num_threads=2)  # fmt: skip
    assert "envpool" not in type(data.maker.make(2)).__module__
    data.setup("fit")
    assert "envpool" in type(data.collector.envs).__module__
    assert data.collector.envs._pool.config["num_threads"] == 2
    data.teardown("fit")


def test_there_are_no_more_threads_than_environment_copies():
    assert make_threads(64)._pool.config["num_threads"] == 2
    assert make_threads(None)._pool.config["num_threads"] == min(2, torch.get_num_threads())


def test_each_mistake_is_one_line(monkeypatch):
    with pytest.raises(ConfigurationError, match="engine is gymnasium, which has no threads"):
        RolloutDataModule("CartPole-v1", rollout_length=2, num_threads=2)
    with pytest.raises(ConfigurationError, match="num_threads is 0"):
        RolloutDataModule("CartPole-v1", rollout_length=2, engine="envpool", num_threads=0)
    monkeypatch.setitem(sys.modules, "envpool", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'rl_lightning\[envpool\]'"):
        ReplayDataModule("CartPole-v1", engine="envpool")


def test_no_warnings_and_no_output(capfd, recwarn):
    pooled("Ant-v5")
    pooled("CartPole-v1")
    assert capfd.readouterr() == ("", "")
    assert not [each for each in recwarn if "precision" in str(each.message)]
