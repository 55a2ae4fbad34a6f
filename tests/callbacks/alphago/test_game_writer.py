"""Files of board games: tables, pictures and SGF."""

import math

import numpy as np
import pytest
import torch
from sgfmill import sgf

from rl_lightning.callbacks.alphago.figures import draw_game, shown_moves, stones_before
from rl_lightning.callbacks.alphago.game_writer import rows_of
from rl_lightning.games.board_game import BoardGame
from rl_lightning.games.matches import RESIGN
from rl_lightning.games.sgf import sgf_of
from rl_lightning.search.evaluators import uniform_evaluator
from rl_lightning.search.recording import OPENING_MOVES, Recorder, record_game
from rl_lightning.search.tree_search import TreeSearch

FIVE = "go(board_size=5,komi=0.5)"


def first_free(states):
    return [state.legal_actions()[0] for state in states]


def last_free(states):
    return [state.legal_actions()[-2:][0] for state in states]


def values_of_seven(game):
    def evaluate(states):
        priors, values = uniform_evaluator(game)(states)
        return priors / game.num_actions, values + 0.7

    return evaluate


def test_a_recorded_game_has_the_evaluations_of_its_recorder():
    game = BoardGame("tic_tac_toe")
    evaluate = values_of_seven(game)
    record = record_game(game, (Recorder(evaluate, first_free), last_free), ("one", "other"))
    assert record.actions[:3].tolist() == [0, 7, 1]  # the second but last free point
    assert torch.allclose(record.values[::2], torch.full_like(record.values[::2], 0.7))
    assert record.values[1::2].isnan().all()
    assert not record.priors[1::2].any()
    turned = record_game(game, (last_free, Recorder(evaluate, first_free)), ("one", "other"))
    assert torch.allclose(turned.values[1::2], torch.full_like(turned.values[1::2], -0.7))


def test_a_search_is_recorded_and_its_first_moves_are_the_openings():
    game = BoardGame("tic_tac_toe")
    search = TreeSearch(game, values_of_seven(game), 30)
    recorder = Recorder(values_of_seven(game), search, last_free)
    record = record_game(game, (recorder, recorder), ("one", "other"))
    state = game.start()
    for number, action in enumerate(record.actions.tolist()):
        if number < OPENING_MOVES:
            assert action == last_free([state])[0]
        else:
            assert record.visits[number, action] == record.visits[number].max()
        game.play(state, action)
    assert record.visits.sum(1).min() >= 30
    assert record.outcome == game.outcome(state, 0)


def test_rows_name_moves_with_their_evaluations():
    game = BoardGame(FIVE)
    record = record_game(
        game, (Recorder(values_of_seven(game), first_free), first_free), ("a", "b")
    )
    rows = rows_of(record)
    assert [row["action"] for row in rows[:3]] == ["B a1", "W b1", "B c1"]
    assert [row["player"] for row in rows[:3]] == [0, 1, 0]
    assert rows[0]["prior"] == pytest.approx(1 / 26)
    assert math.isnan(rows[1]["value_of_first_player"])


def test_the_picture_has_the_evaluated_positions_and_the_stones_before_them():
    game = BoardGame(FIVE)
    record = record_game(
        game, (first_free, Recorder(values_of_seven(game), first_free)), ("a", "b")
    )
    shown = shown_moves(record)
    assert len(shown) == 4
    assert all(move % 2 == 1 for move in shown)
    assert stones_before(game, record, 3)[:4].tolist() == [1, -1, 1, 0]
    figure = draw_game(game, record)
    assert len(figure.axes) == 1 + 2 * len(shown)
    curve = figure.axes[0].lines[0].get_ydata()
    assert np.array_equal(curve, record.values.numpy(), equal_nan=True)


def test_captured_stones_are_not_drawn():
    game = BoardGame(FIVE)
    moves = torch.tensor([1, 0, 5])  # Black captures the corner
    record = record_game(
        game, (Recorder(values_of_seven(game), first_free), first_free), ("a", "b")
    )
    assert stones_before(game, record._replace(actions=moves), 3)[[0, 1, 5]].tolist() == [0, 1, 1]


def test_an_sgf_file_is_read_back():
    game, moves = BoardGame(FIVE), [0, 24, 7, 25, 25]
    content = sgf_of(game, moves, -1.0, ("one", "other"), [f"move {n}" for n in range(5)])
    parsed = sgf.Sgf_game.from_bytes(content)
    root, nodes = parsed.get_root(), parsed.get_main_sequence()[1:]
    assert (root.get("KM"), root.get("RE"), root.get("PW")) == (0.5, "W+", "other")
    points = [(0, 0), (4, 4), (1, 2), None, None]
    assert [node.get_move() for node in nodes] == [
        ("bw"[number % 2], point) for number, point in enumerate(points)
    ]
    assert nodes[2].get("C") == "move 2"


def test_a_recorded_game_ends_where_a_player_resigns():
    game = BoardGame("tic_tac_toe")

    def third(states):
        return [RESIGN if state.move_number() > 3 else first_free([state])[0] for state in states]

    for players, outcome in (((third, first_free), -1.0), ((first_free, third), 1.0)):
        record = record_game(game, players, ("one", "other"))
        assert record.outcome == outcome
        assert len(record.actions) == len(record.values) == (4 if outcome < 0 else 5)


def test_a_move_without_a_choice_has_the_value_of_the_network():
    game = BoardGame("tic_tac_toe")
    state = game.start()
    for action in (0, 1, 2, 4, 3, 5, 7, 6):
        game.play(state, action)
    recorder = Recorder(values_of_seven(game), TreeSearch(game, values_of_seven(game), 5))
    action, found = recorder.choose(state)
    assert action == 8
    assert np.allclose(found.values, 0.7)
