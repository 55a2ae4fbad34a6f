from typing import Any

import pytest
import torch
from lightning import Trainer, seed_everything

from rl_lightning.datamodules import ReplayDataModule, TabularDataModule
from rl_lightning.experience import Exploration, Transitions
from rl_lightning.functional.bellman import best_actions, optimality_sweep
from rl_lightning.modules import QLearning
from specs import spec

SPEC = spec(observation_shape=(), num_observations=3, num_actions=2)


def transitions(*rows: tuple[int, int, float, float, int]) -> Transitions:
    """Transitions from (observation, action, reward, discount, next observation)."""
    observations, actions, rewards, discounts, following = zip(*rows, strict=True)
    return Transitions(
        torch.tensor(observations),
        torch.tensor(actions),
        torch.tensor(rewards),
        torch.tensor(discounts),
        torch.tensor(following),
    )


def update(module: QLearning, batch: Transitions) -> None:
    """One update, without a Trainer."""
    optimizer = module.configure_optimizers()
    optimizer.zero_grad()
    module.loss(batch).backward()
    optimizer.step()


def half(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=0.5)


def test_update_by_hand() -> None:
    module = QLearning(SPEC, optimizer=half)
    module.action_values.data = torch.tensor([[0.0, 2.0], [4.0, 1.0], [3.0, 3.0]]).double()
    update(module, transitions((0, 0, 1.0, 0.5, 1), (2, 1, -1.0, 0.0, 1)))
    # Q(0, 0) → 0 + ½ (1 + ½ · 4 − 0). Q(2, 1) → 3 + ½ (−1 − 3), because its next state is terminal.
    assert module.action_values.tolist() == [[1.5, 2.0], [4.0, 1.0], [3.0, 1.0]]


def test_an_entry_that_is_visited_often_changes_by_the_mean() -> None:
    module = QLearning(SPEC, optimizer=half)
    rewards = (1.0, 1.0, 1.0, 5.0)
    update(module, transitions(*((0, 1, reward, 0.0, 0) for reward in rewards)))
    assert module.action_values.tolist() == [[0.0, 1.0], [0.0, 0.0], [0.0, 0.0]]


def test_explores_by_its_schedule_and_evaluates_greedily() -> None:
    module = QLearning(SPEC, epsilon_start=1.0, epsilon_end=0.0, epsilon_env_steps=100)
    module.action_values.data[:, 1] = 1.0
    observations = torch.zeros(10_000, dtype=torch.int64)
    rng = torch.Generator().manual_seed(0)
    assert (module.act(observations) == 1).all()
    for env_steps, share in ((0, 0.5), (50, 0.75), (100, 1.0), (1000, 1.0)):
        actions = module.act(observations, Exploration(env_steps, rng))
        assert actions.double().mean() == pytest.approx(share, abs=0.02)


@pytest.mark.parametrize(
    ("env_id", "env_kwargs", "gamma", "updates"),
    [
        ("rl_lightning/GridWorld-v0", {"size": 4}, 1.0, 300),
        ("FrozenLake-v1", {"is_slippery": False}, 0.99, 900),
    ],
)
def test_learns_value_iterations_values_from_experience(
    env_id: str, env_kwargs: dict[str, Any], gamma: float, updates: int
) -> None:
    seed_everything(1, verbose=False)
    data = ReplayDataModule(
        env_id,
        env_kwargs=env_kwargs,
        num_envs=16,
        gamma=gamma,
        env_steps_per_update=16,
        batch_size=64,
        capacity=4096,
        warmup_env_steps=64,
        updates_per_epoch=updates,
        eval_episodes=4,
        num_eval_envs=4,
        seed=1,
    )
    module = QLearning(data.environment, epsilon_end=0.1, optimizer=half)
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        log_every_n_steps=100,
    )
    trainer.fit(module, data)

    dynamics = TabularDataModule(env_id, env_kwargs=env_kwargs, gamma=gamma).dynamics
    optimal = torch.zeros_like(dynamics.rewards)
    for _ in range(1000):
        optimal = optimality_sweep(dynamics, optimal)
    learned = module.action_values.detach()
    chosen = learned.argmax(dim=1, keepdim=True)
    assert best_actions(optimal).gather(1, chosen).all()
    # The transitions hold γ as float32, so the values are not exact.
    torch.testing.assert_close(learned.amax(dim=1), optimal.amax(dim=1), atol=1e-5, rtol=0)
    assert trainer.callback_metrics["train/epsilon"] < 1.0
