"""The Go Text Protocol: a scripted session, and GNU Go as a player."""

import io
import shutil
import sys

import numpy as np
import pytest

from rl_lightning.games import gnugo
from rl_lightning.games.board_game import BoardGame
from rl_lightning.games.gnugo import PLACES, GnuGo
from rl_lightning.games.gtp import GtpEngine, action_of, area_difference, vertex_of
from rl_lightning.games.matches import play_match, random_player
from rl_lightning.runtime.errors import ConfigurationError, RunError

NINE = "go(board_size=9,komi=7.5)"


def first_free(states):
    return [state.legal_actions()[0] for state in states]


def engine(name="go(board_size=5,komi=0.5)", player=first_free):
    return GtpEngine(BoardGame(name), player, "1.0")


def test_vertices_are_named_as_in_the_protocol():
    game = BoardGame("go(board_size=19)")
    assert [vertex_of(game, action) for action in (0, 8, 18, 342, 361)] == [
        "A1", "J1", "T1", "A19", "PASS",
    ]  # fmt: skip
    assert all(action_of(game, vertex_of(game, action)) == action for action in range(362))
    state = game.start()
    assert state.action_to_string(0, action_of(game, "j1")) == "B j1"


def test_a_scripted_session():
    session = """
    # a comment
    1 protocol_version
    name
    known_command genmove
    known_command fly
    fly
    boardsize 19
    2 boardsize 5
    clear_board
    komi 6.5
    play b A1
    genmove w
    play b A1
    play b B1
    play x C3
    play w Z9
    genmove white
    undo
    undo
    genmove b
    genmove b
    final_score
    komi much
    7 quit
    name
    """
    answers = io.StringIO()
    engine().serve(session.splitlines(), answers)
    assert answers.getvalue().split("\n\n") == [
        "=1 2", "= rl_lightning", "= true", "= false", "? unknown command", "? unacceptable size",
        "=2", "=", "=", "=", "= B1", "? illegal move", "? illegal move", "? syntax error",
        "? invalid vertex", "= C1", "=", "=", "= C1", "= D1", "= W+4.5", "? syntax error", "=7",
        "",
    ]  # fmt: skip


def test_a_colour_that_is_not_to_move_makes_the_other_one_pass():
    game = engine()
    for line in ("play b A1", "play b C1", "play w E5"):
        assert game.answer(line) == "=\n\n"
    assert game.state.history() == [0, 25, 2, 24]
    assert game.answer("play black B9") == "? invalid vertex\n\n"
    assert game.answer("play white A1") == "? illegal move\n\n"
    assert game.state.history() == [0, 25, 2, 24], "a refused move changes nothing"


def test_a_finished_game_is_passed_and_can_be_undone():
    game = engine()
    for line in ("play b pass", "play w PASS"):
        game.answer(line)
    assert game.state.is_terminal()
    assert game.answer("genmove b") == "= PASS\n\n"
    assert game.answer("undo") == "=\n\n"
    assert not game.state.is_terminal()


def test_the_score_counts_points_that_one_colour_surrounds():
    game = BoardGame("go(board_size=5,komi=0.5)")
    state = game.start()
    assert area_difference(game, state) == -0.5
    for action in (1, 3, 6, 8, 11, 13, 16, 18, 21, 23):
        game.play(state, action)
    assert area_difference(game, state) == -0.5, "ten points each, and neutral ones"
    game.play(state, 12)
    assert area_difference(game, state) == 0.5


def test_only_go_has_the_protocol():
    with pytest.raises(ConfigurationError, match="the game is tic_tac_toe"):
        engine("tic_tac_toe")
    with pytest.raises(ConfigurationError, match="the game is tic_tac_toe"):
        GnuGo(BoardGame("tic_tac_toe"))


def test_without_gnu_go_one_line_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(gnugo, "PLACES", ("no-such-program",))
    with pytest.raises(ConfigurationError, match="apt-get install gnugo"):
        GnuGo(BoardGame(NINE))


def stand_in(tmp_path, monkeypatch, level_of_trust):
    """A program in the place of GNU Go, which is an engine of this package or answers nonsense."""
    script = tmp_path / "gnugo"
    body = {
        "engine": (
            "from rl_lightning.games.gtp import GtpEngine\n"
            "from rl_lightning.games.board_game import BoardGame\n"
            "last = lambda states: [states[0].legal_actions()[-2:][0]]\n"
            f"engine = GtpEngine(BoardGame('{NINE}'), last, '')\n"
            "engine.serve(sys.stdin, sys.stdout)\n"
        ),
        "refuses": "for line in sys.stdin: print('? no\\n', flush=True)\n",
        "ends": "",
    }[level_of_trust]
    script.write_text(f"#!{sys.executable}\nimport sys\n{body}")
    script.chmod(0o755)
    monkeypatch.setattr(gnugo, "PLACES", (str(script),))


def test_moves_are_sent_to_the_program_and_read_from_it(tmp_path, monkeypatch):
    stand_in(tmp_path, monkeypatch, "engine")
    game, rng = BoardGame(NINE), np.random.default_rng(0)
    player = GnuGo(game)
    states = []
    for moves in ([], [3], [3, 80, 7]):
        state = game.start()
        for move in moves:
            game.play(state, move)
        states.append(state)
    assert player(states) == [80, 80, 79]
    outcomes = play_match(game, player, random_player(game, rng), 2).outcomes
    assert set(outcomes.tolist()) <= {-1, 0, 1}
    player.close()
    assert player._process.returncode is not None


@pytest.mark.parametrize(("kind", "says"), [("refuses", "answers"), ("ends", "ended at")])
def test_a_program_that_fails_is_one_line(kind, says, tmp_path, monkeypatch):
    stand_in(tmp_path, monkeypatch, kind)
    started, start = [], gnugo.subprocess.Popen
    monkeypatch.setattr(
        gnugo.subprocess, "Popen", lambda *a, **k: started.append(start(*a, **k)) or started[0]
    )
    with pytest.raises(RunError, match=says):
        GnuGo(BoardGame(NINE))
    assert started[0].returncode is not None, "the process has been ended"


@pytest.mark.skipif(
    not any(map(shutil.which, PLACES)), reason="GNU Go is not installed: apt-get install gnugo"
)
def test_gnu_go_beats_a_random_player():
    game = BoardGame(NINE)
    player = GnuGo(game)
    match = play_match(game, player, random_player(game, np.random.default_rng(0)), 2)
    player.close()
    assert match.outcomes.tolist() == [1, 1]
