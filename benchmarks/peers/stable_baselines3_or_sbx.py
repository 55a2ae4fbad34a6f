"""A contender of the league: Stable-Baselines3 or SBX, which have the same interface.

    python stable_baselines3_or_sbx.py PACKAGE WORK SEED

Settings are those of rl-baselines3-zoo where it has the pair, else the package's defaults.
"""

import importlib
import sys
from typing import Any

import gymnasium
from measured import Clock
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy

# Algorithm, environment, copies, settings, goal, environment steps between evaluations, at most.
WORKS: dict[str, tuple[str, str, int, dict[str, Any], float | None, int, int]] = {
    "cartpole_dqn": (
        *("DQN", "CartPole-v1", 1),
        {
            "learning_rate": 2.3e-3,
            "batch_size": 64,
            "buffer_size": 100_000,
            "learning_starts": 1_000,
            "gamma": 0.99,
            "target_update_interval": 10,
            "train_freq": 256,
            "gradient_steps": 128,
            "exploration_fraction": 0.16,
            "exploration_final_eps": 0.04,
            "policy_kwargs": {"net_arch": [256, 256]},
        },
        *(475.0, 2_000, 50_000),
    ),
    "cartpole_ppo": (
        *("PPO", "CartPole-v1", 8),
        {
            "n_steps": 32,
            "batch_size": 256,
            "n_epochs": 20,
            "gae_lambda": 0.8,
            "gamma": 0.98,
            "learning_rate": 1e-3,
            "clip_range": 0.2,
            "ent_coef": 0.0,
        },
        *(475.0, 4_096, 100_000),
    ),
    "cartpole_a2c": ("A2C", "CartPole-v1", 8, {}, 475.0, 4_000, 400_000),
    "pendulum": (
        *("SAC", "Pendulum-v1", 1),
        {"learning_rate": 1e-3},
        *(-200.0, 1_000, 20_000),
    ),
    "halfcheetah_speed": (
        *("SAC", "HalfCheetah-v5", 1),
        {"learning_starts": 1_000},
        *(None, 0, 2_600),
    ),
    "halfcheetah": (
        *("SAC", "HalfCheetah-v5", 1),
        {"learning_starts": 10_000},
        *(5_000.0, 10_000, 80_000),
    ),
}
EPISODES = {"CartPole-v1": 20, "Pendulum-v1": 20, "HalfCheetah-v5": 5}
# Compilation, and the updates after it, before speed is measured.
IGNORED = 1_100


class Until(BaseCallback):
    """Asks the clock after each environment step whether training goes on."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.clock = clock

    def _on_step(self) -> bool:
        return self.clock.goes_on(self.num_timesteps)


def main() -> None:
    package, work, seed = sys.argv[1], sys.argv[2], int(sys.argv[3])
    algorithm, env_id, copies, settings, goal, every, most_steps = WORKS[work]
    import torch

    torch.set_num_threads(1)
    evaluation = make_vec_env(env_id, 1, seed=10_000 + seed)
    constructor = getattr(importlib.import_module(package), algorithm)
    environment = make_vec_env(env_id, copies, seed=seed) if copies > 1 else gymnasium.make(env_id)
    more = {"device": "cpu"} if package == "stable_baselines3" else {}
    model = constructor("MlpPolicy", environment, seed=seed, **settings, **more)

    def evaluate() -> float:
        return float(evaluate_policy(model, evaluation, EPISODES[env_id])[0])

    clock = Clock(goal, evaluate, every, IGNORED if goal is None else 0)
    model.learn(most_steps, callback=Until(clock))
    clock.report()


if __name__ == "__main__":
    main()
