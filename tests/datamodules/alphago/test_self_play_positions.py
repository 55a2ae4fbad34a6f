"""Positions of self-play games: the ring, the owners, the symmetries and the held-out games."""

import numpy as np
import pytest
import torch

from rl_lightning.datamodules.alphago.self_play_positions import (
    PositionRing,
    SelfPlayPositionsDataModule,
)
from rl_lightning.experience import ScoredPositions
from rl_lightning.games.symmetries import turn_planes
from rl_lightning.modules import GameValue
from rl_lightning.runtime.errors import ConfigurationError


class _Attached(SelfPlayPositionsDataModule):
    """Has a module without a Trainer, and counts as one of several ranks."""

    rank, world_size = 0, 1
    module = None


def make(game="tic_tac_toe", seed=0, rank=0, **options):
    torch.manual_seed(3)
    given = {"games_per_update": 5, "batch_size": 7, "capacity": 12, "eval_positions": 6}
    data = _Attached(game, seed=seed, **{**given, **options})
    data.rank = rank
    data.module = GameValue(data.environment, 2, 4)
    return data


def following(data, number):
    data.updates_per_epoch = number
    return [*data.train_dataloader()]


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_a_position_of_each_game_has_the_result_for_the_player_to_move():
    data = make()
    positions, lengths, results = data._play(400, 1, "games")
    assert len(positions.outcomes) == len(lengths) == len(results) == 400
    first = positions.observations[:, 3].flatten(1).all(1)
    expected = torch.tensor(results) * torch.where(first, 1, -1)
    assert torch.equal(positions.outcomes.double(), expected.double())
    stones = 9 - positions.observations[:, -1].flatten(1).sum(1)
    assert (stones < torch.tensor(lengths)).all(), "the last position has no player to move"
    # With equal probability for each position before the end of a game.
    share = stones / torch.tensor(lengths)
    assert abs(float(share.mean()) - np.mean([(n - 1) / 2 / n for n in lengths])) < 0.04
    assert {*stones.tolist()} == {*range(9)}


@pytest.mark.parametrize("wanted", [3, 100])
def test_several_positions_of_each_game_are_different_ones(wanted):
    data = make(games_per_update=6, positions_per_game=wanted, capacity=500)
    following(data, 1)
    number = data.ring.size
    assert number == (18 if wanted == 3 else data.env_steps), "all positions of short games"
    positions = data._play(1, wanted, "games")[0].observations
    assert len({each.numpy().tobytes() for each in positions}) == len(positions)
    stones = 9 - positions[:, -1].flatten(1).sum(1)
    assert stones.tolist() == sorted(stones.tolist()), "in the order of the game"


def test_owners_are_those_of_the_end_for_the_player_to_move():
    """All points belong to one side, where the other has no stone left; else stones decide."""
    data = make("go(board_size=4,komi=0.5)")
    positions, _, results = data._play(40, 2, "games")
    areas = positions.owners.flatten(1).sum(1)
    black = positions.observations[:, 44].flatten(1).all(1)
    difference = areas * torch.where(black, 1, -1)
    first = torch.tensor(results).repeat_interleave(2)
    decided = first != 0
    assert torch.equal((difference > 0.5)[decided], (first > 0)[decided])
    assert not make()._play(2, 1, "games")[0].owners.any(), "points of other games have none"


def test_owners_of_a_batch_are_turned_with_the_planes():
    data = make("go(board_size=4,komi=0.5)", batch_size=200)
    (batch,) = following(data, 1)
    ring, pairs = data.ring.take(np.arange(data.ring.size)), set()
    for k in range(8):
        which = np.full(data.ring.size, k)
        planes = turn_planes(ring.observations, which)
        owners = turn_planes(ring.owners[:, None], which)
        for one, other in zip(planes, owners, strict=True):
            pairs.add((one.numpy().tobytes(), other.numpy().tobytes()))
    for one, other in zip(batch.observations, batch.owners, strict=True):
        assert (one.numpy().tobytes(), other.numpy().tobytes()) in pairs


def test_positions_come_after_the_random_moves():
    positions, *_ = make(random_moves=4)._play(300, 1, "games")
    stones = 9 - positions.observations[:, -1].flatten(1).sum(1)
    never, often = make()._play(300, 1, "games")[0], float((stones == 0).float().mean())
    at_start = 9 - never.observations[:, -1].flatten(1).sum(1)
    assert often < float((at_start == 0).float().mean()), "only games without them begin empty"


def test_the_ring_keeps_the_newest_positions_bit_for_bit():
    rng = np.random.default_rng(0)
    ring = PositionRing((3, 3, 3), 10)
    planes = torch.from_numpy(rng.random((27, 3, 3, 3)) < 0.5)
    outcomes = torch.arange(27.0)
    owners = torch.from_numpy(rng.integers(-1, 2, (27, 3, 3)).astype(np.int8))
    for part in range(0, 27, 3):
        rows = slice(part, part + 3)
        ring.add(ScoredPositions(planes[rows], outcomes[rows], owners[rows]))
        assert ring.size == min(10, part + 3)
    found = ring.take(np.arange(10))
    kept = found.outcomes.long()
    assert sorted(kept.tolist()) == [*range(17, 27)]
    assert torch.equal(found.observations, planes[kept])
    assert torch.equal(found.owners, owners[kept])
    other = PositionRing((3, 3, 3), 10)
    other.load_state_dict(ring.state_dict())
    assert same(other.take(np.arange(10)), found)
    old = {name: each for name, each in ring.state_dict().items() if name != "owners"}
    other.load_state_dict(old)  # of an earlier version
    assert torch.equal(other.take(np.arange(10)).outcomes, found.outcomes)


def test_a_training_draws_from_the_newest_games():
    data, seen = make(), set()
    batches = following(data, 4)
    assert data.ring.size == 12
    assert all(len(batch.outcomes) == 7 for batch in batches)
    for rows in data.ring.take(np.arange(12)).observations:
        seen.add(rows.numpy().tobytes())
    assert {row.numpy().tobytes() for row in batches[-1].observations} <= seen


def test_positions_of_go_are_turned_by_every_symmetry():
    data = make("go(board_size=4,komi=0.5)", batch_size=200)
    (batch,) = following(data, 1)
    rings = data.ring.take(np.arange(data.ring.size)).observations
    turned = [turn_planes(rings, np.full(len(rings), k)) for k in range(8)]
    found = {
        k
        for row in batch.observations
        for k in range(8)
        if (turned[k] == row).flatten(1).all(1).any()
    }
    own = {row.numpy().tobytes() for row in rings}
    assert found == set(range(8))
    assert sum(row.numpy().tobytes() in own for row in batch.observations) < 100


def test_batches_depend_on_seed_rank_and_update_and_resume():
    whole = following(make(), 6)
    assert all(same(a, b) for a, b in zip(whole, following(make(), 6), strict=True))
    assert not same(whole[0], following(make(seed=1), 1)[0])
    assert not same(whole[0], following(make(rank=1), 1)[0])
    stopped, resumed = make(), make()
    following(stopped, 4)
    resumed.load_state_dict(stopped.state_dict())
    for one, other in zip(whole[4:], following(resumed, 2), strict=True):
        assert same(one, other)


def test_held_out_games_are_other_games_and_the_same_every_time():
    data = make("go(board_size=4,komi=0.5)", eval_positions=9, batch_size=4)
    first, again = [*data.val_dataloader()], [*data.val_dataloader()]
    assert [len(batch.outcomes) for batch in first] == [3, 3, 3]
    assert all(same(a, b) for a, b in zip(first, again, strict=True))
    trained = {row.numpy().tobytes() for row in data._play(200, 1, "games")[0].observations}
    tested = data.held_out("test")
    assert not same(tested, data.held_out("validate"))
    held = [row.numpy().tobytes() for row in tested.observations]
    assert sum(row in trained for row in held) < len(held)


def test_ranks_share_the_held_out_games():
    data = [make(rank=rank, eval_positions=5, batch_size=2) for rank in (0, 1)]
    for each in data:
        each.world_size = 2
    assert [len(each.held_out("validate").outcomes) for each in data] == [3, 2]
    assert len({len(each.val_dataloader()) for each in data}) == 1


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"capacity": 0}, "capacity is 0"),
        ({"random_moves": -2}, "random_moves is -2"),
        ({"test_opponents": ["start"]}, "choose among policy, rollouts, perfect"),
    ],
)
def test_what_cannot_be_used_is_one_line(options, says):
    with pytest.raises(ConfigurationError, match=says):
        make(**options)


def test_a_checkpoint_of_another_capacity_or_number_of_processes_is_refused():
    saved = make().state_dict()
    with pytest.raises(ConfigurationError, match="made with capacity 12, not 13"):
        make(capacity=13).load_state_dict(saved)
    with pytest.raises(ConfigurationError, match="made by 2 processes"):
        make().load_state_dict({**saved, "rings": saved["rings"] * 2})
