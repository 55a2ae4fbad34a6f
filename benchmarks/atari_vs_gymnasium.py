"""The native Atari environment compared with Gymnasium's preprocessing and frame stack.

    pip install 'rl_lightning[bench]'
    python benchmarks/atari_vs_gymnasium.py --steps 3000

Both get the same actions, without sticky actions and random no-ops. The script counts differences;
docs/atari.md has the table.
"""

import argparse

import ale_py
import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium.wrappers import AtariPreprocessing, FrameStackObservation

from rl_lightning.environments.atari import PREFIX, make_atari

Frames = npt.NDArray[np.uint8]


def gymnasium_env(env_id: str) -> gym.Env[Frames, int]:
    env = gym.make(env_id, frameskip=1, repeat_action_probability=0.0)
    return FrameStackObservation(AtariPreprocessing(env, noop_max=0), 4, padding_type="zero")


def differs(theirs: Frames, ours: Frames) -> int:
    """Greatest difference of a pixel."""
    return int(np.abs(theirs.astype(int) - ours.astype(int)).max())


def compare(env_id: str, steps: int) -> dict[str, int]:
    """Play `steps` steps in both, and count differences."""
    theirs, ours = gymnasium_env(env_id), make_atari(env_id, 1, noop_max=0)
    rng = np.random.default_rng(0)
    found = dict.fromkeys(
        ("steps", "rewards", "ends", "lives", "first stacks", "stacks", "last frames", "greatest"),
        0,
    )
    found["episodes"] = 1

    def note(what: str, there: Frames, here: Frames) -> None:
        if difference := differs(there, here):
            found[what] += 1
            found["greatest"] = max(found["greatest"], difference)

    there, _ = theirs.reset(seed=1)
    here, _ = ours.reset(seed=1)
    note("first stacks", there, here[0])
    while found["steps"] < steps:
        action = int(rng.integers(ours.single_action_space.n))
        there, reward, terminated, _, info = theirs.step(action)
        here, our_reward, our_terminated, _, our_info = ours.step(np.array([action]))
        found["steps"] += 1
        found["rewards"] += float(reward) != float(our_reward[0])
        found["ends"] += terminated != bool(our_terminated[0])
        found["lives"] += info["lives"] != int(our_info["lives"][0])
        over = terminated or bool(our_terminated[0])
        note("last frames" if over else "stacks", there, here[0])
        if over:
            found["episodes"] += 1
            there, _ = theirs.reset()
            if our_terminated[0]:
                here, *_ = ours.step(np.array([0]))  # the row of the reset
            else:
                here, _ = ours.reset()
            note("first stacks", there, here[0])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=3_000)
    parser.add_argument("--games", nargs="+", default=["Pong", "Breakout", "BeamRider"])
    arguments = parser.parse_args()
    gym.register_envs(ale_py)
    for game in arguments.games:
        print(game, compare(f"{PREFIX}{game}-v5", arguments.steps), flush=True)


if __name__ == "__main__":
    main()
