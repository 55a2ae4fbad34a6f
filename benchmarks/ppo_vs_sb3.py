"""PPO of docs/own_algorithm.md compared with Stable-Baselines3's PPO, with equal settings.

    pip install 'rl_lightning[bench,mujoco]'
    python benchmarks/ppo_vs_sb3.py --environment cartpole --out docs/runs/ppo_cartpole.csv

For each seed both train in a process of their own, with one thread of torch, and then play greedy
episodes. Seconds are those of the whole process, with imports. Seconds of CPU time say what the
training costs also if other processes use the cores. Returns of Stable-Baselines3 are those of its
last policy, and so are ours.
"""

import argparse
import json
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from rl_lightning.tracking.tables import write_table

PAGE = Path(__file__).resolve().parent.parent / "docs" / "own_algorithm.md"
EPISODES = {"cartpole": 100, "halfcheetah": 20}

THEIRS = """
import json, sys
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import VecNormalize

torch.set_num_threads(1)
name, seed, episodes = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
env_id = {"cartpole": "CartPole-v1", "halfcheetah": "HalfCheetah-v5"}[name]
options = dict(seed=seed, device="cpu", gae_lambda=0.95, gamma=0.99, n_epochs=10, clip_range=0.2,
               ent_coef=0.0, vf_coef=0.5, max_grad_norm=0.5)
if name == "cartpole":
    envs = make_vec_env(env_id, 16, seed=seed)
    model = PPO("MlpPolicy", envs, learning_rate=1e-3, n_steps=64, batch_size=256, **options)
    model.learn(102_400)
else:
    envs = VecNormalize(make_vec_env(env_id, 8, seed=seed), gamma=0.99)
    model = PPO("MlpPolicy", envs, learning_rate=3e-4, n_steps=256, batch_size=256,
                policy_kwargs={"log_std_init": -0.5}, **options)
    model.learn(1_024_000)
evaluation = make_vec_env(env_id, 1, seed=seed + 10_000)
if name == "halfcheetah":
    evaluation = VecNormalize(evaluation, training=False, norm_reward=False)
    evaluation.obs_rms = envs.obs_rms
mean, _ = evaluate_policy(model, evaluation, episodes, warn=False)
print(json.dumps({"return": mean}))
"""


def timed(command: list[str], folder: str) -> tuple[str, dict[str, float]]:
    """Output of a command, and its seconds on the wall clock and on the CPU."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "120"}
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    seconds = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        sys.exit(done.stderr)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return done.stdout, {"seconds": round(seconds, 1), "cpu_seconds": round(cpu, 1)}


def ours(name: str, seed: int) -> dict[str, float]:
    from mlflow import MlflowClient

    with tempfile.TemporaryDirectory() as folder:
        blocks = re.findall(r"^```\w+ (\S+)\n(.*?)^```$", PAGE.read_text(), re.M | re.S)
        for file, text in blocks:
            Path(folder, file).write_text(text)
        common = ["--config", f"{name}.yaml", "--seed_everything", str(seed)]
        common += ["--trainer.enable_progress_bar", "false"]
        program = [sys.executable, "-m", "rl_lightning"]
        _, times = timed([*program, "fit", *common], folder)
        episodes = str(EPISODES[name])
        evaluated = ["--data.eval_episodes", episodes, "--data.num_eval_envs", episodes]
        timed([*program, "test", *common, *evaluated, "--ckpt_path", "last"], folder)
        client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
        (run,) = client.search_runs([e.experiment_id for e in client.search_experiments()])
        return {**times, "return": run.data.metrics["test/return"]}


def theirs(name: str, seed: int) -> dict[str, float]:
    command = [sys.executable, "-c", THEIRS, name, str(seed), str(EPISODES[name])]
    output, times = timed(command, ".")
    return times | json.loads(output.strip().splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--environment", choices=EPISODES, required=True)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for seed in range(1, arguments.seeds + 1):
        for who, train in (("rl_lightning", ours), ("stable_baselines3", theirs)):
            rows.append({"who": who, "seed": seed, **train(arguments.environment, seed)})
            print(rows[-1], flush=True)
            write_table(arguments.out, rows)
    for column in ("return", "seconds", "cpu_seconds"):
        medians = [
            statistics.median(row[column] for row in rows if row["who"] == who)
            for who in ("rl_lightning", "stable_baselines3")
        ]
        print(f"median {column}: {medians[0]:,.1f} and {medians[1]:,.1f}")


if __name__ == "__main__":
    main()
