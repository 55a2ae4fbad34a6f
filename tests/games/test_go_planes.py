"""The planes of Go against OpenSpiel's rules, and on boards made by hand."""

import sys
from itertools import pairwise

import numpy as np
import pytest

from rl_lightning.games import go
from rl_lightning.games import go_planes as planes
from rl_lightning.games.board_game import BoardGame
from rl_lightning.games.go import encode
from rl_lightning.games.go_planes import GoPositions
from rl_lightning.runtime.errors import ConfigurationError


def board_of(game, state):
    black, white = np.array(state.observation_tensor(0)).reshape(4, -1)[:2]
    return black - white


def group_of(board, point, size):
    """The stones and the liberties of a group, by a plain search."""
    stones, liberties, waiting = set(), set(), [point]
    while waiting:
        here = waiting.pop()
        if here in stones:
            continue
        stones.add(here)
        row, column = divmod(here, size)
        for r, c in ((row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)):
            near = r * size + c
            if 0 <= r < size and 0 <= c < size:
                if board[near] == 0:
                    liberties.add(near)
                elif board[near] == board[point]:
                    waiting.append(near)
    return stones, liberties


def decode(observation, first, offset):
    """The numbers that eight one-hot planes hold; 0 where no plane is set."""
    block = observation[first : first + 8].reshape(8, -1)
    assert block.sum(0).max() <= 1
    return np.where(block.any(0), block.argmax(0) + offset, -1)


@pytest.mark.parametrize(("size", "seed"), [(9, 0), (9, 1), (5, 2), (5, 3), (3, 4)])
def test_planes_agree_with_the_rules_in_random_games(size, seed):
    game = BoardGame(f"go(board_size={size},komi=0.5)")
    rng, state = np.random.default_rng(seed), game.start()
    while not state.is_terminal():
        found = game.observe([state])[0]
        flat = found.reshape(planes.NUM_PLANES, -1)
        sign = 1 if state.current_player() == 0 else -1
        board = board_of(game, state) * sign
        assert np.array_equal(
            flat[planes.STONES : planes.STONES + 3], [board == 1, board == -1, board == 0]
        )
        assert flat[planes.BLACK].all() == flat[planes.BLACK].any() == (sign == 1)
        assert flat[planes.ONES].all()
        legal = [each for each in state.legal_actions() if each < size**2]
        assert np.flatnonzero(flat[planes.LEGALITY]).tolist() == legal
        liberties, since = (decode(found, f, 1) for f in (planes.LIBERTIES, planes.TURNS_SINCE))
        captures = decode(found, planes.CAPTURES, 0)
        own, after = (decode(found, f, 1) for f in (planes.SELF_ATARI, planes.LIBERTIES_AFTER))
        history = state.history()
        for point in range(size**2):
            if board[point]:
                assert liberties[point] == min(len(group_of(board, point, size)[1]), 8)
                turns = len(history) - max(t for t, move in enumerate(history) if move == point)
                assert since[point] == min(turns, 8)
            else:
                assert liberties[point] == since[point] == -1
            if point not in legal:
                assert captures[point] == own[point] == after[point] == -1
                continue
            child = state.child(point)
            then = board_of(game, child) * sign
            stones, free = group_of(then, point, size)
            assert captures[point] == min((board == -1).sum() - (then == -1).sum(), 7)
            assert after[point] == min(len(free), 8)
            assert own[point] == (min(len(stones), 8) if len(free) == 1 else -1)
        for point in np.flatnonzero(flat[planes.KO]):
            assert board[point] == 0
            assert point not in legal
            assert history[-1] in group_neighbours(point, size), "a ko is beside the last move"
        state.apply_action(int(rng.choice(state.legal_actions()[:-1] or [size**2])))


def group_neighbours(point, size):
    row, column = divmod(int(point), size)
    around = ((row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1))
    return [r * size + c for r, c in around if 0 <= r < size and 0 <= c < size]


def by_hand(text, legal=None, ages=None):
    """A position from rows of O (own), X (opponent) and dots."""
    signs = {"O": 1, "X": -1, ".": 0}
    stones = np.array([[signs[each] for each in "".join(text.split())]], np.int8)
    return GoPositions(
        stones,
        np.full(stones.shape, 8, np.uint8) if ages is None else ages,
        stones == 0 if legal is None else legal,
        np.array([True]),
    )


def test_a_move_that_captures_two_groups_and_joins_two():
    position = by_hand("""
        .XO..
        XO...
        O....
        .....
        .....
    """)
    found = encode(position, 5)[0].reshape(planes.NUM_PLANES, -1)
    # The corner captures both stones of X and joins nothing; its liberties are their points.
    assert found[planes.CAPTURES + 2, 0]
    assert found[planes.LIBERTIES_AFTER + 2 - 1, 0]
    assert not found[planes.SELF_ATARI : planes.SELF_ATARI + 8, 0].any()
    # (1, 2) joins (0, 2), (1, 1) and itself: liberties (0, 3), (1, 3), (2, 1), (2, 2).
    assert found[planes.LIBERTIES_AFTER + 4 - 1, 7]


def test_only_the_point_of_the_ko_is_on_its_plane():
    game = BoardGame("go(board_size=5)")
    state = game.start()
    for move in (1, 2, 5, 8, 11, 12, 24, 6):
        game.play(state, move)
        assert not game.observe([state])[0][planes.KO].any()
    game.play(state, 7)
    assert np.flatnonzero(game.observe([state])[0][planes.KO]).tolist() == [6]
    for move in (20, 23):
        game.play(state, move)
    assert not game.observe([state])[0][planes.KO].any(), "the point is legal after two moves"


def test_suicide_is_no_ko():
    text = """
        .XO
        XX.
        ...
    """
    suicide = by_hand(text, legal=np.zeros((1, 9), np.bool_))
    found = encode(suicide, 3)[0].reshape(planes.NUM_PLANES, -1)
    assert not found[planes.KO, 0]
    assert found[planes.KO, 5], "an illegal point that is no suicide is a ko"


def test_a_batch_equals_its_rows():
    game = BoardGame("go(board_size=5)")
    rng, state, states = np.random.default_rng(0), game.start(), []
    for _ in range(40):
        states.append(state.clone())
        state.apply_action(int(rng.choice(state.legal_actions()[:-1])))
    together = game.observe(states)
    assert np.array_equal(together, np.concatenate([game.observe([each]) for each in states]))
    assert any((one != other).any() for one, other in pairwise(together))


def test_without_numba_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "numba", None)
    go.compiled.cache_clear()
    with pytest.raises(ConfigurationError, match=r"pip install 'rl_lightning\[go\]'"):
        encode(by_hand("... ... ..."), 3)
