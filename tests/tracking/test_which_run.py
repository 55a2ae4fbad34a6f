"""Which run `last`, `best` and the printed `Next` mean."""

import os
import shlex
from pathlib import Path

import pytest
import torch
import yaml

import small_runs
from rl_lightning.cli import main

NAME, EXPERIMENT = "value_iteration/frozenlake", Path("runs/value_iteration-FrozenLake-v1")
A2C = Path("runs/a2c-CartPole-v1")
ONE_EPOCH = ("--trainer.max_epochs", "1")
OF_A_STUDY = ("--trainer.logger.tags", '{"study": "s", "mlflow.parentRunId": "0"}')
TRACKER = "rl_lightning.tracking.mlflow_tracker.MLflowTracker"


def fit(name, *arguments):
    """The folder of a new or resumed run: the one with the newest configuration."""
    assert small_runs.fit(name, *arguments) == 0
    return max(Path("runs").glob("*/*/config.yaml"), key=lambda path: path.stat().st_mtime).parent


def epochs(run):
    return torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["epoch"] + 1


def next_command(printed):
    (following,) = [line for line in printed.splitlines() if line.startswith("Next: ")]
    words = shlex.split(following.removeprefix("Next: "))
    assert words[:3] == ["python", "-m", "rl_lightning"]
    return words[3:]


@pytest.mark.usefixtures("store")
def test_runs_of_a_study_are_never_last_or_best(working_folder, capsys):
    ours = fit("a2c/cartpole", *ONE_EPOCH)
    before = next_command(capsys.readouterr().out)
    trial = fit("a2c/cartpole", *ONE_EPOCH, *OF_A_STUDY, "--seed_everything", "2")
    assert trial != ours
    assert main(before) == 0
    assert small_runs.fit("a2c/cartpole", "--ckpt_path", "last", "--trainer.max_epochs", "2") == 0
    assert (epochs(ours), epochs(trial)) == (2, 1)
    config = str(small_runs.CONFIGS / "a2c/cartpole.yaml")
    given = [*small_runs.EXPERIMENTS["a2c/cartpole"].split(), "--ckpt_path", "best"]
    capsys.readouterr()
    assert main(["predict", "--config", config, *given]) == 0
    assert (ours / "episodes").exists()
    assert not (trial / "episodes").exists()


@pytest.mark.usefixtures("store")
def test_without_a_run_of_the_user_last_is_refused(working_folder, capsys):
    fit(NAME, *ONE_EPOCH, *OF_A_STUDY)
    assert small_runs.fit(NAME, *ONE_EPOCH, "--ckpt_path", "last") == 2
    assert "runs of seeds and sweep do not count" in capsys.readouterr().err


@pytest.mark.usefixtures("store")
def test_a_resumed_run_is_the_latest_one(working_folder):
    first, second = fit(NAME, *ONE_EPOCH), fit(NAME, *ONE_EPOCH)
    resumed = str(first / "checkpoints" / "last.ckpt")
    assert fit(NAME, "--trainer.max_epochs", "2", "--ckpt_path", resumed) == first
    os.utime(second / "checkpoints" / "last.ckpt")  # as if it had gone on in parallel
    assert fit(NAME, "--trainer.max_epochs", "3", "--ckpt_path", "last") == first
    assert (epochs(first), epochs(second)) == (3, 1)


@pytest.mark.usefixtures("store")
def test_best_of_a_run_without_one_is_refused(working_folder, capsys):
    fit("a2c/cartpole", *ONE_EPOCH)
    blind = ("--trainer.callbacks", "null", "--trainer.limit_val_batches", "0")
    latest = fit("a2c/cartpole", *ONE_EPOCH, *blind)
    capsys.readouterr()
    assert small_runs.fit("a2c/cartpole", *blind, "--ckpt_path", "best") == 2
    assert f"--ckpt_path {latest}/checkpoints/last.ckpt" in capsys.readouterr().err


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize(
    ("change", "flag"),
    [
        ("--model.optimizer.lr 0.1", "model.optimizer.lr was 0.01 and is 0.1"),
        ("--seed_everything 5", "seed_everything was 1 and is 5"),
        ("--model.gae_lambda 0.5", "model.gae_lambda was 0.98 and is 0.5"),
    ],
)
def test_a_resume_with_other_hyperparameters_is_refused(change, flag, working_folder, capsys):
    run = fit("a2c/cartpole", *ONE_EPOCH)
    before = (run / "config.yaml").read_bytes(), (run / "checkpoints/last.ckpt").read_bytes()
    capsys.readouterr()
    assert small_runs.fit("a2c/cartpole", *change.split(), "--ckpt_path", "last") == 2
    assert flag in capsys.readouterr().err
    assert before == (
        (run / "config.yaml").read_bytes(),
        (run / "checkpoints/last.ckpt").read_bytes(),
    )


@pytest.mark.usefixtures("store")
def test_other_settings_of_a_resume_are_named(working_folder, monkeypatch):
    run = fit("a2c/cartpole", *ONE_EPOCH)
    said = []
    monkeypatch.setattr("rl_lightning.tracking.asked_checkpoint.rank_zero_info", said.append)
    longer = ("--ckpt_path", "last", "--trainer.max_epochs")
    assert fit("a2c/cartpole", *longer, "2") == run
    assert said == [f"--ckpt_path last is {run}/checkpoints/last.ckpt"]
    assert fit("a2c/cartpole", *longer, "3", "--data.eval_episodes", "4") == run
    assert said[2:] == ["The resumed run changes: data.eval_episodes was 2 and is 4"]


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize(
    ("name", "flags", "kind"),
    [
        (NAME, "", "last"),
        ("a2c/cartpole", "", "best-epoch=0"),
        ("a2c/cartpole", "--trainer.callbacks null --trainer.limit_val_batches 0", "last"),
        ("a2c/cartpole", "--trainer.logger false", "best-epoch=0"),
        (
            "a2c/cartpole",
            "--trainer.logger CSVLogger --trainer.logger.save_dir runs "
            f"--trainer.logger+ {TRACKER}",
            "best-epoch=0",
        ),
        (
            "a2c/cartpole",
            "--trainer.callbacks ModelCheckpoint --trainer.callbacks.monitor val/length "
            "--trainer.callbacks.filename own",
            "own",
        ),
        (
            "a2c/cartpole",
            "--trainer.callbacks ModelCheckpoint --trainer.callbacks.every_n_train_steps 3 "
            "--trainer.callbacks.filename every",
            "best-epoch=0",
        ),
        ("a2c/cartpole", "--checkpoint.filename mine --checkpoint.save_last true", "mine"),
        ("alphago/self_play", "", "last"),
    ],
)
def test_the_next_command_runs_and_tests_a_checkpoint_of_this_run(
    name, flags, kind, working_folder, capsys
):
    assert small_runs.fit(name, *ONE_EPOCH, *flags.split()) == 0
    lines = capsys.readouterr().out.splitlines()
    following = next_command("\n".join(lines))
    checkpoint = Path(following[-1])
    assert checkpoint.stem == kind
    folder, *names = lines[-2].removeprefix("Run: ").split()
    assert checkpoint in {Path(folder.removesuffix(":"), each) for each in names}
    assert len(names) == len({*names})
    if kind == "own":
        assert "val/length" in lines[-3]
    assert main(following) == 0


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ("--trainer.fast_dev_run true", "Run: no file was written"),
        ("--trainer.enable_checkpointing false", "no checkpoint was written"),
    ],
)
def test_without_a_checkpoint_there_is_no_next_command(flags, says, working_folder, capsys):
    assert small_runs.fit("a2c/cartpole", *ONE_EPOCH, *flags.split()) == 0
    printed = capsys.readouterr().out
    assert says in printed
    assert "Next: " not in printed
    assert ("no file" not in says) == bool([*working_folder.iterdir()])


def test_runs_without_a_logger_share_no_folder(working_folder):
    for lr in ("0.1", "0.2"):
        rate = ("--model.optimizer.lr", lr)
        assert small_runs.fit("a2c/cartpole", *ONE_EPOCH, *rate, "--trainer.logger", "false") == 0
    configs = [yaml.safe_load(path.read_text()) for path in Path("runs").rglob("config.yaml")]
    rates = {each["model"]["init_args"]["optimizer"]["init_args"]["lr"] for each in configs}
    assert rates == {0.1, 0.2}
    assert len([*Path("runs").rglob("last.ckpt")]) == 2
