"""SGF files: what is read, what is left out, and what a replay gives."""

import io
import sys
import tarfile

import numpy as np
import pytest

from rl_lightning.games.board_game import BoardGame
from rl_lightning.games.records import Record, join_positions, parse_record, read_records, replay
from rl_lightning.runtime.errors import ConfigurationError
from sgf_samples import sgf_of, write_games


def test_moves_are_actions_of_the_game_and_the_result_is_the_tag():
    record = parse_record(b"(;GM[1]SZ[9]RE[W+R];B[ai];W[bi];B[ah];W[ia];B[])", 9)
    assert record == Record((0, 1, 9, 80, 81), -1.0)
    game, state = BoardGame("go(board_size=9)"), BoardGame("go(board_size=9)").start()
    names = [state.action_to_string(0, move) for move in record.moves[:4]]
    assert names == ["B a1", "B b1", "B a2", "B j9"]
    assert game.num_points == 81


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("(;SZ[13]RE[B+1];B[aa])", "on another board"),
        ("(;SZ[9]RE[B+1]AB[aa][bb];W[cc])", "with handicap"),
        ("(;SZ[9]RE[B+1];W[aa])", "do not take turns"),
        ("(;SZ[9]RE[B+1];B[aa];B[bb])", "do not take turns"),
        ("(;SZ[9]RE[Void];B[aa])", "without a result"),
        ("(;SZ[9];B[aa])", "without a result"),
        ("(;SZ[9]RE[B+1])", "without moves"),
        ("no game", "not in the format"),
        ("(;SZ[9]RE[B+1];B[zz])", "not in the format"),
        ("(;SZ[x]RE[B+1];B[aa])", "not in the format"),
    ],
)
def test_a_game_that_cannot_be_used_has_a_reason(content, reason):
    assert reason in parse_record(content.encode(), 9)


def test_a_draw_has_the_outcome_zero():
    assert parse_record(b"(;SZ[9]RE[0];B[aa])", 9).outcome == 0


def test_folder_and_archive_give_the_same_games_once(tmp_path):
    folder = write_games(tmp_path / "games", 5)
    (folder / "again.sgf").write_bytes((folder / "game0.sgf").read_bytes())
    (folder / "other.sgf").write_text("(;SZ[19]RE[B+1];B[aa])")
    archive = tmp_path / "games.tar.xz"
    with tarfile.open(archive, "w:xz") as packed:
        for file in folder.iterdir():
            info = tarfile.TarInfo(file.name)
            info.size = file.stat().st_size
            packed.addfile(info, io.BytesIO(file.read_bytes()))
    records, skipped = read_records(folder, 9)
    assert (records, skipped) == read_records(archive, 9)
    assert len(records) == 5
    assert skipped == {"on another board": 1, "equal to another game": 1}


@pytest.mark.parametrize("name", ["missing", "empty"])
def test_no_games_are_one_line(tmp_path, name):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigurationError, match="a folder or a tar archive of SGF files") as error:
        read_records(tmp_path / name, 9)
    assert "\n" not in str(error.value)


def test_a_replay_gives_each_position_before_its_move():
    game = BoardGame("go(board_size=5)")
    (found,) = replay(game, [Record((7, 12, 25, 8), -1.0)], with_passes=True)
    assert found.actions.tolist() == [7, 12, 25, 8]
    assert found.outcomes.tolist() == [-1, 1, -1, 1]
    assert found.positions.black.tolist() == [True, False, True, False]
    assert np.flatnonzero(found.positions.stones[3]).tolist() == [7, 12]
    assert found.positions.stones[3, [7, 12]].tolist() == [-1, 1]
    (found,) = replay(game, [Record((7, 12, 25, 8), -1.0)], with_passes=False)
    assert found.actions.tolist() == [7, 12, 8]
    assert np.flatnonzero(found.positions.stones[2]).tolist() == [7, 12]


def test_a_replay_stops_at_a_move_that_the_rules_forbid():
    game = BoardGame("go(board_size=5)")
    occupied, after_the_end = replay(
        game, [Record((7, 7, 8), 1.0), Record((25, 25, 3), 1.0)], with_passes=True
    )
    assert occupied.actions.tolist() == [7]
    assert after_the_end.actions.tolist() == [25, 25]
    assert len(join_positions([occupied, after_the_end]).actions) == 3


def test_the_sample_writer_writes_what_is_read(tmp_path):
    assert parse_record(sgf_of([0, 80, 81], "B+R", 9).encode(), 9) == Record((0, 80, 81), 1.0)


def test_without_sgfmill_the_error_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "sgfmill", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'rl_lightning\[go\]'"):
        read_records(tmp_path, 9)
