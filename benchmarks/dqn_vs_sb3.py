"""Wall-clock to a solved CartPole-v1: this package's DQN beside Stable-Baselines3's.

    pip install 'rl_lightning[bench]'
    python benchmarks/dqn_vs_sb3.py --seeds 5 --out docs/runs/dqn_vs_sb3.csv

Time is measured from the first environment step to the first greedy evaluation whose mean over 20
episodes is at least 475. The time of evaluations is subtracted on both sides. Ours is
`configs/dqn/cartpole.yaml` through the command line, with logging and checkpoints. Theirs has
rl-baselines3-zoo's settings for CartPole-v1. One thread of torch each. Both run each seed in turn.
"""

import argparse
import csv
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from lightning import Callback

from front_door import run_watched

GOAL, EPISODES, THREADS = 475.0, 20, 1
CONFIG = Path(__file__).resolve().parent.parent / "configs/dqn/cartpole.yaml"


class Stopwatch(Callback):
    """Stops training at the first validation that reaches the goal."""

    def __init__(self) -> None:
        self.evaluating, self.seconds, self.env_steps = 0.0, float("nan"), 0

    def on_train_start(self, *_: Any) -> None:
        self.start = time.perf_counter()

    def on_validation_start(self, *_: Any) -> None:
        self._paused = time.perf_counter()

    def on_validation_end(self, trainer: Any, module: Any) -> None:
        now = time.perf_counter()
        self.evaluating += now - self._paused
        if trainer.callback_metrics["val/return"] >= GOAL:
            self.seconds = now - self.start - self.evaluating
            self.env_steps = trainer.datamodule.collector.env_steps
            trainer.should_stop = True


def ours(seed: int) -> tuple[float, int]:
    watch = Stopwatch()
    run_watched(
        watch,
        [
            *("fit", "--config", str(CONFIG), "--seed_everything", str(seed)),
            *("--num_threads", str(THREADS)),
            *("--data.eval_episodes", str(EPISODES), "--data.num_eval_envs", str(EPISODES)),
        ],
    )
    return watch.seconds, watch.env_steps


def theirs(seed: int) -> tuple[float, int]:
    import gymnasium as gym
    from stable_baselines3 import DQN
    from stable_baselines3.common.callbacks import BaseCallback
    from stable_baselines3.common.evaluation import evaluate_policy
    from stable_baselines3.common.monitor import Monitor

    class UntilSolved(BaseCallback):
        evaluating = 0.0

        def _on_step(self) -> bool:
            if self.num_timesteps == 1:
                self.start = time.perf_counter()
            if self.num_timesteps % 2_000:
                return True
            paused = time.perf_counter()
            mean, _ = evaluate_policy(self.model, evaluation, EPISODES)
            self.evaluating += time.perf_counter() - paused
            self.seconds = time.perf_counter() - self.start - self.evaluating
            self.reached = mean >= GOAL
            return not self.reached

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
    until_solved = UntilSolved()
    model.learn(50_000, callback=until_solved)
    if not until_solved.reached:
        print(f"Stable-Baselines3, seed {seed}: not solved in 50,000 steps", file=sys.stderr)
        return float("inf"), model.num_timesteps
    return until_solved.seconds, model.num_timesteps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    out = arguments.out.resolve()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        for seed in range(1, arguments.seeds + 1):
            for name, run in (("rl_lightning", ours), ("stable_baselines3", theirs)):
                seconds, env_steps = run(seed)
                rows.append({"package": name, "seed": seed, "seconds": round(seconds, 2),
                             "env_steps": env_steps})  # fmt: skip
                print(rows[-1], flush=True)
        os.chdir(out.parent)
    with out.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    medians = {
        name: statistics.median(row["seconds"] for row in rows if row["package"] == name)
        for name in ("rl_lightning", "stable_baselines3")
    }
    ratio = medians["stable_baselines3"] / medians["rl_lightning"]
    print(f"torch threads {THREADS}; medians {medians}; ratio {ratio:.1f}")


if __name__ == "__main__":
    main()
