"""The examples of the pages in docs/ work as they are written."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from rl_lightning.cli import main

ROOT = Path(__file__).parent.parent
SHORT = {
    "own_algorithm.md": [
        *(
            "--trainer.max_epochs",
            "1",
            "--data.updates_per_epoch",
            "6",
            "--data.eval_episodes",
            "2",
        ),
        *("--data.rollout_length", "8", "--data.num_eval_envs", "2"),
    ],
    "own_environment.md": [
        *("--trainer.max_epochs", "1", "--data.updates_per_epoch", "2", "--data.num_envs", "2"),
        *("--data.eval_episodes", "2", "--data.num_eval_envs", "2"),
    ],
}


def files_of(page: str) -> dict[str, str]:
    """The files of a page by name: fenced blocks whose first line names one."""
    blocks = re.findall(r"^```\w+ (\S+)\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    return dict(blocks)


def commands_of(page: str) -> list[list[str]]:
    """The arguments of each command of a page."""
    lines = re.findall(r"^    python -m rl_lightning (.*)$", page, re.MULTILINE)
    return [shlex.split(line, comments=True) for line in lines]


@pytest.mark.parametrize("name", SHORT)
def test_the_files_and_commands_of_a_page_work(name, tmp_path, monkeypatch, capsys):
    page = (ROOT / "docs" / name).read_text()
    files, commands = files_of(page), commands_of(page)
    assert len(files) >= 1
    assert len(commands) >= 3
    for file, text in files.items():
        (tmp_path / file).write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    for subcommand, *arguments in commands:
        short = SHORT[name] if subcommand == "fit" else []
        status = main([subcommand, *arguments, *short])
        assert status == 0, f"{subcommand} {arguments}: {capsys.readouterr().err}"


def test_the_scripts_of_from_python_work(tmp_path):
    for file, text in files_of((ROOT / "docs" / "from_python.md").read_text()).items():
        short = re.sub(r"max_epochs=\d+", "max_epochs=1", text)
        short = re.sub(r"updates_per_epoch=\d+", "updates_per_epoch=2", short)
        (tmp_path / file).write_text(short)

    def printed_by(*arguments: str) -> str:
        environment = {**os.environ, "MLFLOW_TRACKING_URI": "sqlite:///mlflow.db"}
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    trained = re.search(r"return [\d.]+, weights (\S+\.ckpt)", printed_by("train.py"))
    assert trained is not None
    assert re.search(r"return [\d.]+$", printed_by("play.py", trained[1]).strip())
