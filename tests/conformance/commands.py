"""Runs commands of the conformance tests in processes with limits of memory and time."""

import csv
import logging
import math
import os
import re
import resource
import sys
import warnings
from pathlib import Path
from typing import NamedTuple

import torch

from rl_lightning.cli import main
from small_runs import in_a_process

MEMORY, SECONDS = 12 << 30, 90
COMMON = (
    "--trainer.enable_progress_bar false --trainer.log_every_n_steps 1 "
    "--trainer.logger CSVLogger --trainer.logger.save_dir runs "
    "--data.eval_episodes 2 --data.num_eval_envs 2 --data.updates_per_epoch 3 "
)
REPLAY = (
    "--data ReplayDataModule --data.num_envs 2 --data.env_steps_per_update 2 --data.batch_size 4 "
    "--data.capacity 64 --data.warmup_env_steps 8 --data.n_step 2 "
)
ROLLOUT = "--data RolloutDataModule --data.num_envs 2 "
MINIBATCHES = (
    "--data RolloutMinibatchDataModule --data.num_envs 2 --data.rollout_length 4 --data.passes 2 "
    "--data.minibatches 2 "
)
# As many options as possible are on, so that few cases cover much code.
ALGORITHMS = {
    "DQN": "--model DQN --model.double true --model.dueling true "
    f"--model.hidden_sizes [8] {REPLAY}",
    # SAC refuses more than one step with a learned temperature.
    "SAC": "--model SAC --model.hidden_sizes [8] --model.learn_temperature false "
    f"--model.temperature 0.1 {REPLAY}",
    "A2C": "--model A2C --model.hidden_sizes [8] --model.normalise_returns true "
    f"{ROLLOUT} --data.rollout_length 4",
    "Reinforce": f"--model Reinforce --model.hidden_sizes [8] {ROLLOUT} "
    "--data.episodes_per_update 2",
    "PPO": "--model PPO --model.hidden_sizes [8] --model.normalise_returns true "
    f"--model.shared_body true {MINIBATCHES}",
    "PQN": f"--model PQN --model.dueling true --model.hidden_sizes [8] {MINIBATCHES}",
    "QLearning": f"--model QLearning {REPLAY}",
    "ValueIteration": "--model ValueIteration --data TabularDataModule",
    "PolicyEvaluation": "--model PolicyEvaluation --data TabularDataModule",
}


class Done(NamedTuple):
    """The result of a command."""

    status: int | None  # None if it was killed at the time limit
    out: str
    err: str

    @property
    def error(self) -> str:
        """Its error line without the prefix. Any other output on stderr fails the test."""
        found = re.findall(r"^rl_lightning: error: (.*)$", self.err, re.MULTILINE)
        assert len(found) == 1, f"exit status {self.status}, {self.err}"
        assert "Traceback" not in self.err, self.err
        assert self.err.rstrip().endswith(found[0]), self.err
        return found[0]


def run(folder: Path, subcommand: str, algorithm: str, *arguments: str) -> Done:
    """Run one command in a folder."""
    out, err = folder.parent / f"{folder.name}.out", folder.parent / f"{folder.name}.err"
    given = [*f"{ALGORITHMS[algorithm]} {COMMON}".split(), *arguments]

    def command() -> int:
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        for descriptor, name, path in ((1, "stdout", out), (2, "stderr", err)):
            file = path.open("w")
            os.dup2(file.fileno(), descriptor)
            setattr(sys, name, file)
        show_all_on_stderr()
        return main([subcommand, *given])

    process = in_a_process(folder, command)
    process.join(SECONDS)
    if process.exitcode is None:
        process.kill()
        process.join()
        return Done(None, out.read_text(), f"no end within {SECONDS} s: {err.read_text()}")
    return Done(process.exitcode, out.read_text(), err.read_text())


def show_all_on_stderr() -> None:
    """Print logs and warnings, which pytest captures in the process this one was forked from."""
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, force=True)
    for name in ("lightning", "lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).propagate = True

    def show(message, category, filename, lineno, file=None, line=None) -> None:
        print(f"{category.__name__}: {message}", file=sys.stderr)

    warnings.showwarning = show


def succeed(folder: Path, subcommand: str, algorithm: str, *arguments: str) -> Done:
    """Run a command that must succeed."""
    done = run(folder, subcommand, algorithm, *arguments)
    assert done.status == 0, f"{subcommand} ended with {done.status}: {done.err}"
    assert "Traceback" not in done.err, done.err
    return done


def last_checkpoint(folder: Path) -> Path:
    """The newest last checkpoint. Its weights and statistics must be finite."""
    newest: Path = max(folder.rglob("last.ckpt"), key=lambda path: path.stat().st_mtime_ns)
    for name, values in torch.load(newest, weights_only=True)["state_dict"].items():
        assert values.isfinite().all(), f"{name} of {newest} is not finite"
    return newest


def check_metrics(folder: Path, *needed: str) -> None:
    """Check that all logged metrics are finite and that the needed ones exist."""
    seen = set()
    for path in folder.rglob("metrics.csv"):
        with path.open() as file:
            for row in csv.DictReader(file):
                for name, value in row.items():
                    assert not value or math.isfinite(float(value)), f"{name} is {value}"
                    seen |= {name} if value else set()
    assert seen >= {*needed}, f"{needed} of {seen}"


def train_go_on_and_test(folder: Path, algorithm: str, *arguments: str) -> str:
    """Train two epochs, resume for a third, and test. Returns everything from stderr."""
    first = succeed(folder, "fit", algorithm, *arguments, "--trainer.max_epochs", "2")
    agent = () if "Tabular" in ALGORITHMS[algorithm] else ("train/loss",)
    check_metrics(folder, "val/return", *agent)
    checkpoint = last_checkpoint(folder)
    going_on = ("--trainer.max_epochs", "3", "--ckpt_path", str(checkpoint))
    second = succeed(folder, "fit", algorithm, *arguments, *going_on)
    check_metrics(folder)
    after = last_checkpoint(folder)
    updates = [torch.load(path, weights_only=True)["global_step"] for path in (checkpoint, after)]
    assert after != checkpoint
    assert updates == [6, 9]
    last = succeed(folder, "test", algorithm, *arguments, "--ckpt_path", str(after))
    rows = dict(re.findall(r"(test/\w+)\s+│\s+(\S+)", last.out))
    assert float(rows["test/episodes"]) == 2
    assert all(math.isfinite(float(value)) for value in rows.values()), rows
    assert not [*folder.rglob("*.part")]
    return first.err + second.err + last.err
