from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from hypothesis import given, settings
from hypothesis import strategies as st

import rl_lightning  # noqa: F401  registers the environment
from rl_lightning.environments.gridworld import GridWorld
from rl_lightning.runtime.errors import ConfigurationError

ODD: dict[str, Any] = {
    "size": [3, 5],
    "walls": [[1, 1], [1, 3]],
    "terminals": [[0, -1]],
    "slip": 0.2,
    "start": [2, 0],
}


@pytest.mark.parametrize("kwargs", [{}, ODD])
@pytest.mark.parametrize("render_mode", [None, "ansi", "rgb_array"])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_gymnasium_accepts_it(kwargs: dict[str, Any], render_mode: str | None) -> None:
    check_env(gym.make("rl_lightning/GridWorld-v0", render_mode=render_mode, **kwargs).unwrapped)


@pytest.mark.parametrize("kwargs", [{}, ODD])
def test_dynamics_agree_with_steps(kwargs: dict[str, Any]) -> None:
    grid = GridWorld(**kwargs)
    grid.reset(seed=0)
    for state in np.flatnonzero(~(grid.terminals | grid.walls)):
        for action in range(4):
            told: dict[Any, float] = {}
            for probability, *outcome in grid.P[state][action]:
                told[tuple(outcome)] = told.get(tuple(outcome), 0.0) + probability
            seen = dict.fromkeys(told, 0)
            for _ in range(500):
                grid._state = state
                next_state, reward, terminated, _, _ = grid.step(np.int64(action))
                seen[int(next_state), reward, terminated] += 1
            for outcome, probability in told.items():
                assert seen[outcome] / 500 == pytest.approx(probability, abs=0.08)


def test_moves_walls_and_borders() -> None:
    grid = GridWorld(size=3, terminals=[[2, 2]], walls=[[0, 1]], start=[0, 0])
    state, _ = grid.reset(seed=0)
    assert state == 0
    assert grid.step(np.int64(1))[0] == 0, "right, into the wall"
    assert grid.step(np.int64(0))[0] == 0, "up, off the grid"
    path = [grid.step(np.int64(action)) for action in (2, 2, 1, 1)]
    assert [int(step[0]) for step in path] == [3, 6, 7, 8]
    assert [step[1] for step in path] == [-1.0] * 4
    assert [step[2] for step in path] == [False, False, False, True]


@settings(max_examples=25, deadline=None)
@given(
    rows=st.integers(1, 6),
    columns=st.integers(2, 6),
    slip=st.sampled_from([0.0, 0.3, 1.0]),
    seed=st.integers(0, 1000),
)
def test_table_and_arrays_agree(rows: int, columns: int, slip: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    cells = [divmod(int(cell), columns) for cell in rng.permutation(rows * columns)]
    walls = cells[2 : 2 + len(cells) // 4]
    grid = GridWorld([rows, columns], terminals=cells[:1], walls=walls, slip=slip, start=cells[1])
    assert set(grid.P) == set(range(rows * columns))
    for state, actions in grid.P.items():
        assert set(actions) == {0, 1, 2, 3}
        for outcomes in actions.values():
            assert sum(p for p, *_ in outcomes) == pytest.approx(1.0)
            for _, successor, reward, terminated in outcomes:
                assert not grid.walls[successor] or grid.walls[state]
                closed = grid.walls[state] or grid.terminals[state]
                assert (successor == state and reward == 0.0 and terminated) or not closed
                assert terminated == bool(grid.terminals[successor] or grid.walls[successor])


def test_episodes_start_in_every_free_cell() -> None:
    grid = GridWorld(size=3, walls=[[1, 1]])
    grid.reset(seed=0)
    starts = {int(grid.reset()[0]) for _ in range(300)}
    assert starts == {1, 2, 3, 5, 6, 7}
    assert grid.initial_state_distrib.sum() == pytest.approx(1.0)
    assert set(np.flatnonzero(grid.initial_state_distrib)) == starts


def test_pictures() -> None:
    ansi = GridWorld(size=[2, 3], walls=[[1, 0]], start=[0, 1], render_mode="ansi")
    ansi.reset(seed=0)
    assert ansi.render() == "TA.\n#.T\n"
    drawn = GridWorld(size=[2, 4], start=[0, 1], render_mode="rgb_array")
    drawn.reset(seed=0)
    picture = drawn.render()
    assert picture.shape == (128, 256, 3)
    assert picture.dtype == np.uint8
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) == 3


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"size": 0}, "size is 0 by 0"),
        ({"slip": 1.5}, "slip is 1.5: choose a probability"),
        ({"terminals": [[4, 0]]}, r"terminals has \[4, 0\]"),
        ({"walls": [3]}, "walls has 3"),
        ({"walls": [[0, 0]]}, "both in terminals and in walls"),
        ({"start": [0, 0]}, "no episode can start"),
        ({"size": [1, 2]}, "no episode can start"),
    ],
)
def test_invalid_grids_are_refused(kwargs: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message) as caught:
        GridWorld(**kwargs)
    assert "\n" not in str(caught.value)
