"""Wall-clock to a solved CartPole-v1: this package's DQN compared with Stable-Baselines3's.

    pip install 'rl_lightning[bench]'
    python benchmarks/dqn_vs_sb3.py --seeds 5 --out docs/runs/dqn_vs_sb3.csv

The goal is a greedy evaluation whose mean over 20 episodes is at least 475. `time_to_goal.py` says
how time is measured. Ours is
`configs/dqn/cartpole.yaml` through the command line, with logging and checkpoints. Theirs has
rl-baselines3-zoo's settings for CartPole-v1. One thread of torch each. Both run each seed in turn.
"""

import statistics
from pathlib import Path
from typing import Any

import torch

from time_to_goal import TimeToGoal, compare, fit_until, learn_until

GOAL, EPISODES, THREADS = 475.0, 20, 1
CONFIG = Path(__file__).resolve().parent.parent / "configs/dqn/cartpole.yaml"


def ours(seed: int) -> TimeToGoal:
    return fit_until(
        GOAL,
        [
            *("--config", str(CONFIG), "--seed_everything", str(seed)),
            *("--num_threads", str(THREADS)),
            *("--data.eval_episodes", str(EPISODES), "--data.num_eval_envs", str(EPISODES)),
        ],
    )


def theirs(seed: int) -> TimeToGoal:
    import gymnasium as gym
    from stable_baselines3 import DQN
    from stable_baselines3.common.evaluation import evaluate_policy
    from stable_baselines3.common.monitor import Monitor

    torch.set_num_threads(THREADS)
    evaluation = Monitor(gym.make("CartPole-v1"))
    evaluation.reset(seed=10_000 + seed)
    # rl-baselines3-zoo, hyperparams/dqn.yml, CartPole-v1.
    model = DQN(
        "MlpPolicy",
        "CartPole-v1",
        learning_rate=2.3e-3,
        batch_size=64,
        buffer_size=100_000,
        learning_starts=1_000,
        gamma=0.99,
        target_update_interval=10,
        train_freq=256,
        gradient_steps=128,
        exploration_fraction=0.16,
        exploration_final_eps=0.04,
        policy_kwargs={"net_arch": [256, 256]},
        seed=seed,
        device="cpu",
    )
    return learn_until(
        GOAL, model, lambda: evaluate_policy(model, evaluation, EPISODES)[0], 2_000, 50_000
    )


def columns(result: TimeToGoal) -> dict[str, Any]:
    return {
        "reached": result.reached,
        "seconds": round(result.seconds, 2),
        "env_steps": result.env_steps,
    }


def main() -> None:
    rows = compare(__doc__.splitlines()[0], ours, theirs, columns, seeds=5)
    medians = {
        name: statistics.median(
            row["seconds"] if row["reached"] else float("inf")
            for row in rows
            if row["package"] == name
        )
        for name in ("rl_lightning", "stable_baselines3")
    }
    ratio = medians["stable_baselines3"] / medians["rl_lightning"]
    print(f"torch threads {THREADS}; medians {medians}; ratio {ratio:.1f}")


if __name__ == "__main__":
    main()
