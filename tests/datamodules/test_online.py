"""The exploration stream of each update, and the statistics of collected episodes."""

from types import SimpleNamespace

import pytest
import torch
from lightning import LightningModule

from rl_lightning.datamodules import ReplayDataModule, RolloutDataModule


class Drawing(LightningModule):
    """Records the random numbers that it draws for exploration."""

    def __init__(self):
        super().__init__()
        self.draws = []
        self.env_steps = []

    def act(self, observations, exploration=None):
        self.draws.append(torch.rand(len(observations), generator=exploration.generator).tolist())
        self.env_steps.append(exploration.env_steps)
        return torch.zeros(len(observations), dtype=torch.int64)


def rollouts(**settings):
    return RolloutDataModule(
        "test/Counting-v0",
        **{"num_envs": 2, "rollout_length": 3, "updates_per_epoch": 4, **settings},
    )


def whole_episodes(**settings):
    return rollouts(**{"rollout_length": None, "episodes_per_update": 2, **settings})


def replay(**settings):
    return ReplayDataModule(
        "test/Counting-v0",
        **{
            **{"num_envs": 2, "env_steps_per_update": 6, "warmup_env_steps": 12, "batch_size": 2},
            **{"updates_per_epoch": 4, **settings},
        },
    )


def played(data, rank=0, world_size=1, epochs=1, start=0):
    """Collect batches for a number of epochs and return the policy."""
    policy = Drawing()
    data.trainer = SimpleNamespace(global_rank=rank, world_size=world_size, lightning_module=policy)
    data.setup("fit")
    data.updates = start
    for _ in range(epochs):
        for _ in data.train_dataloader():
            pass
    return policy


def flat(draws):
    return [number for step in draws for number in step]


@pytest.mark.parametrize("make", [rollouts, whole_episodes, replay])
def test_updates_ranks_and_environment_copies_explore_with_different_numbers(make):
    ranks = [flat(played(make(), rank, 2, epochs=2).draws) for rank in range(2)]
    assert len(ranks[0]) >= 2 * 8 * 3
    assert len({*ranks[0], *ranks[1]}) == len(ranks[0]) + len(ranks[1])
    assert flat(played(make(), 0, 2, epochs=2).draws) == ranks[0]
    assert not {*flat(played(make(seed=1), 0, 2).draws)} & {*ranks[0]}


@pytest.mark.parametrize("make", [rollouts, replay])
def test_exploration_is_a_function_of_the_update(make):
    through = played(make(), epochs=4).draws
    assert played(make(updates_per_epoch=8), epochs=2).draws == through
    resumed = played(make(), start=8, epochs=2).draws
    assert resumed[-24:] == through[-24:], "update 8 depends on earlier steps"


def test_schedules_count_the_steps_of_all_ranks():
    # Episodes have three steps, so every fourth row is a reset and not an environment step.
    assert played(rollouts(), 0, 1).env_steps == [0, 2, 4, 6, 6, 8, 10, 12, 12, 14, 16, 18]
    assert played(rollouts(), 1, 3).env_steps[:5] == [0, 6, 12, 18, 18]


def test_statistics_are_of_whole_raw_episodes():
    data = rollouts(env_kwargs={"lengths": (2, 5)}, clip_rewards=True, rollout_length=1)
    policy = played(data)
    # Four rows: the first episode, the row of a reset, and one step of the second.
    assert len(policy.draws) == 4
    assert data.statistics() == {"env_steps": 6, "train/return": 2, "train/length": 2}
    for _ in data.train_dataloader():
        pass
    assert data.statistics() == {"env_steps": 14, "train/return": 3.5, "train/length": 3.5}


def test_returns_are_sums_of_raw_rewards(monkeypatch):
    data = rollouts(clip_rewards=True)
    data.trainer = SimpleNamespace(global_rank=0, world_size=1, lightning_module=Drawing())
    data.setup("fit")
    inner = data.collector.envs.step
    monkeypatch.setattr(
        data.collector.envs,
        "step",
        lambda actions: (lambda o, r, *rest: (o, 7 * r, *rest))(*inner(actions)),
    )
    assert data.next_batch().rewards.unique().tolist() == [1]
    assert data.statistics() == {"env_steps": 6, "train/return": 21, "train/length": 3}


def test_before_the_first_episode_ends_there_is_no_return():
    data = rollouts(rollout_length=1, updates_per_epoch=2)
    played(data)
    assert data.statistics() == {"env_steps": 4}


def test_statistics_sum_over_ranks_before_they_divide(monkeypatch):
    data = replay()
    played(data, 0, 2)
    own = data.statistics()
    episodes = len(data.collector.finished)
    others = torch.tensor([10, 1, 100, 50], dtype=torch.float64)
    monkeypatch.setattr(
        "rl_lightning.datamodules.online.sum_over_ranks", lambda sums: sums + others
    )
    assert data.statistics() == {
        "env_steps": own["env_steps"] + 10,
        "train/return": pytest.approx((3 * episodes + 100) / (episodes + 1)),
        "train/length": pytest.approx((3 * episodes + 50) / (episodes + 1)),
        "replay/size": len(data.ring) * 2,
    }
