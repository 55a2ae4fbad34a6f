import ale_py
import gymnasium as gym
import numpy as np
import pytest
import torch
from torch.nn import functional

from rl_lightning.environments.atari import AtariGames
from rl_lightning.environments.making import EnvironmentMaker
from rl_lightning.interaction.collector import Collector
from rl_lightning.interaction.evaluation import play_episodes, record_episode
from rl_lightning.runtime.errors import ConfigurationError

gym.register_envs(ale_py)
GAMES = [name for name in gym.registry if name.startswith("ALE/")]
GAMMA, FIRE = 0.9, 1


class Always:
    """Always takes one action. In Breakout, FIRE soon loses all lives."""

    device = torch.device("cpu")

    def __init__(self, action):
        self.action = action

    def act(self, observations, exploration=None):
        return torch.full((len(observations),), self.action)


class Random:
    """Takes random actions, which are the same in every run."""

    device = torch.device("cpu")

    def __init__(self, num_actions):
        self.num_actions, self.rng = num_actions, torch.Generator().manual_seed(0)

    def act(self, observations, exploration=None):
        return torch.randint(self.num_actions, (len(observations),), generator=self.rng)


def collect(env_id, steps, policy, clip_rewards=False, **env_kwargs):
    collector = Collector(
        EnvironmentMaker(env_id, env_kwargs).make(2), GAMMA, clip_rewards=clip_rewards
    )
    collector.reset(7)
    return collector, collector.collect(policy, steps)


def test_a_lost_life_sets_the_discount_to_zero_and_does_not_end_the_episode():
    collector, rollout = collect("ALE/Breakout-v5", 200, Always(FIRE))
    is_end = rollout.discounts == 0
    assert (rollout.discounts[~is_end] == GAMMA).all()
    # Breakout has five lives. The episode continues after four of them and ends with the fifth.
    lost = is_end[:, 0].nonzero().flatten()
    assert rollout.ends[lost[:5], 0].tolist() == [False] * 4 + [True]
    assert rollout.mask[lost[:5] + 1, 0].tolist() == [True] * 4 + [False]
    assert collector.finished[0][1] in (lost[4] + 1, rollout.ends[:, 1].int().argmax() + 1)
    # A lost life does not clear the stack of frames, and a reset does.
    stacks = rollout.observations[:, 0]
    goes_on = (stacks[1:, :3] == stacks[:-1, 1:]).flatten(1).all(1)
    assert goes_on[rollout.mask[:, 0]].all()
    assert not stacks[1:][~rollout.mask[:, 0]][:, :3].any()


def test_a_return_is_of_raw_rewards_and_of_the_whole_episode():
    envs, policy = EnvironmentMaker("ALE/SpaceInvaders-v5").make(1), Random(6)
    episodes = play_episodes(envs, policy, 7)
    collector = Collector(envs, GAMMA, clip_rewards=True)
    collector.reset(7)
    policy.rng.manual_seed(0)
    lives_lost = 0
    while not collector.finished:
        lives_lost += (collector.collect(policy, 1).discounts == 0).item()
    assert lives_lost == 3
    assert collector.finished[0] == (episodes.returns.item(), episodes.lengths.item())


def test_rewards_are_clipped_in_rollouts_only():
    def play(clip_rewards):
        return collect(
            "ALE/SpaceInvaders-v5", 160, Random(6), clip_rewards, max_num_frames_per_episode=600
        )

    raw_collector, raw = play(False)
    collector, clipped = play(True)
    assert raw.rewards.max() >= 5
    assert torch.equal(raw.rewards.clamp(-1, 1), clipped.rewards)
    assert list(raw_collector.finished) == list(collector.finished)
    assert raw_collector.finished[0] == (raw.rewards[:150, 0].sum(), 150)


def test_under_the_sticky_protocol_a_lost_life_keeps_the_discount():
    _, rollout = collect("ALE/Breakout-v5", 200, Always(FIRE), protocol="sticky")
    assert torch.equal(rollout.discounts == 0, rollout.ends)
    assert rollout.ends.any()


@pytest.mark.parametrize(("protocol", "repeats"), [("nature", False), ("sticky", True)])
def test_actions_repeat_only_under_the_sticky_protocol(protocol, repeats):
    def play(seed):
        envs = EnvironmentMaker("ALE/Breakout-v5", {"protocol": protocol, "noop_max": 0}).make(1)
        envs.reset(seed=seed)
        return np.stack([envs.step(np.array([t // 3 % 4]))[0] for t in range(60)])

    assert np.array_equal(play(1), play(1))
    assert np.array_equal(play(1), play(2)) != repeats


def test_a_truncated_episode_bootstraps_from_its_true_last_stack():
    _, rollout = collect("ALE/Pong-v5", 70, Random(6), max_num_frames_per_episode=100)
    ends = rollout.ends[:, 0]
    assert ends.nonzero().flatten().tolist() == [24, 50]
    assert (rollout.discounts == GAMMA).all()
    assert torch.equal(rollout.mask[1:], ~rollout.ends[:-1])
    stacks = rollout.observations[:, 0]
    assert torch.equal(stacks[25, :3], stacks[24, 1:])
    assert not stacks[26, :3].any()


def test_copies_and_seeds_differ_and_repeat():
    envs = EnvironmentMaker("ALE/Pong-v5").make(4)

    def starts(seed):
        return envs.reset(seed=seed)[1]["episode_frame_number"].tolist()

    first = starts(1)
    assert len(set(first)) > 1
    assert starts(100) != first
    assert starts(1) == first


def test_an_id_with_a_package_makes_the_same_environment():
    envs = EnvironmentMaker("ale_py:ALE/Pong-v5").make(1)
    assert type(envs) is AtariGames, "Gymnasium's vector environment, which clips rewards, was used"


# All 104 games would take half a minute. benchmarks/atari_stream.py --games all plays them.
@pytest.mark.parametrize("env_id", GAMES[::9])
def test_games_start(env_id):
    envs = EnvironmentMaker(env_id).make(1)
    observations, _ = envs.reset(seed=0)
    assert observations.shape == (1, 4, 84, 84)
    assert observations.any()


def test_the_screen_shows_the_episode_that_is_played():
    envs = EnvironmentMaker("ALE/Breakout-v5", {"protocol": "sticky"}).make_rendered()
    episode = record_episode(envs, Random(4), GAMMA, 3)
    assert episode.frames.shape == (len(episode.rollout.rewards) + 1, 210, 160, 3)
    assert episode.frames_per_second == 15
    assert (episode.frames.float().std(-1) > 0).any()
    gray = episode.frames.float() @ torch.tensor([0.299, 0.587, 0.114])
    seen = functional.interpolate(gray[:, None], (84, 84), mode="area")[:, 0]
    error = (seen - episode.rollout.observations[:, 0, -1]).abs()
    # In another episode, bat, ball and bricks would differ, which is over 2% of the screen.
    assert (error > 20).float().flatten(1).mean(1).max() < 0.005


@pytest.mark.parametrize(
    ("env_id", "env_kwargs", "said"),
    [
        ("ALE/Brakeout-v5", {}, "such as ALE/Breakout-v5"),
        ("ALE/Pong", {}, "such as ALE/Pong-v5"),
        ("ALE/Pong-v5", {"protocol": "sticki"}, "choose one of ['nature', 'sticky']"),
        ("ale_py:ALE/Brakeout-v5", {}, "such as ALE/Breakout-v5"),
        ("ALE/Pong-v5", {"reward_clipping": True}, "use data.clip_rewards to clip"),
        ("ALE/Pong-v5", {"episodic_life": True}, "episodic_life cannot be chosen in env_kwargs"),
        ("ALE/Pong-v5", {"life_loss_info": True}, "life_loss_info cannot be chosen in env_kwargs"),
        ("ALE/Pong-v5", {"batch_size": 1}, "batch_size cannot be chosen in env_kwargs"),
        ("ALE/Pong-v5", {"frames": 3}, "unexpected keyword argument 'frames'"),
        ("ALE/Pong-v5", {"autoreset_mode": "SameStep"}, "only"),
    ],
)
def test_invalid_settings_are_refused_in_one_line(env_id, env_kwargs, said):
    with pytest.raises(ConfigurationError) as error:
        EnvironmentMaker(env_id, env_kwargs).describe()
    assert said in str(error.value)
    assert "\n" not in str(error.value)
