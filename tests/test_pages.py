"""The examples of the pages in docs/ work as they are written."""

import inspect
import os
import re
import shlex
import subprocess
import sys
import textwrap

import pytest
from lightning import Trainer

from pages import PAGES, ROOT, all_commands, commands_of, files_of
from rl_lightning import datamodules, modules
from rl_lightning.callbacks.defaults import DEFAULT_CALLBACKS
from rl_lightning.cli import main

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
        *("--data.rollout_length", "8", "--data.num_envs", "2", "--data.num_eval_envs", "2"),
    ],
    "own_environment.md": [
        *("--trainer.max_epochs", "1", "--data.updates_per_epoch", "2", "--data.num_envs", "2"),
        *("--data.eval_episodes", "2", "--data.num_eval_envs", "2"),
    ],
}


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


ALL = {
    command: name
    for command, name in all_commands().items()
    if command.startswith(("fit", "validate", "test", "predict")) and "…" not in command
}


@pytest.mark.parametrize("command", ALL)
def test_the_configuration_of_every_command_can_be_read(command, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    arguments = shlex.split(command.replace("SEED", "1"))
    with pytest.raises(SystemExit) as ended:
        main([*arguments, "--print_config"])
    assert ended.value.code in (0, None), capsys.readouterr().err
    assert "class_path" in capsys.readouterr().out


def test_the_readme_shows_the_learning_of_dqn_as_it_is():
    shown = re.search(r"^```python\n(.*?)\n```$", PAGES["README.md"], re.MULTILINE | re.DOTALL)
    assert shown is not None
    methods = (modules.DQN.training_step, modules.DQN._targets)
    sources = (inspect.getsource(inspect.unwrap(method)) for method in methods)
    parts = [textwrap.dedent(source).strip() for source in sources]
    assert shown[1].split("\n\n\n@") == [parts[0], parts[1].removeprefix("@")]


def test_the_commands_of_the_pages_are_found():
    assert {"command_line.md", "lecture.md", "results.md", "ram.md"} <= {*ALL.values()}


def options() -> set[str]:
    """The names of all options of modules, datamodules, the Trainer and the default callbacks."""
    found = {f"trainer.{name}" for name in inspect.signature(Trainer).parameters}
    for prefix, package in (("model", modules), ("data", datamodules)):
        for name in package.__all__:
            for kind in getattr(package, name).__mro__:
                found |= {f"{prefix}.{option}" for option in inspect.signature(kind).parameters}
    for key, (kind, _) in DEFAULT_CALLBACKS.items():
        found |= {f"{key}.{option}" for option in inspect.signature(kind).parameters}
    return found | {"num_threads", "seed_everything", "ckpt_path"}


def test_the_flags_and_metrics_of_does_not_learn_exist():
    page = PAGES["does_not_learn.md"]
    flags = {".".join(flag.split(".")[:2]) for flag in re.findall(r"--([\w.]+)", page)}
    assert len(flags) > 20
    assert flags - options() == set()
    source = "".join(path.read_text() for path in (ROOT / "src").rglob("*.py"))
    metrics = {*re.findall(r"`((?:train|val|test|speed|replay)/\w+)`", page)}
    suffixes = ("", "_std", "_iqm")
    evaluated = {f"{stage}/return{each}" for stage in ("val", "test") for each in suffixes}
    assert len(metrics) > 8
    assert {name for name in metrics - evaluated if f'"{name}"' not in source} == set()


@pytest.mark.parametrize("name", PAGES)
def test_the_files_that_a_page_links_to_exist(name):
    folder = ROOT if name == "README.md" else ROOT / "docs"
    for link in re.findall(r"\]\(([^)#\s]+)[^)]*\)", PAGES[name]):
        assert link.startswith("http") or (folder / link).is_file(), link
    for path in re.findall(r"(?:configs|benchmarks)/[\w./]+\.(?:yaml|py)", PAGES[name]):
        assert (ROOT / path).is_file(), path


def test_the_code_that_the_lecture_names_exists():
    rows = [row for row in PAGES["lecture.md"].splitlines() if row.startswith("| ")]
    named = {path for row in rows for path in re.findall(r"`(\w[\w/]*(?:\.py|/))`", row)}
    assert len(named) > 20
    assert {path for path in named if not (ROOT / "src" / "rl_lightning" / path).exists()} == set()
    files = {path for row in rows for path in re.findall(r"`([\w/]+\.csv)`", row)}
    assert {path for path in files if not (ROOT / "docs" / path).is_file()} == set()
