"""Random wrong command lines of every command are refused in one line and write nothing."""

import contextlib
import io
import random
import shlex

import pytest

import small_runs
from rl_lightning.__main__ import COMMANDS, main
from rl_lightning.cli import CommandLine

CONFIG = str(small_runs.CONFIGS / "a2c/cartpole.yaml")
FLAGS = [
    "--data.num_envs", "--data.env_id", "--data.rollout_length", "--data.gamma",
    "--data.env_kwargs",
    "--data.eval_episodes", "--model.hidden_sizes", "--model.optimizer.lr", "--model.gae_lambda",
    "--model.optimizer", "--model.lr_scheduler", "--model", "--data", "--trainer.max_epochs",
    "--trainer.devices", "--trainer.accelerator", "--trainer.precision", "--trainer.logger",
    "--trainer.logger.tracking_uri", "--trainer.callbacks", "--trainer.strategy", "--ckpt_path",
    "--trainer.gradient_clip_val", "--trainer.limit_val_batches", "--trainer.val_check_interval",
    "--weights_path", "--untrained", "--seed_everything", "--num_threads", "--config",
    "--checkpoint.monitor", "--seeds", "--trials", "--space", "--processes", "--storage", "--name",
    "--nonsense", "-x",
]  # fmt: skip
VALUES = [
    "", "-1", "0", "2.5", "nan", "1e400", "true", "null", "nonsense", "[", "{", "{}", "[1, a]",
    "../..", "/dev/null", "☃", "\n", "torch.nn.Linear", "ALE/Pong-v5", "{a: 1}", "--", "a: b: c",
]  # fmt: skip
NUMBER, SLOW_NUMBER = 40, 500


class BegunError(Exception):
    """Raised where the command would begin."""


def wrong(rng):
    """A command line with one to three random flags."""
    command = rng.choice([*COMMANDS, *COMMANDS, "fitt", "", "--model.helpp"])
    given = [command] if rng.random() > 0.03 else []
    if rng.random() > 0.1:
        given += ["--config", CONFIG]
    for _ in range(rng.choice([1, 1, 2, 3])):
        flag, value = rng.choice(FLAGS), rng.choice(VALUES)
        given += rng.choice([[flag, value], [f"{flag}={value}"], [flag]])
    return given


def complaints(given, folder):
    said, out = io.StringIO(), io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(out):
        try:
            status = main(given)
        except BegunError:
            status = None
        except SystemExit as ended:
            status = ended.code
        except BaseException as error:
            return [f"raised {error!r}"]
    found = [path for path in folder.rglob("*")]
    if "Traceback" in said.getvalue():
        return [said.getvalue()]
    if status is None:
        return []
    if found:
        return [f"wrote {found}"]
    errors = [line for line in said.getvalue().splitlines() if "error: " in line]
    if status not in (0, 2) or len(errors) != bool(status):
        return [f"exit status {status} with {said.getvalue()!r}"]
    return []


@pytest.mark.parametrize("number", [NUMBER, pytest.param(SLOW_NUMBER, marks=pytest.mark.slow)])
def test_a_wrong_command_line_is_refused_in_one_line(number, tmp_path, monkeypatch):
    def begin(self, *args, **kwargs):
        raise BegunError

    monkeypatch.setattr(CommandLine, "_run_subcommand", begin)
    monkeypatch.setattr("rl_lightning.studies.commands._run", begin)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    rng, found = random.Random(number), []
    for case in range(number):
        given = wrong(rng)
        folder = tmp_path / str(case)
        folder.mkdir()
        monkeypatch.chdir(folder)
        if problems := complaints(given, folder):
            found.append(f"{shlex.join(given)}\n    {problems}")
    assert not found, "\n".join(found)
