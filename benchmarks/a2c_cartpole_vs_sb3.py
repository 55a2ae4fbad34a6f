"""A2C on CartPole-v1 compared with Stable-Baselines3's: steps per second, and time to solve.

    pip install 'rl_lightning[bench]'
    python benchmarks/a2c_cartpole_vs_sb3.py --seeds 5 --out docs/runs/a2c_cartpole_vs_sb3.csv

The goal is an evaluation in which 100 greedy episodes have a mean return of at least 475.
`time_to_goal.py` says how time is measured. Ours is `configs/a2c/cartpole.yaml` through the command
line, with tracking, evaluated after every epoch. Theirs has that package's defaults and 8 copies,
and is evaluated every 4,000 steps by the same code. Environment steps per second are over the same
time. One thread each. Both run each seed in turn.
"""

import statistics
from pathlib import Path
from typing import Any

import torch

from time_to_goal import TimeToGoal, compare, fit_until, learn_until

GOAL, EPISODES, MOST_STEPS = 475.0, 100, 400_000
CONFIG = Path(__file__).resolve().parent.parent / "configs/a2c/cartpole.yaml"


def ours(seed: int) -> TimeToGoal:
    return fit_until(
        GOAL,
        [
            *("--config", str(CONFIG), "--seed_everything", str(seed)),
            *("--trainer.enable_progress_bar", "false", "--num_threads", "1"),
            *("--data.eval_episodes", str(EPISODES), "--data.num_eval_envs", str(EPISODES)),
        ],
    )


def theirs(seed: int) -> TimeToGoal:
    from stable_baselines3 import A2C
    from stable_baselines3.common.env_util import make_vec_env

    from rl_lightning.environments.making import EnvironmentMaker
    from rl_lightning.interaction.evaluation import play_episodes

    class Greedy:
        device = torch.device("cpu")

        def act(self, observations: torch.Tensor, exploration: None = None) -> torch.Tensor:
            return torch.from_numpy(model.predict(observations.numpy(), deterministic=True)[0])

    def evaluate() -> float:
        return play_episodes(evaluation, Greedy(), 10_000 + seed).returns.mean().item()

    torch.set_num_threads(1)
    evaluation = EnvironmentMaker("CartPole-v1").make(EPISODES)
    model = A2C("MlpPolicy", make_vec_env("CartPole-v1", 8, seed=seed), seed=seed, device="cpu")
    return learn_until(GOAL, model, evaluate, 4_000, MOST_STEPS)


def columns(result: TimeToGoal) -> dict[str, Any]:
    return {
        "solved": result.reached,
        "seconds": round(result.seconds, 2),
        "env_steps": result.env_steps,
        "env_steps_per_second": round(result.env_steps / result.seconds),
    }


def main() -> None:
    rows = compare(__doc__.splitlines()[0], ours, theirs, columns, seeds=5)
    medians = {}
    for package in ("rl_lightning", "stable_baselines3"):
        own = [row for row in rows if row["package"] == package]
        # A seed that was not solved took longer than any that was.
        seconds = [row["seconds"] if row["solved"] else float("inf") for row in own]
        speed = statistics.median(row["env_steps_per_second"] for row in own)
        medians[package] = (statistics.median(seconds), speed)
        print(f"{package}: median {medians[package][0]:.2f} s to {GOAL:g}, {speed:,.0f} steps/s")
    (our_time, our_speed), (their_time, their_speed) = medians.values()
    print(
        f"{our_speed / their_speed:.1f} times the speed, {their_time / our_time:.1f} times sooner"
    )


if __name__ == "__main__":
    main()
