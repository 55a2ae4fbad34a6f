from collections import deque
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lightning import LightningDataModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping

from rl_lightning.datamodules import TabularDataModule
from rl_lightning.environments.dynamics import to_tensors
from rl_lightning.environments.gridworld import MOVES, GridWorld
from rl_lightning.functional.bellman import exact_values, uniform_policy
from rl_lightning.modules import PolicyEvaluation, ValueIteration
from rl_lightning.runtime.errors import ConfigurationError
from specs import spec

Array = npt.NDArray[Any]


def fit(module: ValueIteration, data: LightningDataModule, **kwargs: Any) -> Trainer:
    """Sweep until the residual is below 1e-10."""
    stop = EarlyStopping(
        "train/residual",
        stopping_threshold=1e-10,
        patience=1000,
        check_on_train_epoch_end=True,
        verbose=False,
    )
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=kwargs.pop("max_epochs", 1000),
        callbacks=[stop],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        limit_val_batches=0,
        **{"enable_checkpointing": False, **kwargs},
    )
    trainer.fit(module, data)
    return trainer


def solve(env_id: str, env_kwargs: dict[str, Any], gamma: float, policy: Array) -> Array:
    """V = (I − γP)⁻¹ R of a deterministic policy [S], from the environment's own table."""
    table = gym.make(env_id, **env_kwargs).unwrapped.P  # type: ignore[attr-defined]
    states = len(policy)
    system, rewards = np.eye(states), np.zeros(states)
    for state, action in enumerate(policy):
        for probability, successor, reward, terminated in table[state][int(action)]:
            rewards[state] += probability * reward
            system[state, successor] -= gamma * probability * (not terminated)
    return np.linalg.solve(system, rewards)


@pytest.mark.parametrize(
    ("env_id", "env_kwargs", "gamma", "start"),
    [
        ("rl_lightning/GridWorld-v0", {"size": 4}, 1.0, -2.0),
        ("rl_lightning/GridWorld-v0", {"size": [5, 7], "slip": 0.2, "walls": [[2, 2]]}, 0.95, None),
        ("FrozenLake-v1", {"map_name": "4x4"}, 0.99, 0.542),
        ("FrozenLake-v1", {"map_name": "8x8"}, 0.99, 0.4146),
        ("CliffWalking-v1", {}, 1.0, -13.0),
        ("Taxi-v4", {}, 0.99, None),
        ("Taxi-v4", {"is_rainy": True}, 0.99, None),
    ],
)
def test_values_solve_the_linear_system_of_the_greedy_policy(
    env_id: str, env_kwargs: dict[str, Any], gamma: float, start: float | None
) -> None:
    data = TabularDataModule(env_id, env_kwargs=env_kwargs, gamma=gamma, updates_per_epoch=50)
    module = ValueIteration(data.environment)
    trainer = fit(module, data)
    states = torch.arange(len(module.action_values))
    values = module.values(states).detach().numpy()
    assert values.dtype == np.float64
    solved = solve(env_id, env_kwargs, gamma, module.act(states).numpy())
    np.testing.assert_allclose(values, solved, atol=1e-6, rtol=0)
    # The policy is greedy in its own values, so it is optimal by Bellman's optimality equation.
    backed_up = module.sweep(data.dynamics).amax(dim=1).detach().numpy()
    np.testing.assert_allclose(backed_up, solved, atol=1e-6, rtol=0)
    if start is not None:
        begin = float(solved @ data.dynamics.initial.numpy())
        assert begin == pytest.approx(start, abs=1e-3)
    if len(states) <= 1024:
        logged = trainer.callback_metrics["train/greedy_value"].item()
        assert logged == pytest.approx(solved @ data.dynamics.initial.numpy(), abs=1e-6)


def test_every_sweep_is_an_update_and_the_residual_stops_it() -> None:
    data = TabularDataModule("rl_lightning/GridWorld-v0", gamma=1.0, updates_per_epoch=2)
    trainer = fit(ValueIteration(data.environment), data)
    # A cell is at most 3 moves from a corner, 4 after a wrong move, so sweep 5 changes nothing.
    assert trainer.global_step == 6
    assert trainer.current_epoch == 3
    assert trainer.callback_metrics["train/residual"] == 0.0
    assert trainer.callback_metrics["train/sweeps"] == 6.0


def test_the_random_policy_of_the_lecture() -> None:
    data = TabularDataModule("rl_lightning/GridWorld-v0", gamma=1.0, updates_per_epoch=50)
    module = PolicyEvaluation(data.environment)
    fit(module, data)
    values = module.action_values.detach().mean(dim=1)
    # Sutton and Barto 2018, figure 4.1, k = ∞.
    expected = [[0, -14, -20, -22], [-14, -18, -20, -20], [-20, -20, -18, -14], [-22, -20, -14, 0]]
    torch.testing.assert_close(values.view(4, 4), torch.tensor(expected).double())
    exact = exact_values(data.dynamics, uniform_policy(data.dynamics))
    torch.testing.assert_close(values, exact)


@pytest.mark.parametrize("kind", [ValueIteration, PolicyEvaluation])
def test_an_update_is_exactly_the_bellman_backup_of_the_table_before(
    kind: type[ValueIteration],
) -> None:
    data = TabularDataModule("FrozenLake-v1", gamma=0.9, updates_per_epoch=3)
    module, by_hand = kind(data.environment), kind(data.environment)
    trainer = fit(module, data, max_epochs=1)
    assert trainer.global_step == 3
    for _ in range(3):
        before = by_hand.action_values.detach().clone()
        by_hand.action_values.data = by_hand.sweep(data.dynamics).detach()
    assert torch.equal(module.action_values, by_hand.action_values)
    residual = (by_hand.action_values - before).abs().max().item()
    assert residual > 0
    assert trainer.callback_metrics["train/residual"].item() == pytest.approx(residual)


def test_the_greedy_policy_takes_the_shortest_path_from_every_cell() -> None:
    data = TabularDataModule("rl_lightning/GridWorld-v0", gamma=1.0)
    module = ValueIteration(data.environment)
    fit(module, data)
    for cell in range(1, 15):
        grid = GridWorld(start=divmod(cell, 4))
        state, _ = grid.reset(seed=0)
        total, terminated = 0.0, False
        while not terminated:
            state, reward, terminated, _, _ = grid.step(
                module.act(torch.tensor([state])).numpy()[0]
            )
            total += reward
        row, column = divmod(cell, 4)
        assert total == -min(row + column, 6 - row - column)


@pytest.mark.parametrize(
    ("env_id", "expected"), [("CliffWalking-v1", -13.0), ("FrozenLake-v1", 1.0)]
)
def test_the_test_command_plays_whole_episodes(env_id: str, expected: float) -> None:
    env_kwargs = {"is_slippery": False}
    data = TabularDataModule(env_id, env_kwargs=env_kwargs, eval_episodes=2, num_eval_envs=2)
    module = ValueIteration(data.environment)
    trainer = fit(module, data)
    (result,) = trainer.test(module, data, verbose=False)
    assert result["test/return"] == expected
    assert result["test/return_std"] == 0.0


@settings(max_examples=20, deadline=None)
@given(rows=st.integers(2, 7), columns=st.integers(2, 7), seed=st.integers(0, 1000))
def test_values_are_distances_in_any_maze(rows: int, columns: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    cells = [divmod(int(cell), columns) for cell in rng.permutation(rows * columns)]
    grid = GridWorld([rows, columns], terminals=cells[:1], walls=cells[2 : 2 + len(cells) // 3])
    gamma = 0.9
    dynamics = to_tensors(grid.transitions(), grid.initial_state_distrib, 4, gamma)
    module = ValueIteration(spec("maze", (), num_observations=rows * columns, num_actions=4))
    for _ in range(300):
        module.action_values.data = module.sweep(dynamics).detach()
    distance = distances(grid)
    for state, value in enumerate(module.values(torch.arange(rows * columns)).tolist()):
        if grid.walls[state]:
            assert value == 0.0
        else:
            moves = distance.get(state, np.inf)  # −1 for ever if no terminal can be reached
            assert value == pytest.approx(-(1 - gamma**moves) / (1 - gamma))


def distances(grid: GridWorld) -> dict[int, int]:
    """The number of moves to the nearest terminal cell, by breadth-first search."""
    rows, columns = grid.shape
    found = {int(cell): 0 for cell in np.flatnonzero(grid.terminals)}
    queue = deque(found)
    while queue:
        row, column = divmod(queue[0], columns)
        for down, right in MOVES:
            near = (row + down, column + right)
            cell = near[0] * columns + near[1]
            inside = 0 <= near[0] < rows and 0 <= near[1] < columns
            if inside and cell not in found and not grid.walls[cell]:
                found[cell] = found[queue[0]] + 1
                queue.append(cell)
        queue.popleft()
    return found


def test_a_run_resumes_from_its_checkpoint(tmp_path: Path) -> None:
    def data() -> TabularDataModule:
        return TabularDataModule("FrozenLake-v1", updates_per_epoch=10)

    through = ValueIteration(data().environment)
    fit(through, data(), max_epochs=4)
    first = fit(ValueIteration(data().environment), data(), max_epochs=2)
    path = tmp_path / "last.ckpt"
    first.save_checkpoint(path)

    resumed = ValueIteration(data().environment)
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=4,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_val_batches=0,
    )
    trainer.fit(resumed, data(), ckpt_path=path)
    assert trainer.global_step == 40
    torch.testing.assert_close(resumed.action_values, through.action_values, atol=0, rtol=0)

    alone = ValueIteration.load_from_checkpoint(path, weights_only=True)
    torch.testing.assert_close(alone.action_values, first.lightning_module.action_values)


def test_continuous_observations_and_actions_have_no_table() -> None:
    with pytest.raises(ConfigurationError, match="Pendulum-v1 has no table"):
        ValueIteration(spec("Pendulum-v1", (3,), action_shape=(1,)))
