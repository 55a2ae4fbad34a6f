"""Every command of README and docs runs from an empty folder, with the long ones shortened.

The commands of one configuration share a folder and run in the order of the pages, so `test` and
`predict` find what `fit` has written.
"""

import io
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

from pages import PAGES, all_commands
from rl_lightning.__main__ import STUDIES, main
from rl_lightning.command_line.configurations import find_configuration
from sgf_samples import SAMPLE, write_games
from small_runs import write_mnist

# The flags that shorten a command, by a name that its configuration has.
SHORT = {
    "trainer:": "--trainer.max_epochs 1 --trainer.enable_progress_bar false",
    "updates_per_epoch:": "--data.updates_per_epoch 1",
    "eval_episodes:": "--data.eval_episodes 1 --data.num_eval_envs 1",
    "warmup_env_steps:": "--data.warmup_env_steps 64 --data.capacity 1000",
    "protocol: nature": "--data.env_kwargs.max_num_frames_per_episode 80",
    "games_per_update:": "--data.games_per_update 2 --data.eval_games 2 --data.num_simulations 2",
    "eval_positions:": "--data.eval_positions 2",
    "MNIST": "--data.data_dir mnist --data.validation_images 20 --data.batch_size 20",
    "ExpertGamesDataModule": f"--data.path {SAMPLE} --data.batch_size 8 "
    "--data.validation_share 0.2 --data.test_share 0.2",
    "HalfCheetah": "--data.env_kwargs.max_episode_steps 40",
    "compiled:": "--model.compiled false",
    "num_filters: 64": "--model.num_layers 3 --model.num_filters 32",
}
PROCESSES = (*STUDIES, "--trainer.strategy")  # run as processes of their own
AWAY = ("postgresql", "--trainer.num_nodes")  # need other machines


def configuration(command: str) -> str:
    arguments = shlex.split(command)
    return arguments[arguments.index("--config") + 1]


def chain(command: str) -> str:
    """The name of the commands that need each other's files."""
    return re.sub("^alphago/(supervised|self_play|value)$", "alphago/go", configuration(command))


CHAINS: dict[str, list[str]] = defaultdict(list)
for each in {re.sub(r"configs/(\S+)\.yaml", r"\1", command): None for command in all_commands()}:
    if not any(word in each for word in AWAY):
        CHAINS[chain(each)].append(each)
for commands in CHAINS.values():  # a page may begin with what a trained agent can do
    commands.sort(key=lambda command: command.startswith(("gtp", "predict")))


def shortened(command: str) -> list[str]:
    """The arguments of a command, and after them the flags that shorten it."""
    subcommand, *arguments = shlex.split(command.replace("SEED", "1"))
    settings = Path(find_configuration(configuration(command))).read_text()
    flags = [flag for name, short in SHORT.items() if name in settings for flag in short.split()]
    if subcommand in STUDIES:
        flags += ["--seeds" if subcommand == "seeds" else "--trials", "2"]
    if "board_size=19" in command:
        flags = ["games_19" if flag == str(SAMPLE) else flag for flag in flags]
    return [subcommand, *map(existing, arguments), *flags]


def existing(argument: str) -> str:
    """The argument, or the newest checkpoint if the argument stands for one."""
    if not re.fullmatch(r"\w+\.ckpt|runs/.*….*", argument):
        return argument
    checkpoints = sorted(Path().rglob("last.ckpt"), key=lambda path: path.stat().st_mtime)
    return str(checkpoints[-1])


@pytest.mark.parametrize("name", CHAINS)
def test_the_commands_of_the_pages_run(name, working_folder, monkeypatch, capsys):
    write_mnist(working_folder / "mnist")
    write_games(working_folder / "games_19", 10, board_size=19)
    space = re.search(r"^```yaml\n# space.yaml.*?\n(.*?)^```", PAGES["seeds.md"], re.M | re.S)
    (working_folder / "space.yaml").write_text(space[1])
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{working_folder}/mlflow.db")
    for command in CHAINS[name]:
        if "gnugo" in command and shutil.which("gnugo") is None:
            continue
        arguments = shortened(command)
        if any(word in arguments for word in PROCESSES):
            done = subprocess.run(
                [sys.executable, "-m", "rl_lightning", *arguments],
                env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
                capture_output=True,
                text=True,
            )
            assert done.returncode == 0, f"{command}\n{done.stderr}"
        else:
            monkeypatch.setattr("sys.stdin", io.StringIO("genmove b\nquit\n"))
            assert main(arguments) == 0, f"{command}\n{capsys.readouterr().err}"


def test_the_commands_of_the_pages_are_found():
    subcommands = {command.split()[0] for commands in CHAINS.values() for command in commands}
    assert subcommands == {"fit", "validate", "test", "predict", "seeds", "sweep", "gtp"}
    assert len(CHAINS) > 20
