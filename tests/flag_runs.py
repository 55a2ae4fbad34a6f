"""Runs of an epoch of four updates, in this process, and what they did."""

import contextlib
import csv
import io
import logging
import shlex
from pathlib import Path
from typing import Any

import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

from flag_rows import CLASSIFIERS, UPDATES, Run
from rl_lightning.callbacks.safeguards import Safeguards
from rl_lightning.cli import main
from sgf_samples import SAMPLE

EVALUATION = f"--data.eval_episodes 2 --data.num_eval_envs 2 --data.updates_per_epoch {UPDATES}"
REPLAY = (
    f"--data ReplayDataModule {EVALUATION} --data.num_envs 2 --data.env_steps_per_update 2 "
    "--data.batch_size 4 --data.capacity 64 --data.warmup_env_steps 8 "
)
ROLLOUT = f"--data RolloutDataModule {EVALUATION} --data.num_envs 2 "
MINIBATCHES = (
    f"--data RolloutMinibatchDataModule {EVALUATION} --data.num_envs 2 --data.rollout_length 4 "
    "--data.passes 2 --data.minibatches 2 "
)
CARTPOLE = "--data.env_id CartPole-v1 --data.env_kwargs.max_episode_steps 10 "
PENDULUM = "--data.env_id Pendulum-v1 --data.env_kwargs.max_episode_steps 10 "
LAKE = "--data.env_id FrozenLake-v1 --data.env_kwargs.max_episode_steps 10 "
MNIST = (
    "--data MNISTDataModule --data.data_dir {mnist} --data.validation_images 20 "
    "--data.batch_size 20 "
)
EXPERT_GAMES = (
    f"--data ExpertGamesDataModule --data.path {SAMPLE} --data.updates_per_epoch {UPDATES} "
    "--data.validation_share 0.2 --data.test_share 0.2 --data.batch_size 24 "
)
BOARD_GAME = (
    f"--data.game tic_tac_toe --data.updates_per_epoch {UPDATES} --data.eval_games 4 "
    "--data.num_simulations 4 --data.predict_games 1 "
)
SELF_PLAY = (
    f"--data SelfPlayDataModule {BOARD_GAME} --data.games_per_update 4 "
    "--data.test_opponents [start] "
)
POSITIONS = (
    f"--data SelfPlayPositionsDataModule {BOARD_GAME} --data.games_per_update 4 "
    "--data.batch_size 8 --data.eval_positions 6 --data.test_opponents [policy] "
)
BOARD_NETWORK = "--model.num_layers 2 --model.num_filters 4 "
NETWORK = "--model.hidden_sizes [8] "
MODULES = {
    "DQN": "--model DQN " + NETWORK,
    "SAC": "--model SAC " + NETWORK,
    "A2C": "--model A2C " + NETWORK,
    "Reinforce": "--model Reinforce " + NETWORK,
    "PPO": "--model PPO " + NETWORK,
    "PQN": "--model PQN " + NETWORK,
    "QLearning": "--model QLearning --model.initial_value 1.0 ",
    "ValueIteration": "--model ValueIteration",
    "PolicyEvaluation": "--model PolicyEvaluation",
    "RecurrentAttentionModel": "--model RecurrentAttentionModel --model.network.num_glimpses 2 "
    "--model.network.glimpse_size 4 --model.network.hidden_size 8",
    "FullyConnectedClassifier": "--model FullyConnectedClassifier --model.hidden_size 8",
    "SupervisedPolicy": "--model SupervisedPolicy " + BOARD_NETWORK,
    "SelfPlayPolicy": "--model SelfPlayPolicy " + BOARD_NETWORK,
    "GameValue": "--model GameValue " + BOARD_NETWORK,
    "ConvolutionalClassifier": "--model ConvolutionalClassifier --model.hidden_size 8",
}
DATA = {
    "DQN": REPLAY + CARTPOLE,
    "SAC": REPLAY + PENDULUM,
    "A2C": ROLLOUT + CARTPOLE + "--data.rollout_length 4",
    "Reinforce": ROLLOUT + CARTPOLE + "--data.episodes_per_update 2",
    **dict.fromkeys(("PPO", "PQN"), MINIBATCHES + CARTPOLE),
    "QLearning": REPLAY + LAKE,
    "ValueIteration": f"--data TabularDataModule {EVALUATION} {LAKE}",
    "SupervisedPolicy": EXPERT_GAMES,
    "SelfPlayPolicy": SELF_PLAY,
    "GameValue": POSITIONS,
    **dict.fromkeys(CLASSIFIERS, MNIST),
}
COMMON = (
    "--trainer.max_epochs 1 --trainer.log_every_n_steps 1 --trainer.enable_progress_bar false "
    "--glimpse_pictures.every_n_epochs 100000 "
)


class Recorder:
    """Counts what happens in a run, from the hooks of a callback that every run has."""

    def __init__(self, monkeypatch: Any) -> None:
        self.trainer: Any = None
        self.counts = dict.fromkeys(("updates", "batches", "validations", "sanity_checks"), 0)
        self.norms: list[float] = []
        self.largest: list[float] = []
        self.dtypes: set[str] = set()
        self.inference: set[bool] = set()
        self.anomaly: set[bool] = set()
        for hook in ("setup", "on_train_batch_end", "on_validation_start"):
            self._record(monkeypatch, hook)

    def _record(self, monkeypatch: Any, hook: str) -> None:
        before = getattr(Safeguards, hook)

        def then(callback: Any, trainer: Any, module: Any, *args: Any, **kwargs: Any) -> None:
            getattr(self, hook)(trainer, module)
            before(callback, trainer, module, *args, **kwargs)

        monkeypatch.setattr(Safeguards, hook, then)

    def setup(self, trainer: Any, module: Any) -> None:
        self.trainer = trainer

    def on_train_batch_end(self, trainer: Any, module: Any) -> None:
        self.counts["batches"] += 1
        self.dtypes |= {str(each.dtype).removeprefix("torch.") for each in module.parameters()}
        self.anomaly.add(torch.is_anomaly_enabled())

    def on_validation_start(self, trainer: Any, module: Any) -> None:
        self.counts["sanity_checks" if trainer.sanity_checking else "validations"] += 1
        self.inference.add(torch.is_inference_mode_enabled())

    def step(self, optimizer: Any, *_: Any) -> None:
        self.counts["updates"] += 1
        parameters = [each for group in optimizer.param_groups for each in group["params"]]
        gradients = [each.grad for each in parameters if each.grad is not None]
        if gradients:
            self.norms.append(sum(float(each.square().sum()) for each in gradients) ** 0.5)
            self.largest.append(max(float(each.abs().max()) for each in gradients))


def run(arguments: str, algorithm: str, monkeypatch: Any, subcommand: str = "fit") -> Run:
    """Run one command line in the working folder."""
    folder, printed = Path.cwd(), io.StringIO()
    # Lightning adds no handler of its own where a test runner has one already.
    logger, said = logging.getLogger("lightning.pytorch"), logging.StreamHandler(printed)
    logger.addHandler(said)
    with monkeypatch.context() as patched:
        recorder = Recorder(patched)
        handle = register_optimizer_step_post_hook(recorder.step)
        try:
            with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
                status = main([subcommand, *shlex.split(arguments)])
        finally:
            handle.remove()
            logger.removeHandler(said)
    logged: list[Any] = []
    for path in folder.rglob("metrics.csv"):
        with path.open() as file:
            logged += csv.DictReader(file)
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    return Run(
        algorithm, status, recorder.trainer, printed=printed.getvalue(), files=files,
        logged=logged, folder=folder, norms=recorder.norms, largest=recorder.largest,
        dtypes=recorder.dtypes, inference=recorder.inference, anomaly=recorder.anomaly,
        **recorder.counts,
    )  # fmt: skip


def error_of(done: Run) -> str:
    """The one line of an error, without its prefix; what else it may be fails the test."""
    lines = [line for line in done.printed.splitlines() if "rl_lightning" in line]
    assert len(lines) == 1, done.printed
    assert lines[0].startswith("rl_lightning: error: "), done.printed
    assert "Traceback" not in done.printed
    return lines[0].removeprefix("rl_lightning: error: ")
