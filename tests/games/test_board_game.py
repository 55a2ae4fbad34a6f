"""Games of OpenSpiel: actions are points, and legality is a plane."""

import pickle
import sys

import numpy as np
import pytest

from rl_lightning.games.board_game import BoardGame
from rl_lightning.runtime.errors import ConfigurationError

GAMES = ["tic_tac_toe", "connect_four", "hex(board_size=3)", "othello", "go(board_size=4)"]


@pytest.mark.parametrize("name", GAMES)
def test_the_last_plane_holds_the_legal_actions_in_random_games(name):
    game = BoardGame(name)
    rng = np.random.default_rng(0)
    for _ in range(3):
        state = game.start()
        while not state.is_terminal():
            planes = game.observe([state])[0]
            assert planes.shape == game.spec["observation_shape"]
            assert planes.dtype == game.spec["observation_dtype"]
            legal = game.legal_actions(state)
            marked = np.flatnonzero(planes[-1]).tolist()
            if game.has_pass and planes[-2].any():
                assert planes[-2].all()
                marked.append(game.num_points)
            assert marked == legal
            game.play(state, int(rng.choice(legal)))
        assert game.legal_actions(state) == []
        assert game.outcome(state, 0) == -game.outcome(state, 1)


def test_a_stone_of_connect_four_falls_to_its_point():
    game, state = BoardGame("connect_four"), BoardGame("connect_four").start()
    for action in (3, 10, 2, 17):
        assert action in game.legal_actions(state)
        game.play(state, action)
    stones = game.observe([state])[0][:2].reshape(2, -1)
    assert np.flatnonzero(stones[0]).tolist() == [2, 3]
    assert np.flatnonzero(stones[1]).tolist() == [10, 17]
    assert game.legal_actions(state) == [0, 1, 4, 5, 6, 9, 24]


def test_the_player_to_move_is_a_plane():
    game, state = BoardGame("tic_tac_toe"), BoardGame("tic_tac_toe").start()
    assert game.observe([state])[0][3].all()
    game.play(state, 4)
    assert not game.observe([state])[0][3].any()


def test_endings_of_go():
    game = BoardGame("go(board_size=5,komi=0.5,max_game_length=12)")
    passed, cut_off = game.start(), game.start()
    for action in (7, 25, 25):
        game.play(passed, action)
    assert passed.is_terminal()
    assert game.ending(passed) == "rules"
    assert game.outcome(passed, 0) == 1
    for action in range(12):
        game.play(cut_off, action)
    assert cut_off.is_terminal()
    assert game.ending(cut_off) == "cut_off"


def test_a_repeated_position_of_go_is_a_draw():
    game, rng = BoardGame("go(board_size=2,komi=0.5,max_game_length=200)"), np.random.default_rng(0)
    for _ in range(200):
        state = game.start()
        while not state.is_terminal():
            game.play(state, int(rng.choice(state.legal_actions()[:-1] or [4])))
        if game.ending(state) == "superko":
            assert game.outcome(state, 0) == game.outcome(state, 1) == 0
            return
    pytest.fail("no game repeated a position")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("tic_tac_to", "did you mean tic_tac_toe"),
        ("go(board_size=9,komy=7)", "Unknown parameter 'komy'"),
        ("go(", "closing bracket"),
        ("kuhn_poker", "not a board game for two"),
        ("breakthrough", "not a board game for two"),
        ("", "OpenSpiel has no game ''"),
    ],
)
def test_errors_are_one_line(name, says, capfd):
    with pytest.raises(ConfigurationError, match=says) as error:
        BoardGame(name)
    assert "\n" not in str(error.value)
    assert capfd.readouterr().err == ""


def test_without_openspiel_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyspiel", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'rl_lightning\[go\]'"):
        BoardGame("tic_tac_toe")


def test_a_game_can_be_pickled():
    game = pickle.loads(pickle.dumps(BoardGame("go(board_size=5,komi=0.5)")))
    assert game.spec == BoardGame("go(board_size=5,komi=0.5)").spec
