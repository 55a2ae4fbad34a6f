"""Small runs of every algorithm, which take a second or two, and their files."""

import multiprocessing
import os
import socket
import sys
import time
from pathlib import Path

import numpy as np
import torch
from lightning.pytorch.utilities import rank_zero_only
from mlflow import MlflowClient

from rl_lightning.cli import main
from rl_lightning.experience import Rollout, join_rollouts
from sgf_samples import SAMPLE

CONFIGS = Path(__file__).parent.parent / "configs"
COMMON = "--trainer.max_epochs 3 --trainer.enable_progress_bar false --trainer.log_every_n_steps 3"
COPIES = " --data.num_envs 2 --data.eval_episodes 2 --data.num_eval_envs 2"
EXPERIMENTS = {
    "dqn/cartpole": COPIES + " --data.env_steps_per_update 2 --data.batch_size 16 "
    "--data.updates_per_epoch 15 --data.warmup_env_steps 40 --data.capacity 60 --data.n_step 3 "
    "--data.keep_replay true --model.hidden_sizes [8]",
    "a2c/cartpole": COPIES + " --data.updates_per_epoch 8 --data.rollout_length 8 "
    "--model.hidden_sizes [8] --model.normalise_observations true --model.normalise_returns true "
    "--model.normalise_advantages true",
    "sac/pendulum": COPIES + " --data.env_steps_per_update 1 --data.batch_size 16 "
    "--data.updates_per_epoch 8 --data.warmup_env_steps 40 --data.capacity 60 "
    "--data.keep_replay true --data.priority_exponent 0.6 --model.hidden_sizes [8] "
    "--model.normalise_observations true",
    "a2c/halfcheetah": COPIES + " --data.env_id Hopper-v5 --data.updates_per_epoch 8 "
    "--data.rollout_length 8",
    "reinforce/cartpole_moving_average": COPIES + " --data.episodes_per_update 2 "
    "--data.updates_per_epoch 4",
    "ppo/cartpole": COPIES + " --data.updates_per_epoch 7 --data.rollout_length 8 "
    "--data.minibatches 3 --data.passes 2 --model.hidden_sizes [8] "
    "--model.normalise_observations true --model.normalise_returns true",
    "pqn/cartpole": COPIES + " --data.updates_per_epoch 7 --data.rollout_length 8 "
    "--data.minibatches 3 --data.passes 2 --model.hidden_sizes [8] "
    "--model.normalise_observations true",
    "q_learning/frozenlake": " --data.keep_replay true --data.updates_per_epoch 10",
    "value_iteration/frozenlake": " --data.updates_per_epoch 2",
    "alphago/supervised": f" --data.path {SAMPLE} --data.validation_share 0.2 "
    "--data.test_share 0.2 --data.batch_size 16 --data.updates_per_epoch 7 --model.num_layers 2 "
    "--model.num_filters 4",
    "alphago/self_play": " --data.game tic_tac_toe --data.games_per_update 4 "
    "--data.updates_per_epoch 5 --data.updates_per_snapshot 2 --data.pool_size 3 "
    "--data.random_moves 2 --data.eval_games 4 --model.num_layers 2 --model.num_filters 4",
    "alphago/value": " --data.game go(board_size=4,komi=0.5) --data.games_per_update 3 "
    "--data.updates_per_epoch 5 --data.batch_size 8 --data.capacity 20 --data.eval_positions 6 "
    "--model.num_layers 2 --model.num_filters 4",
    "ram/mnist": " --data.data_dir mnist --data.validation_images 20 --data.batch_size 20 "
    "--model.network.num_glimpses 2 --model.network.hidden_size 8 --model.compiled false",
}


def write_mnist(folder):
    """Write a hundred random training digits and ten test digits in MNIST's format."""
    rng = np.random.default_rng(0)
    folder = folder / "MNIST" / "raw"
    folder.mkdir(parents=True)
    for name, count in (("train", 100), ("t10k", 10)):
        for kind, shape in (("images-idx3", (count, 28, 28)), ("labels-idx1", (count,))):
            header = np.array([0x800 + len(shape), *shape], ">i4").tobytes()
            values = rng.integers(10, size=shape, dtype=np.uint8).tobytes()
            (folder / f"{name}-{kind}-ubyte").write_bytes(header + values)


def fit(name, *arguments):
    config = str(CONFIGS / f"{name}.yaml")
    given = [*EXPERIMENTS[name].split(), *COMMON.split(), *arguments]
    return main(["fit", "--config", config, *given])


def in_a_process(folder, function, *arguments, environment=()):
    """Call a function in a forked process, which starts fast, and return its exit code."""

    def run():
        os.environ.update(environment)
        rank_zero_only.rank = int(
            os.environ.get("RANK", 0)
        )  # Lightning reads it when it is imported
        os.chdir(folder)
        sys.exit(function(*arguments))

    process = multiprocessing.get_context("fork").Process(target=run)
    process.start()
    return process


def on_ranks(world_size, folder, function, *arguments):
    """Call a function in several ranks, with the environment variables that torchrun sets."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": f"{port}",
        "TORCHELASTIC_RUN_ID": "test",
        "WORLD_SIZE": f"{world_size}",
        "LOCAL_WORLD_SIZE": f"{world_size}",
        "GROUP_RANK": "0",
    }
    return [
        in_a_process(
            folder,
            function,
            *arguments,
            environment=common | {"RANK": f"{rank}", "LOCAL_RANK": f"{rank}"},
        )
        for rank in range(world_size)
    ]


def run(folder, world_size, name, flags):
    """Do a small run in a folder and return the exit codes of its ranks."""
    if not folder.exists():
        folder.mkdir()
        write_mnist(folder / "mnist")
    if world_size == 1:
        ranks = [in_a_process(folder, fit, name, *flags.split())]
    else:
        ddp = f"--trainer.accelerator cpu --trainer.devices {world_size} --trainer.strategy ddp "
        ranks = on_ranks(world_size, folder, fit, name, *(ddp + flags).split())
    until = time.monotonic() + 120
    for rank in ranks:
        rank.join(max(0, until - time.monotonic()))
        rank.kill()
        rank.join()
    return [rank.exitcode for rank in ranks]


def outcome(folder):
    """The last checkpoint, the metrics and the replay of the only run in a folder."""
    (run,) = {path.parent.parent for path in folder.glob("runs/*/*/checkpoints/last.ckpt")}
    saved = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    # Paths differ between runs, and Lightning keeps one score that it never reads.
    for state in saved["callbacks"].values():
        for key in [key for key in state if "path" in key or "best_k" in key or "dir" in key]:
            del state[key]
        state.pop("current_score", None)
    replay = []
    for state in saved.get("ReplayDataModule", {}).get("ranks", []):
        segments = [
            Rollout(*torch.load(run / "checkpoints" / "replay" / name, weights_only=True))
            for name, _, _ in state["replay"]
        ]
        # Only the rows of the ring, because their division into files depends on the checkpoints.
        rows = saved["datamodule_hyper_parameters"]["capacity"] // state["num_envs"]
        joined = join_rollouts(segments)
        newest = [joined.observations[-rows - 1 :], *(column[-rows:] for column in joined[1:6])]
        replay.append((state.pop("replay")[-1][2], newest))
    client = MlflowClient(os.environ["MLFLOW_TRACKING_URI"])
    metrics = client.get_run(run.name).data.metrics
    history = {
        key: [(point.step, point.value) for point in client.get_metric_history(run.name, key)]
        for key in metrics
        if not key.startswith("speed/")
    }
    return {"checkpoint": saved, "replay": replay, "history": history}


def differences(one, other, at=""):
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        return [] if torch.equal(one, other) else [at]
    if isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        return [d for key in one for d in differences(one[key], other[key], f"{at}/{key}")]
    if isinstance(one, list | tuple) and isinstance(other, list | tuple) and len(one) == len(other):
        pairs = enumerate(zip(one, other, strict=True))
        return [d for i, (a, b) in pairs for d in differences(a, b, f"{at}/{i}")]
    return [] if one == other or (one != one and other != other) else [f"{at}: {one}, {other}"]
