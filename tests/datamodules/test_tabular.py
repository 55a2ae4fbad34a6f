from types import SimpleNamespace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

from rl_lightning.cli import main
from rl_lightning.datamodules import TabularDataModule
from rl_lightning.environments.dynamics import (
    check_endings,
    check_outcomes,
    read_initial,
    read_outcomes,
    to_tensors,
)
from rl_lightning.environments.gridworld import GridWorld
from rl_lightning.functional.bellman import Dynamics
from rl_lightning.runtime.errors import ConfigurationError

ENVIRONMENTS: list[tuple[str, dict[str, Any], int, int]] = [
    ("rl_lightning/GridWorld-v0", {"size": [4, 5], "slip": 0.3, "walls": [[1, 1]]}, 20, 4),
    ("FrozenLake-v1", {}, 16, 4),
    ("FrozenLake-v1", {"map_name": "8x8", "is_slippery": False}, 64, 4),
    ("CliffWalking-v1", {}, 48, 4),
    ("Taxi-v4", {}, 500, 6),
    ("Taxi-v4", {"is_rainy": True}, 500, 6),
]


@pytest.mark.parametrize(("env_id", "env_kwargs", "states", "actions"), ENVIRONMENTS)
def test_tensors_equal_the_table(
    env_id: str, env_kwargs: dict[str, Any], states: int, actions: int
) -> None:
    dynamics = TabularDataModule(env_id, env_kwargs=env_kwargs, gamma=0.9).dynamics
    table = gym.make(env_id, **env_kwargs).unwrapped.P  # type: ignore[attr-defined]
    matrix = np.zeros((states, actions, states))
    rewards = np.zeros((states, actions))
    for state in range(states):
        for action in range(actions):
            for probability, successor, reward, terminated in table[state][action]:
                rewards[state, action] += probability * reward
                matrix[state, action, successor] += 0.9 * probability * (not terminated)
    assert dynamics.rewards.dtype == dynamics.transitions.dtype == torch.float64
    np.testing.assert_allclose(dynamics.rewards, rewards)
    dense = dynamics.transitions.to_dense().view(states, actions, states)
    np.testing.assert_allclose(dense, matrix)
    assert dynamics.initial.sum() == pytest.approx(1.0)
    # Duplicates are merged and columns are in order, as the CSR format requires.
    crow, col = dynamics.transitions.crow_indices(), dynamics.transitions.col_indices()
    values, size = dynamics.transitions.values(), dynamics.transitions.shape
    torch.sparse_csr_tensor(crow, col, values, size, check_invariants=True)


def test_arrays_and_table_give_the_same_tensors() -> None:
    grid = GridWorld(size=5, slip=0.2, walls=[[2, 2]])
    only_table = SimpleNamespace(P=grid.P)
    one, other = (
        to_tensors(read_outcomes("grid", env, 25, 4), grid.initial_state_distrib, 4, 0.9)
        for env in (grid, only_table)
    )
    for ours, theirs in zip(one, other, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_an_epoch_is_a_number_of_sweeps_over_the_same_dynamics() -> None:
    data = TabularDataModule("FrozenLake-v1", updates_per_epoch=3)
    loader = data.train_dataloader()
    assert len(loader) == 3
    batches = list(loader)
    assert all(isinstance(batch, Dynamics) for batch in batches)
    moved = [data.transfer_batch_to_device(b, torch.device("cpu"), 0) for b in batches]
    assert moved[0] is moved[1] is moved[2]


def test_the_shape_of_grids_is_read() -> None:
    shapes = [TabularDataModule(i, env_kwargs=kw).grid_shape for i, kw, _, _ in ENVIRONMENTS]
    assert shapes == [(4, 5), (4, 4), (8, 8), (4, 12), None, None]


def table(*outcomes: tuple[Any, ...]) -> dict[int, dict[int, list[tuple[Any, ...]]]]:
    """P of two states and one action, with the given outcomes of state 0. State 1 ends."""
    return {0: {0: list(outcomes)}, 1: {0: [(1.0, 1, 0.0, True)]}}


def check(env: Any) -> None:
    outcomes = read_outcomes("Bad-v0", env, 2, 1)
    check_outcomes("Bad-v0", outcomes, 2, 1)
    check_endings("Bad-v0", outcomes, 2)


@pytest.mark.parametrize(
    ("env", "message"),
    [
        (SimpleNamespace(), "Bad-v0 does not expose its dynamics"),
        (SimpleNamespace(P={0: {}}), r"P\[0\]\[0\] is not a list"),
        (SimpleNamespace(P=table((1.0, 1, 0.0))), r"P\[0\]\[0\] is not a list"),
        (SimpleNamespace(P=table()), "state 0, action 0 sum to 0, not to 1"),
        (
            SimpleNamespace(P=table((0.5, 1, 0.0, True), (0.4, 0, 0.0, False))),
            "state 0, action 0 sum to 0.9, not to 1",
        ),
        (SimpleNamespace(P=table((1.0, 2, 0.0, False))), "state 2: states are 0 to 1"),
        (SimpleNamespace(P=table((1.0, -1, 0.0, False))), "state -1: states are 0 to 1"),
        (
            SimpleNamespace(P=table((1.5, 1, 0.0, True), (-0.5, 0, 0.0, False))),
            "has the probability -0.5: it must be at least 0",
        ),
        (SimpleNamespace(P=table((np.nan, 1, 0.0, True))), "has the probability nan"),
        (SimpleNamespace(P=table((1.0, 1, np.inf, True))), "has the reward inf"),
        (SimpleNamespace(P=table((1.0, 0, -1.0, False))), "from state 0 no episode can end"),
    ],
)
def test_bad_dynamics_are_named_in_one_line(env: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message) as caught:
        check(env)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "outcomes",
    [
        [(1.0, 1, -1.0, False)],
        [(0.9, 0, -1.0, False), (0.1, 1, -1.0, True)],
        [(1.0, 0, 0.0, False)],  # endless, but without reward
    ],
)
def test_sound_dynamics_pass(outcomes: list[tuple[Any, ...]]) -> None:
    check(SimpleNamespace(P=table(*outcomes)))


def test_endings_are_found_from_distant_states() -> None:
    grid = GridWorld(size=60, terminals=[[0, 0]])
    check_endings("grid", grid.transitions(), 3600)
    walled = GridWorld(size=60, terminals=[[0, 0]], walls=[[58, 59], [59, 58]])
    with pytest.raises(ConfigurationError, match="from state 3599 no episode can end"):
        check_endings("grid", walled.transitions(), 3600)


def test_invalid_distributions_of_initial_states_are_refused() -> None:
    env = SimpleNamespace(initial_state_distrib=[0.5, 0.4])
    with pytest.raises(ConfigurationError, match="not a distribution over 2 states"):
        read_initial("Bad-v0", env, 2)
    np.testing.assert_array_equal(read_initial("Bare-v0", SimpleNamespace(), 2), [0.5, 0.5])


@pytest.mark.parametrize(
    ("env_id", "message"),
    [
        ("CartPole-v1", "CartPole-v1 has no finite table"),
        ("test/Leaky-v0", "test/Leaky-v0: the probabilities of state 3, action 1 sum to 0.5"),
    ],
)
def test_the_command_line_prints_the_error_and_writes_no_file(
    env_id: str,
    message: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gym.registry.pop("test/Leaky-v0", None)
    gym.register("test/Leaky-v0", entry_point=Leaky)
    monkeypatch.chdir(tmp_path)
    model = ["--model", "ValueIteration", "--data", "TabularDataModule"]
    assert main(["fit", *model, "--data.init_args.env_id", env_id]) == 2
    error = capsys.readouterr().err
    assert message in error.splitlines()[-1]
    assert "Traceback" not in error
    assert not list(tmp_path.iterdir())


class Leaky(gym.Env[Any, Any]):
    """A grid world in which the probabilities of one action sum to one half."""

    observation_space = gym.spaces.Discrete(16)
    action_space = gym.spaces.Discrete(4)
    P = GridWorld().P | {3: GridWorld().P[3] | {1: [(0.5, 3, -1.0, False)]}}

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[int, dict[str, Any]]:
        super().reset(seed=seed)
        return 0, {}
