import numpy as np
import pytest
import torch

from rl_lightning.environments.making import EnvironmentMaker
from rl_lightning.experience import Decision
from rl_lightning.interaction.collector import Collector
from rl_lightning.interaction.evaluation import evaluate, play_episodes, record_episode
from rl_lightning.replay.ring import ReplayRing


class Always:
    """A policy that always takes one action."""

    device = torch.device("cpu")

    def __init__(self, action):
        self.action = torch.as_tensor(action)

    def act(self, observations, exploration=None):
        return self.action.expand(len(observations), *self.action.shape)


def counting(num_envs=2, **kwargs):
    collector = Collector(EnvironmentMaker("test/Counting-v0", kwargs).make(num_envs), gamma=0.9)
    collector.reset(0)
    return collector


def test_what_the_policy_returned_with_each_action_stands_in_its_row():
    class Seeing(Always):
        def act(self, observations, exploration=None):
            return Decision(super().act(observations), {"seen": 2 * observations})

    rollout = counting(lengths=(3,)).collect(Seeing(0), 9)
    assert torch.equal(rollout.extras["seen"], 2 * rollout.observations[:-1])
    assert not rollout.extras["seen"].is_inference()  # so that it can stand in a loss


@pytest.mark.parametrize("truncates", [False, True])
def test_reset_rows_are_masked_and_final_observations_true(truncates):
    rollout = counting(lengths=(3,), truncates=truncates).collect(Always(0), 9)
    episode, t = rollout.observations[:, 0].T.tolist()
    assert (episode, t) == ([0, 0, 0, 0, 1, 1, 1, 1, 2, 2], [0, 1, 2, 3, 0, 1, 2, 3, 0, 1])
    assert rollout.mask[:, 0].tolist() == [True, True, True, False] * 2 + [True]
    assert rollout.ends[:, 0].tolist() == [False, False, True, False] * 2 + [False]
    assert rollout.rewards[:, 0].tolist() == [1, 1, 1, 0] * 2 + [1]
    last = 0.9 if truncates else 0.0
    assert rollout.discounts[2, 0].item() == pytest.approx(last)
    assert rollout.discounts[[0, 1, 4, 5]].flatten().tolist() == pytest.approx([0.9] * 8)


def test_environment_steps_leave_out_rows_of_resets():
    collector = counting(lengths=(3,))
    collector.collect(Always(0), 8)
    assert collector.env_steps == 2 * 6
    assert list(collector.finished) == [(3.0, 3)] * 4


def test_no_sampled_transition_crosses_a_reset():
    collector, ring = counting(num_envs=3, lengths=(1, 4, 2)), ReplayRing(60, 3)
    for _ in range(30):
        ring.extend(collector.collect(Always(0), 2))
        batch = ring.sample(64, np.random.default_rng(0))
        episode, t = batch.observations.T
        next_episode, next_t = batch.next_observations.T
        assert torch.equal(episode, next_episode)
        assert torch.equal(t + 1, next_t)
        assert (batch.rewards == 1).all()


def test_episodes_go_on_between_rollouts():
    collector = counting(num_envs=1, lengths=(7,))
    for _ in range(10):
        collector.collect(Always(0), 2)
    assert list(collector.finished) == [(7.0, 7)] * 2


def test_continuous_actions_are_clipped_for_the_environment_only():
    collector = Collector(EnvironmentMaker("Pendulum-v1").make(2), gamma=0.9)
    collector.reset(0)
    seen = []
    inner = collector.envs.step
    collector.envs.step = lambda actions: seen.append(actions) or inner(actions)
    rollout = collector.collect(Always([5.0]), 1)
    assert rollout.actions.tolist() == [[[5.0], [5.0]]]
    assert seen[0].tolist() == [[2.0], [2.0]]


def test_first_rollouts_differ_across_seeds_and_repeat():
    def first(seed):
        collector = Collector(EnvironmentMaker("CartPole-v1").make(4), gamma=0.9)
        collector.reset(seed)
        return collector.collect(Always(0), 5).observations

    assert torch.equal(first(1), first(1))
    assert not torch.equal(first(1), first(2))


def test_evaluation_plays_one_whole_episode_of_every_copy():
    # If the first four episodes to finish were taken, the long ones would be missing.
    envs = EnvironmentMaker("test/Counting-v0", {"lengths": (2, 50)}).make(4)
    assert play_episodes(envs, Always(0), 0).lengths.tolist() == [2, 2, 2, 2]
    waves = list(evaluate(envs, Always(0), [1, 2, 3]))
    assert [wave.lengths.tolist() for wave in waves] == [[50] * 4, [2] * 4, [50] * 4]
    assert waves[0].returns.tolist() == [50.0] * 4


def test_evaluation_of_unequal_episodes_counts_each_once():
    class Half(Always):
        """The second half of the environment copies balances a little longer."""

        def act(self, observations, exploration=None):
            actions = (observations[:, 2] > 0).long()
            actions[: len(actions) // 2] = 0
            return actions

    episodes = play_episodes(EnvironmentMaker("CartPole-v1").make(6), Half(0), 0)
    assert episodes.lengths[:3].max() < 15 < episodes.lengths[3:].min()
    assert torch.equal(episodes.returns, episodes.lengths.double())


def test_a_recorded_episode_is_whole_and_has_a_frame_of_every_observation():
    envs = EnvironmentMaker("CartPole-v1", {"render_mode": "rgb_array"}).make(1)
    episode = record_episode(envs, Always(0), 0.9, 3)
    steps = len(episode.rollout.rewards)
    assert episode.rollout.ends.flatten().tolist() == [False] * (steps - 1) + [True]
    assert episode.rollout.observations.shape == (steps + 1, 1, 4)
    assert episode.frames.shape == (steps + 1, 400, 600, 3)
