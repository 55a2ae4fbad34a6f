"""Self-play: the pool of opponents, the batches and their random streams."""

import pytest
import torch
from lightning import Trainer

from rl_lightning.datamodules.alphago.self_play import SelfPlayDataModule
from rl_lightning.modules import SelfPlayPolicy, SupervisedPolicy
from rl_lightning.runtime.errors import ConfigurationError


class _Attached(SelfPlayDataModule):
    """Has a module without a Trainer, and counts as one of several ranks."""

    rank, world_size = 0, 1
    module = None


def make(seed=0, rank=0, **options):
    torch.manual_seed(3)
    data = _Attached("tic_tac_toe", games_per_update=6, seed=seed, **options)
    data.rank = rank
    data.module = SelfPlayPolicy(data.environment, 2, 4)
    return data


def following(data, number):
    """The next batches of a training that changes the policy."""
    batches = []
    for batch in data.train_dataloader():
        batches.append(batch)
        for parameter in data.module.policy.parameters():
            parameter.data += 0.01
        if len(batches) == number:
            return batches


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_a_batch_holds_the_moves_of_the_policy_in_whole_games():
    data = make()
    (batch,) = following(data, 1)
    assert len(batch.lengths) == len(batch.outcomes) == 6
    assert batch.lengths.sum() == len(batch.actions) == len(batch.observations)
    assert batch.playable.gather(1, batch.actions[:, None]).all()
    assert {*batch.outcomes.tolist()} <= {-1.0, 0.0, 1.0}
    # Game 0 is begun by the policy and game 1 by its opponent.
    firsts = torch.cat([torch.zeros(1), batch.lengths.cumsum(0)[:-1]]).long()
    stones = 9 - batch.playable[firsts].sum(1)
    assert stones.tolist() == [0, 1, 0, 1, 0, 1]
    assert batch.observations[firsts[0], 3].all(), "the first player is to move"
    assert not batch.observations[firsts[1], 3].any()
    assert data.env_steps == len(batch.actions)


LINES = torch.tensor(
    [[0, 1, 2], [3, 4, 5], [6, 7, 8], [0, 3, 6], [1, 4, 7], [2, 5, 8], [0, 4, 8], [2, 4, 6]]
)


def test_outcomes_are_those_of_the_policy():
    """The policy wins with its last move or not at all."""
    seen = set()
    for batch in following(make(), 6):
        lasts = batch.lengths.cumsum(0) - 1
        for last, outcome in zip(lasts.tolist(), batch.outcomes.tolist(), strict=True):
            planes = batch.observations[last].flatten(1)
            own = planes[2 if planes[3].all() else 1].clone()
            own[batch.actions[last]] = True
            assert bool(own[LINES].all(1).any()) == (outcome == 1)
            seen.add(outcome)
    assert {1.0, -1.0} <= seen


def test_batches_depend_on_seed_rank_and_update():
    first = following(make(), 3)
    assert all(same(a, b) for a, b in zip(first, following(make(), 3), strict=True))
    assert not same(first[0], following(make(seed=1), 1)[0])
    assert not same(first[0], following(make(rank=1), 1)[0])
    assert not same(first[0], first[1])


def test_the_pool_has_earlier_policies_and_keeps_the_first():
    data = make(updates_per_snapshot=2, pool_size=3)
    start = {name: value.clone() for name, value in data.module.policy.state_dict().items()}
    following(data, 9)
    assert len(data.pool) == 3
    name = next(iter(start))
    ages = [round(float((weights[name] - start[name]).mean()) * 100) for weights in data.pool]
    assert ages == [0, 6, 8]
    found = data.start_policy().state_dict()
    assert all(torch.equal(found[each], start[each]) for each in start)


def test_opponents_are_drawn_from_the_whole_pool(monkeypatch):
    data, drawn = make(updates_per_snapshot=1, pool_size=4), []
    copy_of_policy = data.copy_of_policy
    monkeypatch.setattr(
        data, "copy_of_policy",
        lambda weights: drawn.append([weights is each for each in data.pool].index(True))
        or copy_of_policy(weights),
    )  # fmt: skip
    following(data, 30)
    assert {*drawn[4:]} == {0, 1, 2, 3}


def test_the_pool_resumes_with_the_run():
    whole, stopped = make(updates_per_snapshot=2), make(updates_per_snapshot=2)
    batches = following(whole, 6)
    following(stopped, 4)
    resumed = make(updates_per_snapshot=2)
    resumed.load_state_dict(stopped.state_dict())
    resumed.module.load_state_dict(stopped.module.state_dict())
    for one, other in zip(batches[4:], following(resumed, 2), strict=True):
        assert same(one, other)
    assert resumed.env_steps == whole.env_steps
    assert len(resumed.pool) == len(whole.pool) == 3
    for one, other in zip(resumed.pool, whole.pool, strict=True):
        assert all(torch.equal(one[name], other[name]) for name in one)


def test_openings_are_random_moves():
    data = make(random_moves=3)
    batches = following(data, 6)
    starts = []
    for batch in batches:
        firsts = torch.cat([torch.zeros(1), batch.lengths.cumsum(0)[:-1]]).long()
        starts += (9 - batch.playable[firsts].sum(1)).tolist()
    assert {*starts} == {0, 1, 2, 3, 4}


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"games_per_update": 3}, "make it an even number"),
        ({"pool_size": 0}, "pool_size is 0"),
        ({"random_moves": -1}, "random_moves is -1"),
        ({"eval_games": 0}, "eval_games is 0"),
        ({"test_opponents": ["rollouts"]}, "num_simulations is 0"),
        ({"test_opponents": ["nobody"]}, "choose one of start, policy"),
        ({"game": "connect_four", "test_opponents": ["perfect"]}, "too many positions"),
        ({"rollout_share": 2.0, "num_simulations": 4}, "rollout_share is 2.0"),
        ({"game": "chess"}, "not a board game"),
    ],
)
def test_what_cannot_be_used_is_one_line(options, says):
    with pytest.raises(ConfigurationError, match=says):
        SelfPlayDataModule(**{"game": "tic_tac_toe", **options})


def test_a_module_without_the_networks_is_refused():
    data = SelfPlayDataModule("tic_tac_toe", games_per_update=2)
    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    with pytest.raises(ConfigurationError, match="SupervisedPolicy learns from LabelledPositions"):
        trainer.fit(SupervisedPolicy(data.environment, 1, 2), data)
