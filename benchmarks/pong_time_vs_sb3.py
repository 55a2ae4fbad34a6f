"""Wall-clock to a return of 18 on Pong from pixels: A2C compared with Stable-Baselines3's.

    pip install 'rl_lightning[bench]'
    python benchmarks/pong_time_vs_sb3.py --seeds 1 --out docs/runs/pong_time_vs_sb3.csv

The goal is an evaluation in which 16 greedy episodes have a mean return of at least 18, every
102,400 environment steps. `time_to_goal.py` says how time is measured. Ours is
`configs/a2c/pong.yaml` through the command line, with tracking. Theirs has the settings of
rl-baselines3-zoo for Atari: Nature network, 16 copies, 5 steps, TensorFlow's RMSprop. It ends after
1.15 million environment steps. One thread of torch each, no sticky actions. Both run each seed in
turn.
"""

import os
from pathlib import Path

from time_to_goal import TimeToGoal, compare, fit_until, learn_until

GOAL, EPISODES, THREADS, EVERY, MOST_STEPS = 18.0, 16, 1, 102_400, 1_150_000
CONFIG = Path(__file__).resolve().parent.parent / "configs/a2c/pong.yaml"


def ours(seed: int) -> TimeToGoal:
    return fit_until(
        GOAL,
        [
            *("--config", str(CONFIG), "--seed_everything", str(seed)),
            *("--num_threads", str(THREADS), "--trainer.enable_progress_bar", "false"),
            *("--data.eval_episodes", str(EPISODES), "--data.num_eval_envs", str(EPISODES)),
        ],
    )


def theirs(seed: int) -> TimeToGoal:
    import ale_py
    import gymnasium
    import torch
    from stable_baselines3 import A2C
    from stable_baselines3.common.env_util import make_atari_env
    from stable_baselines3.common.evaluation import evaluate_policy
    from stable_baselines3.common.sb2_compat.rmsprop_tf_like import RMSpropTFLike
    from stable_baselines3.common.vec_env import VecFrameStack

    gymnasium.register_envs(ale_py)
    torch.set_num_threads(THREADS)
    settings = {"frameskip": 1, "repeat_action_probability": 0.0}

    def pong(seed: int) -> VecFrameStack:
        copies = make_atari_env("ALE/Pong-v5", n_envs=16, seed=seed, env_kwargs=settings)
        return VecFrameStack(copies, 4)

    # rl-baselines3-zoo, hyperparams/a2c.yml, atari.
    model = A2C(
        "CnnPolicy",
        pong(seed),
        ent_coef=0.01,
        vf_coef=0.25,
        policy_kwargs={"optimizer_class": RMSpropTFLike, "optimizer_kwargs": {"eps": 1e-5}},
        seed=seed,
        device="cpu",
    )
    evaluation = pong(10_000 + seed)

    def evaluate() -> float:
        mean: float = evaluate_policy(model, evaluation, EPISODES)[0]
        print(f"Stable-Baselines3 at {model.num_timesteps} steps: {mean:.1f}", flush=True)
        return mean

    return learn_until(GOAL, model, evaluate, EVERY, MOST_STEPS)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", str(THREADS))
    compare(__doc__.splitlines()[0], ours, theirs)
