"""Training sees what evaluation sees: EnvPool compared with Gymnasium, in every family."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from rl_lightning.datamodules import ReplayDataModule
from rl_lightning.environments.envpool import make_pooled
from rl_lightning.environments.making import EnvironmentMaker, longest_episode
from rl_lightning.environments.stepping import reset, step, to_environment
from rl_lightning.interaction.collector import Collector
from rl_lightning.runtime.errors import ConfigurationError

pytest.importorskip("envpool")
ENGINES = ("gymnasium", "envpool")
IMAGES = ("minigrid.wrappers.ImgObsWrapper",)
# One environment of each family: id, keyword arguments with which episodes are short, wrappers.
FAMILIES = {
    "atari": ("ALE/Breakout-v5", {"max_num_frames_per_episode": 50}, ()),
    "colour of one frame": ("ALE/Pong-v5", {"stack_num": 1, "max_num_frames_per_episode": 50}, ()),
    "classic control": ("CartPole-v1", {}, ()),
    "continuous control": ("Pendulum-v1", {"max_episode_steps": 7}, ()),
    "toy text": ("FrozenLake-v1", {}, ()),
    "mujoco": ("Hopper-v5", {"max_episode_steps": 9}, ()),
    "box2d": ("LunarLander-v3", {"max_episode_steps": 8}, ()),
    "minigrid": ("minigrid:MiniGrid-Empty-5x5-v0", {"max_steps": 6}, IMAGES),
    "limited minigrid": ("minigrid:MiniGrid-Empty-5x5-v0", {"max_episode_steps": 6}, IMAGES),
}
STILL_DISCRETE = np.zeros(3, np.int64)


@pytest.fixture(params=FAMILIES)
def family(request):
    env_id, env_kwargs, wrappers = FAMILIES[request.param]
    package = env_id.rpartition(":")[0]
    if package:
        pytest.importorskip(package)
    return EnvironmentMaker(env_id, env_kwargs, wrappers)


def both(maker, num_envs=3):
    return maker.make(num_envs), make_pooled(maker, maker.describe(), num_envs)


class Recorder:
    """Acts at random and keeps every observation that it sees."""

    device = torch.device("cpu")

    def __init__(self, space):
        self.space, self.seen = space, []
        space.seed(0)

    def act(self, observations, exploration=None):
        self.seen.append(observations.clone())
        start = getattr(self.space, "start", 0)
        actions = [self.space.sample() - start for _ in observations]
        return torch.from_numpy(np.stack(actions))


@pytest.mark.parametrize("engine", ENGINES)
def test_what_acted_is_what_the_replay_gives_back(family, engine):
    data = ReplayDataModule(
        family.env_id, env_kwargs=family.env_kwargs, wrappers=family.wrappers, engine=engine,
        num_envs=3, env_steps_per_update=3, capacity=300, batch_size=4, warmup_env_steps=9,
        eval_episodes=1, num_eval_envs=1,
    )  # fmt: skip
    policy = Recorder(family.make(1).single_action_space)
    data.trainer = SimpleNamespace(global_rank=0, world_size=1, lightning_module=policy)
    data.setup("fit")
    for _ in range(60):
        data.next_batch()
        data.updates += 1
    acted, ring = torch.stack(policy.seen), data.ring
    assert ring.inserted == len(acted)
    assert acted.dtype == getattr(torch, data.environment["observation_dtype"])
    rows, copies = (each.ravel() for each in np.mgrid[: len(acted), :3])
    assert torch.equal(ring.observations(rows, copies), acted.flatten(0, 1))
    is_end = ~ring.are_transitions(ring.slots(rows, copies))
    assert 3 < is_end.sum() < 150, "the test needs resets"
    data.teardown("fit")


def test_spaces_dtypes_and_time_limits_are_gymnasiums(family):
    expected, envs = both(family)
    assert envs.single_observation_space == expected.single_observation_space
    assert envs.observation_space.shape == expected.observation_space.shape
    assert longest_episode(envs) == longest_episode(expected)
    here, there = reset(expected, 1), reset(envs, 1)
    assert (here.dtype, here.shape) == (there.dtype, there.shape)
    Recorder(space := envs.single_action_space)
    actions = np.stack([space.sample() - getattr(space, "start", 0) for _ in range(3)])
    for engine in (expected, envs):
        after = step(engine, actions)
        assert after.observations.dtype == here.dtype
        assert after.terminated.dtype == after.truncated.dtype == np.bool_


def stream(envs, actions):
    observations = [reset(envs, 3)]
    rows = [step(envs, np.full(envs.num_envs, action)) for action in actions]
    observations += [row.observations for row in rows]
    flags = [(r.rewards, r.terminated, r.truncated, r.infos["life_lost"]) for r in rows]
    return np.stack(observations), *(np.stack(each) for each in zip(*flags, strict=True))


def streams(**env_kwargs):
    """Breakout in both engines. Without sticky actions and no-ops only the actions decide."""
    maker = EnvironmentMaker(
        "ALE/Breakout-v5", {"noop_max": 0, "use_fire_reset": True, **env_kwargs}
    )
    actions = np.random.default_rng(0).integers(4, size=330)
    return (stream(envs, actions) for envs in both(maker, 2))


@pytest.mark.parametrize("env_kwargs", [{}, {"frameskip": 3, "stack_num": 5}])
def test_atari_games_are_equal_bit_for_bit(env_kwargs):
    here, there = streams(**env_kwargs)
    for one, other in zip(here, there, strict=True):
        assert np.array_equal(one, other)
    _, rewards, terminated, _, lost = here
    assert rewards.any()
    assert terminated.any()
    assert lost.any()


def test_atari_games_are_truncated_at_the_same_steps():
    here, there = streams(max_num_frames_per_episode=239)
    assert here[3].any()
    for one, other in zip(here[1:], there[1:], strict=True):
        assert np.array_equal(one, other)


def test_atari_settings_are_equal():
    for protocol in ("nature", "sticky"):
        maker = EnvironmentMaker("ALE/Seaquest-v5", {"protocol": protocol})
        config = make_pooled(maker, maker.describe(), 1)._pool.config
        assert config["repeat_action_probability"] == (0.25 if protocol == "sticky" else 0)
        assert config["noop_max"] == (29 if protocol == "nature" else 1)
        assert not config["episodic_life"]
        assert not config["reward_clip"]
        assert config["frame_skip"] == 4
        assert config["max_episode_steps"] == 27_001


def test_no_ops_at_the_start_of_an_episode():
    maker = EnvironmentMaker("ALE/Pong-v5")
    counts = maker.make(64).reset(seed=0)[1]["episode_frame_number"]
    assert (counts.min(), counts.max()) == (0, 29)


# For each environment, how to write an observation of EnvPool into Gymnasium's.
STATES = {
    "CartPole-v1": lambda o: o,
    "MountainCar-v0": lambda o: o,
    "MountainCarContinuous-v0": lambda o: o,
    "Pendulum-v1": lambda o: [np.arctan2(o[1], o[0]), o[2]],
    "Acrobot-v1": lambda o: [np.arctan2(o[1], o[0]), np.arctan2(o[3], o[2]), o[4], o[5]],
}


@pytest.mark.parametrize("env_id", STATES)
def test_classic_control_has_the_same_dynamics_and_rewards(env_id):
    maker = EnvironmentMaker(env_id)
    envs, one = make_pooled(maker, maker.describe(), 1), maker.make_single()
    one.reset(seed=0)
    before, done, rng = reset(envs, 2), False, np.random.default_rng(1)
    for _ in range(150):
        action = np.asarray(envs.single_action_space.sample())[None]
        if env_id.startswith("MountainCar"):  # swings up, so that it reaches the goal
            action = np.full_like(action, np.sign(before[0, 1]) + (action.dtype.kind == "i"))
        after = step(envs, action)
        if not done and rng.random() < 0.5:
            one.unwrapped.state = np.array(STATES[env_id](before[0].astype(np.float64)))
            one.unwrapped.steps_beyond_terminated = None
            one.unwrapped._elapsed_steps = 0
            taken = to_environment(one.action_space, action)[0]
            observation, reward, terminated, *_ = one.unwrapped.step(taken)
            np.testing.assert_allclose(after.observations[0], observation, atol=2e-5)
            np.testing.assert_allclose(after.rewards[0], reward, atol=1e-4)
            assert after.terminated[0] == terminated
        before, done = after.observations, bool(after.terminated[0] | after.truncated[0])


@pytest.mark.parametrize("engine", ENGINES)
def test_an_episode_that_terminates_at_its_time_limit_is_terminated(engine):
    def play(limit):
        maker = EnvironmentMaker("CartPole-v1", {"max_episode_steps": limit})
        envs = both(maker)[ENGINES.index(engine)]
        reset(envs, 5)
        return [step(envs, np.ones(3, np.int64)) for _ in range(limit + 2)]

    falls = np.stack([row.terminated for row in play(100)]).argmax(0)
    assert len({*falls.tolist()}) > 1, "the test needs copies that fall and copies that do not"
    limit = int(falls.min()) + 1
    rows = play(limit)
    assert np.array_equal(rows[limit - 1].terminated, falls + 1 == limit)
    assert rows[limit - 1].truncated.all()
    assert not rows[limit].rewards.any()
    assert not (rows[limit].terminated | rows[limit].truncated).any()
    assert (np.abs(rows[limit].observations) < 0.05).all(), "CartPole begins near 0"


@pytest.mark.parametrize("engine", ENGINES)
def test_time_limits_cut_some_copies_while_others_go_on(engine):
    maker = EnvironmentMaker("CartPole-v1", {"max_episode_steps": 12})
    collector = Collector(both(maker)[ENGINES.index(engine)], gamma=0.9)
    collector.reset(1)
    rollout = collector.collect(Recorder(maker.make(1).single_action_space), 400)
    ends, terminals = rollout.ends, rollout.discounts == 0
    lengths = [length for _, length in collector.finished]
    assert max(lengths) == 12
    assert min(lengths) < 12
    assert lengths == [return_ for return_, _ in collector.finished]
    assert torch.equal(rollout.mask[1:], ~ends[:-1])
    assert terminals.any()
    assert (ends & ~terminals).any()
    begun = rollout.observations[2:][ends[:-1]]
    assert (begun.abs() < 0.05).all(), "CartPole begins near 0"
    assert len(begun.unique(dim=0)) == len(begun), "episodes begin alike"
    final = rollout.observations[1:-1][ends[:-1]]
    fell = (final[:, 0].abs() > 2.4) | (final[:, 2].abs() > np.deg2rad(12))
    assert torch.equal(fell, terminals[:-1][ends[:-1]])


def test_threads_are_an_option_of_the_datamodule_only():
    maker = EnvironmentMaker("ALE/Pong-v5", {"num_threads": 1})
    with pytest.raises(ConfigurationError, match=r"env_kwargs\.num_threads is 1, .* data\.num_thr"):
        make_pooled(maker, maker.describe(), 1)


def test_wrappers_use_gymnasiums_bounds():
    pytest.importorskip("Box2D")
    data = {"wrappers": ("gymnasium.wrappers.FlattenObservation",)}
    expected, envs = both(EnvironmentMaker("LunarLander-v3", **data))
    assert np.array_equal(envs.single_observation_space.low, expected.single_observation_space.low)
