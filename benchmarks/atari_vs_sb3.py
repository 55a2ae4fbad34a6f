"""Environment steps per second on Pong from pixels, compared with Stable-Baselines3's.

    pip install 'rl_lightning[bench]'
    python benchmarks/atari_vs_sb3.py --seconds 120 --repeats 3 --out docs/runs/atari_vs_sb3.csv

DQN: both sides have the same replay ratio (one update every four environment steps), batch (32),
network (Nature), optimizer (Adam), replay capacity and number of copies. A2C: both have the
settings of rl-baselines3-zoo for Atari (Nature network, 16 copies, 5 steps, TensorFlow's RMSprop).
Each runs in its own process, in turn, for `--seconds` after its first updates, with `--threads`
threads of torch. Ours runs through the command line, with logging, and also prints the share of
time of each part.
"""

import argparse
import multiprocessing
import os
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning import Callback

from front_door import run_watched
from rl_lightning.tracking.tables import write_table

CONFIGS = Path(__file__).resolve().parent.parent / "configs"
NUM_ENVS, WARMUP, CAPACITY, UNTIMED_UPDATES = 8, 1_000, 20_000, 20
COMMON = "--trainer.max_epochs 1 --trainer.limit_val_batches 0 --trainer.enable_progress_bar false"
OURS = {
    "dqn": f"--config {CONFIGS}/dqn/pong_nature.yaml --data.num_envs {NUM_ENVS} "
    f"--data.capacity {CAPACITY} --data.warmup_env_steps {WARMUP} "
    "--data.updates_per_epoch 10000000 --model.optimizer torch.optim.Adam "
    "--model.optimizer.lr 1e-4 --model.optimizer.fused true",
    "a2c": f"--config {CONFIGS}/a2c/breakout_nature.yaml --data.env_id ALE/Pong-v5 "
    "--data.num_envs 16 --data.rollout_length 5 --data.updates_per_epoch 10000000",
}


class Stopwatch(Callback):
    """Counts environment steps for `seconds` seconds, and the time of each part."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.start, self.spent = seconds, float("inf"), Counter[str]()

    def on_train_start(self, trainer: Any, module: Any) -> None:
        data = trainer.datamodule
        self._time(data.collector.envs, "step", "emulation")
        self._time(module, "act", "acting")
        if hasattr(data, "ring"):
            self._time(data.ring, "extend", "replay")
            self._time(data, "sample", "replay")

    def _time(self, owner: Any, name: str, part: str) -> None:
        inner: Callable[..., Any] = getattr(owner, name)

        def timed(*args: Any, **kwargs: Any) -> Any:
            start = time.perf_counter()
            result = inner(*args, **kwargs)
            self.spent[part] += time.perf_counter() - start
            return result

        object.__setattr__(owner, name, timed)

    def on_train_batch_start(self, *_: Any) -> None:
        self._batch = time.perf_counter()

    def on_train_batch_end(self, trainer: Any, module: Any, *_: Any) -> None:
        now, env_steps = time.perf_counter(), trainer.datamodule.collector.env_steps
        self.spent["learning"] += now - self._batch
        if trainer.global_step == UNTIMED_UPDATES:
            self.start, self.first = now, env_steps
            self.spent.clear()
        elif now - self.start > self.seconds:
            self.elapsed, self.steps = now - self.start, env_steps - self.first
            trainer.should_stop = True


def ours(algorithm: str, seconds: float, threads: int) -> tuple[float, dict[str, float]]:
    """Environment steps per second, and the share of time of each part."""
    watch = Stopwatch(seconds)
    run_watched(watch, f"fit {OURS[algorithm]} {COMMON} --num_threads {threads}".split())
    parts = {part: spent / watch.elapsed for part, spent in watch.spent.items()}
    parts["Trainer and the rest"] = 1 - sum(parts.values())
    return watch.steps / watch.elapsed, parts


def theirs(algorithm: str, seconds: float, threads: int) -> tuple[float, dict[str, float]]:
    """Environment steps per second."""
    import ale_py
    import gymnasium
    from stable_baselines3 import A2C, DQN
    from stable_baselines3.common.callbacks import BaseCallback
    from stable_baselines3.common.env_util import make_atari_env
    from stable_baselines3.common.sb2_compat.rmsprop_tf_like import RMSpropTFLike
    from stable_baselines3.common.vec_env import VecFrameStack

    class Watch(BaseCallback):
        start = float("inf")

        def _on_step(self) -> bool:
            now = time.perf_counter()
            if self.start == float("inf") and self.num_timesteps > WARMUP + 100:
                self.start, self.first = now, self.num_timesteps
            self.elapsed = now - self.start
            return self.elapsed < seconds

    gymnasium.register_envs(ale_py)
    torch.set_num_threads(threads)
    copies = NUM_ENVS if algorithm == "dqn" else 16
    envs = make_atari_env(
        "ALE/Pong-v5",
        n_envs=copies,
        env_kwargs={"frameskip": 1, "repeat_action_probability": 0.0},
    )
    envs = VecFrameStack(envs, 4)
    if algorithm == "dqn":
        model: Any = DQN(
            "CnnPolicy",
            envs,
            learning_rate=1e-4,
            buffer_size=CAPACITY,
            learning_starts=WARMUP,
            batch_size=32,
            train_freq=1,
            gradient_steps=copies // 4,
            target_update_interval=10_000,
            device="cpu",
        )
    else:
        model = A2C(
            "CnnPolicy",
            envs,
            ent_coef=0.01,
            vf_coef=0.25,
            policy_kwargs={"optimizer_class": RMSpropTFLike, "optimizer_kwargs": {"eps": 1e-5}},
            device="cpu",
        )
    watch = Watch()
    model.learn(100_000_000, callback=watch)
    envs.close()
    return (watch.num_timesteps - watch.first) / watch.elapsed, {}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--algorithms", nargs="+", default=["dqn", "a2c"])
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    out, rows = arguments.out.resolve(), []
    spawn = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        for algorithm in arguments.algorithms:
            for repeat in range(arguments.repeats):
                for package, run in (("rl_lightning", ours), ("stable_baselines3", theirs)):
                    with spawn.Pool(1) as alone:
                        given = algorithm, arguments.seconds, arguments.threads
                        speed, parts = alone.apply(run, given)
                    row = {"algorithm": algorithm, "package": package, "repeat": repeat}
                    rows.append({**row, "env_steps_per_second": round(speed, 1)})
                    print(rows[-1], {part: f"{share:.1%}" for part, share in parts.items()})
        os.chdir(out.parent)
    write_table(out, rows)
    for algorithm in arguments.algorithms:
        speeds = {
            package: statistics.median(
                row["env_steps_per_second"]
                for row in rows
                if (row["algorithm"], row["package"]) == (algorithm, package)
            )
            for package in ("rl_lightning", "stable_baselines3")
        }
        ratio = speeds["rl_lightning"] / speeds["stable_baselines3"]
        print(f"{algorithm}, {arguments.threads} threads: {speeds}, ratio {ratio:.2f}")


if __name__ == "__main__":
    main()
