"""Wall-clock to a return of 5,000 on HalfCheetah-v5: SAC compared with Stable-Baselines3's.

    pip install 'rl_lightning[bench,mujoco]'
    python benchmarks/sac_time_vs_sb3.py --seeds 1 --out docs/runs/sac_time_vs_sb3.csv

The goal is an evaluation in which 5 greedy episodes have a mean return of at least 5,000, every
10,000 environment steps. `time_to_goal.py` says how time is measured. Ours is
`configs/sac/halfcheetah.yaml` through the command line, with tracking: eight environment copies,
minibatches of 128 and an update for every second environment step. Theirs has that package's
defaults, with the 10,000 steps of warm-up of rl-baselines3-zoo: one copy, minibatches of 256 and an
update for every step. One thread of torch each. Both run each seed in turn.
"""

import os
from pathlib import Path

from time_to_goal import TimeToGoal, compare, fit_until, learn_until

GOAL, EPISODES, THREADS, MOST_STEPS = 5_000.0, 5, 1, 80_000
CONFIG = Path(__file__).resolve().parent.parent / "configs/sac/halfcheetah.yaml"


def ours(seed: int) -> TimeToGoal:
    return fit_until(
        GOAL,
        [
            *("--config", str(CONFIG), "--seed_everything", str(seed)),
            *("--num_threads", str(THREADS), "--trainer.enable_progress_bar", "false"),
        ],
    )


def theirs(seed: int) -> TimeToGoal:
    import gymnasium as gym
    import torch
    from stable_baselines3 import SAC
    from stable_baselines3.common.evaluation import evaluate_policy
    from stable_baselines3.common.monitor import Monitor

    torch.set_num_threads(THREADS)
    evaluation = Monitor(gym.make("HalfCheetah-v5"))
    evaluation.reset(seed=10_000 + seed)
    model = SAC("MlpPolicy", "HalfCheetah-v5", learning_starts=10_000, seed=seed, device="cpu")

    def evaluate() -> float:
        mean: float = evaluate_policy(model, evaluation, EPISODES)[0]
        print(f"Stable-Baselines3 at {model.num_timesteps} steps: {mean:.0f}", flush=True)
        return mean

    return learn_until(GOAL, model, evaluate, 10_000, MOST_STEPS)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", str(THREADS))
    compare(__doc__.splitlines()[0], ours, theirs)
