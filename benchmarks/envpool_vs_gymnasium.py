"""EnvPool compared with Gymnasium: whether the robots are the same, and how fast they step.

    pip install 'rl_lightning[mujoco,envpool]'
    python benchmarks/envpool_vs_gymnasium.py --out docs/runs/envpool_vs_gymnasium.csv

Uniformly random play, the same number of environment copies and steps in both. Compared are the
mean reward of a step, its standard deviation, the length of episodes, and the mean and standard
deviation of each component of the observation. Each environment copy gives one value of each
quantity, so the copies are independent, and the interval of a difference is a 95% interval of
Welch. With 40 to 700 comparisons for each robot, about one in twenty lies outside by chance. So
the table has the share outside, for EnvPool against Gymnasium and for Gymnasium against itself
with another seed. Torch is not used.
"""

import argparse
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium.vector import VectorEnv

from rl_lightning.environments.envpool import make_pooled
from rl_lightning.environments.making import EnvironmentMaker
from rl_lightning.tracking.tables import write_table

ROBOTS = ("HalfCheetah-v5", "Hopper-v5", "Walker2d-v5", "Ant-v5", "Humanoid-v5")
Array = npt.NDArray[np.float64]
Envs = VectorEnv[Any, Any, Any]


def make(engine: str, env_id: str, num_envs: int, num_threads: int = 1) -> Envs:
    maker = EnvironmentMaker(env_id)
    if engine == "gymnasium":
        return maker.make(num_envs)
    return make_pooled(maker, maker.describe(), num_envs, num_threads)


def played(envs: Envs, steps: int, seed: int) -> dict[str, Array]:
    """One value of each quantity for each environment copy, [N] or [N, observation size]."""
    rng = np.random.default_rng(seed)
    low, high = envs.single_action_space.low, envs.single_action_space.high
    observations, _ = envs.reset(seed=seed)
    seen, rewards, ends, mask = [observations], [], [], []
    ended = np.zeros(envs.num_envs, np.bool_)
    for _ in range(steps):
        actions = rng.uniform(low, high, (envs.num_envs, *low.shape)).astype(low.dtype)
        observations, reward, terminated, truncated, _ = envs.step(actions)
        mask.append(~ended)
        ended = terminated | truncated
        seen.append(observations)
        rewards.append(reward)
        ends.append(ended)
    envs.close()
    played_steps = np.array(mask)
    counts = played_steps.sum(0)
    reward_mean = np.array(rewards).sum(0) / counts
    deviations = (np.array(rewards) - reward_mean) * played_steps
    states = np.array(seen[1:])
    return {
        "reward": reward_mean,
        "reward_std": np.sqrt((deviations**2).sum(0) / counts),
        "episode_length": counts / np.maximum(1, np.array(ends).sum(0)),
        "observation": states.mean(0),
        "observation_std": states.std(0),
    }


def outside(one: Array, other: Array) -> npt.NDArray[np.bool_]:
    """Whether the means over environment copies differ by more than a 95% interval."""
    difference = one.mean(0) - other.mean(0)
    error = np.sqrt(one.var(0, ddof=1) / len(one) + other.var(0, ddof=1) / len(other))
    return np.abs(difference) > 1.96 * error + 1e-12


def share_outside(one: dict[str, Array], other: dict[str, Array]) -> tuple[int, int]:
    found = np.concatenate([np.atleast_1d(outside(one[name], other[name])) for name in one])
    return int(found.sum()), len(found)


def interval(values: Array) -> str:
    return f"{values.mean():.3f} ± {1.96 * values.std(ddof=1) / np.sqrt(len(values)):.3f}"


def speed(envs: Envs, steps: int) -> float:
    envs.reset(seed=0)
    actions = envs.action_space.sample()
    start = time.perf_counter()
    for _ in range(steps):
        envs.step(actions)
    seconds = time.perf_counter() - start
    envs.close()
    return steps * envs.num_envs / seconds


def row_of(env_id: str, copies: int, steps: int, repeats: int) -> dict[str, Any]:
    pool, here, again = (
        played(make(engine, env_id, copies), steps, seed)
        for engine, seed in (("envpool", 1), ("gymnasium", 1), ("gymnasium", 2))
    )
    row: dict[str, Any] = {"env_id": env_id}
    for name in ("reward", "reward_std", "episode_length"):
        row |= {f"{name}_envpool": interval(pool[name]), f"{name}_gymnasium": interval(here[name])}
    for name, one, other in (("envpool", pool, here), ("gymnasium_again", again, here)):
        count, of = share_outside(one, other)
        row[f"outside_{name}"] = f"{count} of {of}"
    contenders = (("gymnasium", 1), ("envpool", 1), ("envpool", 2))
    speeds: dict[tuple[str, int], list[float]] = {each: [] for each in contenders}
    for _ in range(repeats):
        for engine, threads in contenders:
            speeds[engine, threads].append(speed(make(engine, env_id, 16, threads), steps))
    for (engine, threads), values in speeds.items():
        row[f"steps_per_second_{engine}_{threads}"] = round(statistics.median(values))
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--copies", type=int, default=64)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    rows = []
    for env_id in ROBOTS:
        rows.append(row_of(env_id, arguments.copies, arguments.steps, arguments.repeats))
        print(rows[-1], flush=True)
    write_table(arguments.out, rows)


if __name__ == "__main__":
    main()
