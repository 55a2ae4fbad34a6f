"""The Go Text Protocol: a scripted session, and GNU Go as a player."""

import io
import re
import shutil
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rl_lightning.games import gnugo
from rl_lightning.games.board_game import BoardGame
from rl_lightning.games.gnugo import PLACES, GnuGo
from rl_lightning.games.go_setup import set_up
from rl_lightning.games.gtp import (
    GtpEngine,
    GtpError,
    action_of,
    area_difference,
    handicap_vertices,
    vertex_of,
)
from rl_lightning.games.matches import RESIGN, play_match, random_player
from rl_lightning.runtime.errors import ConfigurationError, RunError
from rl_lightning.search.evaluators import uniform_evaluator
from rl_lightning.search.tree_search import TreeSearch

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
        "? invalid vertex", "= C1", "=", "=", "= B1", "= C1", "= B+18.5", "? syntax error", "=7",
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


def test_two_moves_of_a_colour_are_no_pass_of_the_other():
    """A search would answer a pass by a pass where the count wins."""
    game = engine("go(board_size=5,komi=-30.5)")
    for line in ("play b A1", "play w E5", "play b C3"):
        assert game.answer(line) == "=\n\n"
    assert not game.game.wins_by_pass(game._with_turn_of(0))
    assert game.answer("play w pass") == "=\n\n"
    assert game.game.wins_by_pass(game._with_turn_of(0))


def test_the_engine_resigns_where_its_player_does():
    game = engine(player=lambda states: [RESIGN])
    assert game.answer("play b A1") == "=\n\n"
    assert game.answer("genmove w") == "= resign\n\n"
    assert game.moves == [(0, 0)], "a move that is not played"
    assert game.answer("play w B1") == "=\n\n"


def test_a_finished_game_is_passed_and_can_be_undone():
    game = engine()
    for line in ("play b pass", "play w PASS"):
        game.answer(line)
    assert game.state.is_terminal()
    assert game.answer("final_score") == "= W+0.5\n\n"
    assert game.answer("genmove b") == "= PASS\n\n"
    assert [game.answer("undo") for _ in range(2)] == ["=\n\n"] * 2
    assert game.moves == [(0, 25)]
    assert not game.state.is_terminal()


def test_after_two_passes_a_game_goes_on():
    game = engine()
    for line in ("play b C3", "play w C4", "play b pass", "play w pass", "play b D3"):
        assert game.answer(line) == "=\n\n"
    assert game.game.stones(game.state).nonzero()[0].tolist() == [12, 13, 17]
    assert game.answer("genmove w") == "= A1\n\n"
    for line in ("play b pass", "play b pass"):  # an inserted pass is between them
        assert game.answer(line) == "=\n\n"
    assert game.answer("play w B1") == "=\n\n"


def test_undo_takes_back_an_inserted_pass_too():
    game = engine()
    for line in ("play b a1", "play b b1", "undo", "play w c1"):
        assert game.answer(line) == "=\n\n"
    assert game.state.history() == [0, 2]
    assert [game.answer("undo")[:1] for _ in range(3)] == ["=", "=", "?"]


def test_a_repeated_position_does_not_end_the_session():
    """OpenSpiel ends the game there, as a draw."""
    repeated, rng = 0, np.random.default_rng(0)
    while not repeated:
        game = engine("go(board_size=2,komi=0.5)")
        while not game.state.is_terminal():
            colour = "BW"[game.state.current_player()]
            vertices = game.answer(f"all_legal {colour}").split()[1:]
            assert game.answer(f"play {colour} {rng.choice([*vertices, 'PASS'])}") == "=\n\n"
        repeated += game.game.ending(game.state) == "superko"
    number = len(game.moves)
    assert game.answer("genmove b")[:2] == "= "
    assert game.answer("genmove w")[:2] == "= "
    assert len(game.moves) == number + 2
    assert game.answer("undo") == "=\n\n"


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("player", [0, 1])
def test_a_position_is_set_up_from_its_stones(seed, player):
    game, rng = BoardGame("go(board_size=6,komi=0.5)"), np.random.default_rng(seed)
    state = game.start()
    for _ in range(60):
        if state.is_terminal():
            break
        made = set_up(game, game.stones(state), player)
        assert np.array_equal(game.stones(made), game.stones(state))
        assert made.current_player() == player
        assert not made.is_terminal()
        last = made.history()[-1:]
        if (game.stones(state) == (-1, 1)[player]).any():
            assert last != [36], "a pass now does not end the game"
        game.play(state, int(rng.choice(state.legal_actions())))


def test_an_answer_has_no_empty_line_inside():
    game = engine()
    for line in ("showboard", "list_commands", "gogui-analyze_commands", "play b C3", "showboard"):
        answer = game.answer(line)
        assert answer.endswith("\n\n")
        assert "\n\n" not in answer[:-2]
    assert "X" in answer


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("komi nan", "syntax error"),
        ("komi inf", "syntax error"),
        ("komi -Infinity", "syntax error"),
        ("komi 1e400", "syntax error"),
        ("komi 1e300", "unacceptable komi"),
        ("komi", "syntax error"),
        ("komi " + "9" * 5000, "syntax error"),
        ("play b A" + "1" * 5000, "invalid vertex"),
        ("play b \u0661\u0661", "invalid vertex"),
        ("play b A\u0661", "invalid vertex"),
        ("play b I1", "invalid vertex"),
        ("play b A0", "invalid vertex"),
        ("play b F1", "invalid vertex"),
        ("play b", "syntax error"),
        ("play", "syntax error"),
        ("genmove", "syntax error"),
        ("genmove green", "syntax error"),
        ("boardsize", "unacceptable size"),
        ("boardsize " + "5" * 5000, "unacceptable size"),
        ("fixed_handicap 2", "invalid number of stones"),
        ("fixed_handicap", "syntax error"),
        ("set_free_handicap A1", "bad vertex list"),
        ("set_free_handicap A1 pass", "bad vertex list"),
        ("set_free_handicap A1 A1", "bad vertex list"),
        ("loadsgf", "syntax error"),
        ("loadsgf nowhere.sgf", "cannot load file"),
        ("time_settings x 0 0", "syntax error"),
        ("time_left b 10", "syntax error"),
    ],
)
def test_arguments_that_cannot_be_used_are_refused(line, says):
    game = engine()
    assert game.answer(line) == f"? {says}\n\n"
    assert game.answer("play b A1") == "=\n\n"
    assert game.moves == [(0, 0)]


def test_every_exception_is_an_answer_and_changes_nothing():
    def fails(states):
        raise RuntimeError("the network\n\nis gone")

    game = engine(player=fails)
    game.answer("play b A1")
    assert game.answer("7 genmove w") == "?7 RuntimeError: the network is gone\n\n"
    assert game.answer("genmove b").startswith("? ")
    assert game.state.history() == [0]
    assert game.moves == [(0, 0)]


def test_a_move_can_be_asked_for_without_being_played():
    game = engine()
    assert game.answer("reg_genmove b") == game.answer("reg_genmove w") == "= A1\n\n"
    assert game.moves == []


def test_an_illegal_move_of_the_player_is_an_answer():
    game = engine(player=lambda states: [0 for _ in states])
    assert game.answer("genmove b") == "= A1\n\n"
    assert game.answer("genmove w") == "? illegal move\n\n"
    assert game.state.history() == [0]


def test_komi_keeps_the_game_and_its_other_parameters():
    game = engine("go(board_size=5,komi=0.5,max_game_length=77)")
    game.answer("play b C3")
    for komi in ("6.5", "-3", "0", "1e-3"):
        assert game.answer(f"komi {komi}") == "=\n\n"
        parameters = game.game.rules.get_parameters()
        assert parameters["komi"] == float(komi)
        assert parameters["max_game_length"] == 77
    assert game.state.history() == [12]
    assert game.answer("final_score") == "= B+24.999\n\n"
    assert game.answer("komi 1e-7") == "=\n\n"
    assert game.answer("final_score") == "= B+25\n\n"


def test_bytes_that_are_not_utf_8_do_not_end_the_session():
    commands = io.TextIOWrapper(io.BytesIO(b"name\n\xff\xfe\x80 b\nplay b \xc3\nname\n"))
    answers = io.StringIO()
    engine().serve(commands, answers)
    assert answers.getvalue().split("\n\n") == [
        "= rl_lightning", "? unknown command", "? invalid vertex", "= rl_lightning", "",
    ]  # fmt: skip


def test_handicap_stones_are_blacks_and_white_is_to_move():
    game = engine(NINE)
    assert game.answer("fixed_handicap 5") == "= C3 G7 C7 G3 E5\n\n"
    stones = game.game.stones(game.state)
    assert (stones == 1).sum() == 5
    assert (stones == -1).sum() == 0
    assert game.state.current_player() == 1
    assert game.answer("fixed_handicap 2") == "? board not empty\n\n"
    game.answer("clear_board")
    assert game.answer("set_free_handicap C3 D4") == "=\n\n"
    game.answer("clear_board")
    expected = {9: "C3 G7 C7 G3 C5 G5 E3 E7 E5", 8: "C3 G7 C7 G3 C5 G5 E3 E7", 3: "C3 G7 C7"}
    for number, vertices in expected.items():
        assert handicap_vertices(9, number) == vertices.split()
    assert handicap_vertices(19, 5) == ["D4", "Q16", "D16", "Q4", "K10"]
    with pytest.raises(GtpError):
        handicap_vertices(8, 5)


def test_a_game_with_handicap_as_a_parameter_is_refused_in_one_line():
    with pytest.raises(ConfigurationError, match="leave handicap out"):
        BoardGame("go(board_size=9,handicap=2)")


def test_an_sgf_file_is_loaded(tmp_path):
    file = tmp_path / "game.sgf"
    file.write_text("(;SZ[5]KM[2.5]AB[cc][dd];W[aa];B[bb];B[cb];W[])")
    game = engine()
    assert game.answer(f"loadsgf {file}") == "=\n\n"
    # SGF counts rows from above.
    assert [(p, vertex_of(game.game, a)) for p, a in game.moves] == [
        (0, "D2"), (0, "C3"), (1, "A5"), (0, "B4"), (0, "C4"), (1, "PASS"),
    ]  # fmt: skip
    assert game.game.rules.get_parameters()["komi"] == 2.5
    assert game.answer(f"loadsgf {file} 2") == "=\n\n"
    assert len(game.moves) == 3, "the position before the second move"
    before = game.moves
    for content, says in (
        ("(;SZ[9];B[aa])", "on another board"),
        ("(;SZ[5]AW[aa])", "no handicap"),
        ("no game", "not in the format"),
        ("(;SZ[5];B[aa];W[aa])", "illegal move"),
    ):
        file.write_text(content)
        answer = game.answer(f"loadsgf {file}")
        assert answer.startswith("?")
        assert says in answer
        assert game.moves == before
    assert game.game.stones(game.state).nonzero()[0].tolist() == [8, 12, 20]


# What the front ends send, in their order: at their start, in a game, and for the score.
SABAKI = """
1 name
2 version
3 protocol_version
4 list_commands
5 boardsize 9
6 clear_board
7 komi 6.5
8 boardsize 9
9 clear_board
10 set_free_handicap C3 G7
11 undo
12 undo
13 play B E5
14 genmove W
15 play B G3
16 genmove W
17 undo
18 undo
19 time_settings 600 30 5
20 time_left W 590 0
21 genmove B
22 play W pass
23 play B pass
24 final_score
25 clear_board
26 play B C3
27 play W G7
28 genmove B
29 quit
"""
GOGUI = """
protocol_version
list_commands
version
name
gogui-analyze_commands
boardsize 9
komi 7.5
clear_board
time_settings 1800 0 0
time_left b 1800 0
genmove b
time_left w 1799 0
play w E5
undo
undo
showboard
all_legal b
reg_genmove b
play b C3
genmove w
play b PASS
play w PASS
final_score
boardsize 9
clear_board
fixed_handicap 4
genmove w
known_command gogui-interrupt
quit
"""


@pytest.mark.parametrize("session", [SABAKI, GOGUI])
def test_a_session_of_a_front_end(session):
    lines = session.strip().splitlines()
    answers = io.StringIO()
    game = BoardGame(NINE)
    search = TreeSearch(game, uniform_evaluator(game), 4)
    GtpEngine(game, search, "1.0").serve(lines, answers)
    found = answers.getvalue().split("\n\n")
    assert found.pop() == ""
    assert len(found) == len(lines)
    for line, answer in zip(lines, found, strict=True):
        number = line.split()[0] if line[0].isdigit() else ""
        assert answer.startswith(f"={number}"), (line, answer)
        if "genmove" in line:
            action_of(game, answer.split()[1])
    assert any(answer[-2:] == ".5" for answer in found), "a score"


WORDS = st.sampled_from(
    [
        *engine()._commands, "b", "W", "black", "x", "A1", "e5", "C3", "pass", "PASS", "I3", "Z99",
        "5", "0", "-1", "2", "1e400", "nan", "7.5", "\t", "#", "\x00", "\u00e9", "\ufffd",
        "1" * 5000,
    ]
)  # fmt: skip
MOVES = st.builds(
    "{} {} {}{}".format,
    st.sampled_from(["play", "play", "genmove", "undo", "reg_genmove"]),
    st.sampled_from("bw"),
    st.sampled_from("ABCDE"),
    st.integers(1, 5),
)
LINES = st.one_of(MOVES, st.lists(WORDS, max_size=5).map(" ".join), st.text(max_size=20))


@settings(deadline=None, max_examples=150)
@given(st.lists(LINES, max_size=40))
def test_no_input_ends_the_session(lines):
    """Every line with a command has one answer, and the stones are those of the moves."""
    game = engine()
    for line in lines:
        answer = game.answer(line)
        text = line.partition("#")[0]
        if not answer:
            words = re.sub(r"[\x00-\x08\x0b-\x1f\x7f]", "", text).split()
            assert len(words) == 0 or (len(words) == 1 and words[0].isdecimal())
            continue
        assert re.fullmatch(r"[=?][0-9]*( [^\n]*)?(\n[^\n]+)*\n\n", answer), (line, answer)
        assert "Error" not in answer, (line, answer)
    replayed = engine()
    replayed.game = game.game
    replayed._replay(game.moves)
    assert np.array_equal(game.game.stones(replayed.state), game.game.stones(game.state))
    assert game.answer("name") == "= rl_lightning\n\n"


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
        "ends inside an answer": (
            "for line in sys.stdin:\n"
            "    if 'genmove' in line: sys.exit(sys.stdout.write('= ') and 1)\n"
            "    print('=\\n', flush=True)\n"
        ),
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


def test_a_program_that_ends_inside_an_answer_is_one_line(tmp_path, monkeypatch):
    stand_in(tmp_path, monkeypatch, "ends inside an answer")
    player = GnuGo(BoardGame(NINE))
    with pytest.raises(RunError, match="ended at the command 'genmove B'"):
        player([player.game.start()])
    player.close()


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
