"""Positions of recorded games: the split, the order and the symmetries."""

import numpy as np
import pytest
import torch

from rl_lightning.datamodules.alphago.expert_games import ExpertGamesDataModule
from rl_lightning.games.symmetries import turn_actions, turn_planes
from rl_lightning.runtime.errors import ConfigurationError
from sgf_samples import write_games

GAMES, MOVES = 10, 12


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_games(tmp_path_factory.mktemp("sgf") / "games", GAMES, num_moves=MOVES)


def make(folder, stage="fit", **kwargs):
    arguments = {"batch_size": 8, "updates_per_epoch": 12, "validation_share": 0.2}
    data = ExpertGamesDataModule(str(folder), test_share=0.1, **{**arguments, **kwargs})
    data.setup(stage)
    return data


def keys(batches):
    return [
        (planes.numpy().tobytes(), int(action))
        for batch in batches
        for planes, action in zip(batch.observations, batch.actions, strict=True)
    ]


def test_a_pass_over_the_data_has_every_training_position_once(folder):
    data = make(folder, symmetries=False, updates_per_epoch=11)
    batches = list(data.train_dataloader())
    total = 7 * MOVES
    assert sum(len(batch.actions) for batch in batches) == total
    assert batches[0].observations.shape == (8, *data.environment["observation_shape"])
    assert batches[0].observations.dtype == torch.bool
    stored = keys([data.batch("train", np.arange(total))])
    assert sorted(keys(batches)) == sorted(stored)
    assert keys(batches) != stored
    again = list(data.train_dataloader())
    assert sorted(keys(again)) == sorted(stored)
    assert keys(again) != keys(batches), "another order in the second pass"


def test_the_splits_hold_different_games_and_no_position_is_lost(folder):
    data = make(folder)
    assert {name: len(split.actions) for name, split in data.splits.items()} == {
        "train": 7 * MOVES,
        "validate": 2 * MOVES,
    }
    held_out = make(folder, stage="test")
    assert len(held_out.splits["test"].actions) == MOVES
    # The last positions of games identify them, because the games are random.
    finals = [
        data.splits[name].positions.stones[MOVES - 1 :: MOVES].tolist()
        for name in ("train", "validate")
    ] + [held_out.splits["test"].positions.stones[MOVES - 1 :: MOVES].tolist()]
    games = [str(game) for split in finals for game in split]
    assert len({*games}) == GAMES
    other_seed = make(folder, seed=5)
    assert keys(other_seed.val_dataloader()) == keys(data.val_dataloader())


def test_training_positions_are_turned_and_held_out_ones_are_not(folder):
    data = make(folder, updates_per_epoch=11)
    stored = {*keys([data.batch("train", np.arange(7 * MOVES))])}
    drawn = keys(data.train_dataloader())
    assert len({*drawn} & stored) < len(stored) / 2
    whole, every = data.batch("train", np.arange(7 * MOVES)), set()
    for k in range(8):
        which = np.full(len(whole.actions), k)
        planes = turn_planes(whole.observations, which)
        actions = torch.from_numpy(turn_actions(whole.actions.numpy(), 9, which))
        every |= {*keys([whole._replace(observations=planes, actions=actions)])}
    assert {*drawn} <= every
    stored = keys([data.batch("validate", np.arange(2 * MOVES))])
    assert keys(data.val_dataloader()) == stored


def test_batches_depend_on_seed_and_update_only(folder):
    first, second = make(folder), make(folder)
    batches = list(first.train_dataloader())
    second.load_state_dict({"updates": 7})
    assert keys([second.next_batch()]) == keys([batches[7]])
    assert keys(make(folder, seed=1).train_dataloader()) != keys(batches)


def test_outcomes_are_those_of_the_player_to_move(folder):
    data = make(folder, symmetries=False)
    batch = data.batch("train", np.arange(MOVES))
    assert (batch.outcomes[::2] == -batch.outcomes[1::2]).all()
    assert batch.outcomes.dtype == torch.float32


@pytest.mark.parametrize("world_size", [2, 3])
def test_ranks_share_the_positions(folder, world_size, monkeypatch):
    found, lengths, trained = [], set(), []
    for rank in range(world_size):
        data = make(folder, symmetries=False)
        monkeypatch.setattr(type(data), "rank", rank)
        monkeypatch.setattr(type(data), "world_size", world_size)
        batches = list(data.val_dataloader())
        lengths.add(len(batches))
        found += keys(batches)
        trained.append({*keys([data.next_batch()])})
    assert len(lengths) == 1
    assert sorted(found) == sorted(keys([data.batch("validate", np.arange(2 * MOVES))]))
    assert not trained[0] & trained[1]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"game": "tic_tac_toe"}, "set it to go"),
        ({"validation_share": 0.0}, "validation_share is 0.0"),
        ({"validation_share": 0.95}, "their sum less than 1"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"validation_share": 0.01}, "has 10 games, too few"),
        ({"game": "go(board_size=13)"}, "no game of Go on 13x13"),
    ],
)
def test_what_cannot_be_used_is_one_line(folder, arguments, says):
    with pytest.raises(ConfigurationError, match=says):
        make(folder, **arguments)


def test_files_that_are_left_out_are_counted(tmp_path, caplog):
    folder = write_games(tmp_path / "games", GAMES)
    (folder / "other.sgf").write_text("(;SZ[19]RE[B+1];B[aa])")
    with caplog.at_level("INFO", "lightning.pytorch.utilities.rank_zero"):
        make(folder)
    assert "10 games; 1 left out, on another board" in caplog.text
