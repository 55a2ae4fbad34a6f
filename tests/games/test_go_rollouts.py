"""Compiled rollouts of Go, compared with OpenSpiel move by move."""

from types import SimpleNamespace

import numpy as np
import pytest
from sgfmill import boards

from rl_lightning.games import go_rollouts as go
from rl_lightning.games.board_game import BoardGame
from rl_lightning.games.go import owners_of
from rl_lightning.games.network_player import own_eyes, playable_actions
from rl_lightning.search import evaluators
from rl_lightning.search.evaluators import rollout_evaluator


def place_of(point, size):
    return (point // size + 1) * (size + 2) + point % size + 1


def inside(board, size):
    return board.reshape(size + 2, size + 2)[1:-1, 1:-1].ravel()


def pseudo_liberties(board, head, size):
    """Counted from the board alone."""
    counts = np.zeros(len(board), np.int64)
    for place in np.flatnonzero(np.abs(board) == 1):
        around = place + np.array([-size - 2, -1, 1, size + 2])
        counts[head[place]] += (board[around] == 0).sum()
    return counts


def sgfmill_area(stones, size):
    board, rows = boards.Board(size), stones.reshape(size, size)
    board.apply_setup(np.argwhere(rows == 1), np.argwhere(rows == -1), ())
    return board.area_score()


@pytest.mark.parametrize("size", [2, 3, 5, 9])
def test_boards_legal_moves_eyes_and_scores_equal_those_of_openspiel(size):
    """All legal moves are drawn, also those that fill eyes, so that large groups are captured."""
    game, rng = BoardGame(f"go(board_size={size},komi=0.5)"), np.random.default_rng(size)
    captures, kos, suicides = 0, 0, 0
    for _ in range(60 if size < 9 else 12):
        state, ko = game.start(), 0
        board, head, following, liberties = go.new_board(np.zeros(size**2, np.int8), size)
        captured = np.empty(size**2, np.int64)
        while not state.is_terminal():
            colour = 1 if state.current_player() == 0 else -1
            stones = game.stones(state)
            assert np.array_equal(inside(board, size), stones)
            again = go.new_board(stones, size)
            for chain in (head, again[1]):  # chains have the same stones and liberties
                counts = pseudo_liberties(board, chain, size)
                found = liberties if chain is head else again[3]
                for place in np.flatnonzero(np.abs(board) == 1):
                    assert counts[chain[place]] == found[chain[place]]
            legal, eyes = np.zeros(size**2, bool), np.zeros(size**2, bool)
            for point in np.flatnonzero(stones == 0):
                place = place_of(point, size)
                legal[point] = go.is_legal(place, colour, ko, size + 2, board, head, liberties)
                eyes[point] = go.is_own_eye(place, colour, size + 2, board)
                suicides += not legal[point] and place != ko
            assert np.flatnonzero(legal).tolist() == state.legal_actions()[:-1]
            own, other = (stones.reshape(1, size, size) == each for each in (colour, -colour))
            assert np.array_equal(eyes, own_eyes(own, other).ravel())
            assert go.owners_of(size, board).sum() == sgfmill_area(stones, size)
            kos += ko > 0
            actions, last = state.legal_actions(), state.history()[-1:]
            close = [each for each in actions if last and abs(each - last[0]) in (1, size)]
            # Moves beside the last one make more kos.
            action = int(rng.choice(close if close and rng.random() < 0.7 else actions))
            game.play(state, action)
            if action == size**2:
                ko = 0
                continue
            number, ko = go.put_stone(
                place_of(action, size), colour, size + 2, board, head, following, liberties,
                captured,
            )  # fmt: skip
            captures += number
    assert size == 2 or min(captures, kos, suicides) > 10


def slow_rollout(game, state, rng):
    """The same rule with OpenSpiel's states, to the end of the game."""
    state = state.clone()
    while not state.is_terminal():
        playable = playable_actions(game, game.observe([state]))[0]
        state.apply_action(int(rng.choice(np.flatnonzero(playable))))
    return game.outcome(state, 0), game.ending(state) == "superko"


@pytest.mark.parametrize("seed", range(3))
def test_results_are_distributed_as_with_openspiels_states(seed):
    """Komi 0.5 on a small board, after some moves of either side."""
    game, rng = BoardGame("go(board_size=4,komi=0.5)"), np.random.default_rng(seed)
    state = game.start()
    for _ in range(5 + seed):
        game.play(state, int(rng.choice(state.legal_actions()[:-1])))
    slow = np.array([slow_rollout(game, state, rng) for _ in range(600)])
    assert slow[:, 1].mean() < 0.05, "superko is left out, and must be rare here"
    (fast,) = rollout_evaluator(game, rng, 20_000)([state])
    fast *= 1 if state.current_player() == 0 else -1
    error = slow[:, 0].std() / 600**0.5
    assert abs(fast - slow[:, 0].mean()) < 3.5 * error + slow[:, 1].mean()
    assert slow[:, 0].std() > 0.2, "the result is open"


# Black, to move, may not take back at point 6.
KO = np.array([0, 1, -1, 0, 1, -1, 0, -1, 0, 1, -1, 0, 0, 0, 0, 0], np.int8)


def results_of(legal, moves=1, passes=0, komi=0.0):
    results = np.empty((1, 40_000))
    seeds = np.random.default_rng(0).integers(2**64, size=results.shape, dtype=np.uint64)
    arguments = (np.array([passes]), np.array([moves]), np.array([komi]), 4, seeds, results)
    go.roll_out(KO[None], legal[None], *arguments)
    return results[0]


@pytest.mark.parametrize("ko", [True, False])
def test_every_playable_point_is_drawn_with_equal_probability(ko):
    """The games are cut off after one move, and the komi decides them by that move."""
    legal = KO == 0
    legal[3] = False  # suicide
    legal[6] &= not ko
    areas = []
    for point in np.flatnonzero(legal):
        board, *chains = go.new_board(KO, 4)
        if not go.is_own_eye(place_of(point, 4), 1, 6, board):
            go.put_stone(place_of(point, 4), 1, 6, board, *chains, np.empty(16, np.int64))
            areas.append(go.owners_of(4, board).sum())
    assert len(areas) == 8 - ko
    for komi in {*areas}:
        expected = np.mean(np.sign(np.array(areas) - komi))
        assert results_of(legal, komi=float(komi)).mean() == pytest.approx(expected, abs=0.015)


def test_passes_and_the_length_of_the_game_are_those_of_the_position():
    legal = KO == 0
    board, *_ = go.new_board(KO, 4)
    now = go.owners_of(4, board).sum()
    assert (results_of(legal, moves=0, komi=float(now)) == 0).all(), "no move is left"
    assert (results_of(legal, moves=30) != results_of(legal, moves=29)).any()
    results = np.empty((1, 1))
    full = np.ones((1, 16), np.int8)  # Black owns all but two eyes, so it passes
    full[0, [0, 15]] = 0
    for passes, result in ((1, 1.0), (0, -1.0)):
        # After the first pass the game ends. Without it White passes too, or it is cut off.
        go.roll_out(
            full, full == 0, np.array([passes]), np.array([9]), np.array([15.5 + (1 - passes)]), 4,
            np.zeros((1, 1), np.uint64), results,
        )  # fmt: skip
        assert results[0, 0] == result


def test_after_a_pass_nothing_is_forbidden_by_ko():
    """Black's only point is forbidden. White captures two stones there after Black's pass."""
    stones = np.full(16, -1, np.int8)
    stones[[1, 4]], stones[[0, 10, 15]] = 1, 0  # White has eyes at 10 and 15
    board, *chains = go.new_board(stones, 4)
    seed = np.zeros(1, np.uint64)
    assert go.play_out(place_of(0, 4), 0, 2, 4, board, *chains, seed) == -16


def test_a_rollout_continues_the_game_of_its_state(monkeypatch):
    given = []
    spied = SimpleNamespace(roll_out=lambda *arguments: given.append(arguments[2:4]))
    monkeypatch.setattr(evaluators, "compiled", lambda name: spied)
    game = BoardGame("go(board_size=3,komi=0.5)")
    states = [game.start() for _ in range(3)]
    for state, moves in zip(states, ((), (9,), (9, 4)), strict=True):
        for move in moves:
            state.apply_action(move)
    rollout_evaluator(game, np.random.default_rng(0))(states)
    ((passes, moves_left),) = given
    assert passes.tolist() == [0, 1, 0], "the last move"
    assert moves_left.tolist() == [18, 17, 16]


def test_rollouts_repeat_and_depend_on_the_generator():
    game = BoardGame("go(board_size=5,komi=0.5)")
    states = [game.start() for _ in range(50)]
    first, again, other = (
        rollout_evaluator(game, np.random.default_rng(seed))(states) for seed in (0, 0, 1)
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert {*first} == {-1.0, 1.0}
    means = rollout_evaluator(game, np.random.default_rng(0), 8)(states)
    assert len({*means}) > 2


def test_komi_is_that_of_the_state():
    """The engine's komi may differ from the one of the configuration."""
    game = BoardGame("go(board_size=3,komi=0.5)")
    rollout = rollout_evaluator(game, np.random.default_rng(0), 50)
    for komi, result in ((20, -1), (-20, 1)):
        state = BoardGame(f"go(board_size=3,komi={komi}.0)").start()
        assert rollout([state]) == [result]
        state.apply_action(4)
        assert rollout([state]) == [-result], "for the player to move, who is White"


def test_each_point_belongs_to_the_side_that_surrounds_it():
    """The corners at the left are White's and Black's, the region at the right touches both."""
    rows = [" X   ", "XX   ", "     ", "OO   ", " O   "]
    stones = np.array(["O X".index(each) - 1 for each in "".join(rows)], np.int8)
    expected = stones.copy()
    expected[0], expected[20] = 1, -1
    assert owners_of(stones, 5).tolist() == expected.tolist()
    assert owners_of(np.zeros(25, np.int8), 5).tolist() == [0] * 25
    stones[stones == -1] = 0
    assert owners_of(stones, 5).tolist() == [1] * 25
