import os
import subprocess
import sys
from pathlib import Path

import pytest

from rl_lightning.cli import main
from rl_lightning.command_line.configurations import (
    configuration_names,
    find_configuration,
    with_found_configurations,
)
from rl_lightning.runtime.errors import ConfigurationError

ROOT = Path(__file__).parent.parent.parent


def test_every_configuration_has_a_name():
    files = {str(path.relative_to(ROOT / "configs")) for path in ROOT.glob("configs/*/*.yaml")}
    assert {f"{name}.yaml" for name in configuration_names()} == files
    assert "dqn/cartpole" in configuration_names()


@pytest.mark.parametrize("name", ["dqn/cartpole", "dqn/cartpole.yaml", "configs/dqn/cartpole.yaml"])
def test_a_name_is_found_from_any_folder(name, working_folder):
    assert Path(find_configuration(name)).samefile(ROOT / "configs/dqn/cartpole.yaml")


def test_a_file_comes_first(working_folder):
    Path("dqn").mkdir()
    Path("dqn/cartpole").write_text("mine")
    assert find_configuration("dqn/cartpole") == "dqn/cartpole"


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("dqn/cartpol", "dqn/cartpole"),
        ("sac/unknown", "sac/halfcheetah"),
        ("nothing", "value_iteration/frozenlake"),
    ],
)
def test_an_unknown_name_is_refused_with_names_that_exist(name, shown, working_folder):
    with pytest.raises(ConfigurationError, match=shown):
        find_configuration(name)


def test_pipes_the_standard_input_and_text_are_left_to_the_parser(working_folder):
    os.mkfifo("pipe")
    for given in ("pipe", "-", "{trainer: {max_epochs: 1}}", "trainer:\n  max_epochs: 1"):
        assert find_configuration(given) == given
    Path("folder").mkdir()
    with pytest.raises(ConfigurationError, match="there is no file folder"):
        find_configuration("folder")


def test_the_command_line_takes_names(working_folder, capsys):
    assert [*with_found_configurations(["fit", "--config={a: 1}", "--x"])][1] == "--config={a: 1}"
    for given in (["--config", "a2c/cartpole"], ["-c", "a2c/cartpole"], ["--config=a2c/cartpole"]):
        with pytest.raises(SystemExit):
            main(["fit", *given, "--print_config"])
        assert "env_id: CartPole-v1" in capsys.readouterr().out
    assert main(["fit", "--config", "a2c/cartpol"]) == 2
    error = capsys.readouterr().err
    assert "a2c/cartpole" in error
    assert error.count("\n") == 1


@pytest.mark.slow
def test_the_wheel_has_the_configurations(tmp_path):
    """Built and unpacked, with the dependencies of this environment."""
    pip = [sys.executable, "-m", "pip", "-q"]
    subprocess.run([*pip, "wheel", "--no-deps", "-w", tmp_path, ROOT], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    target = tmp_path / "installed"
    subprocess.run([*pip, "install", "--no-deps", "--target", target, wheel], check=True)
    command = [sys.executable, str(target / "bin" / "rl_lightning"), "fit"]
    done = subprocess.run(
        [*command, "--config", "dqn/cartpole", "--print_config"],
        cwd=tmp_path, env={"PYTHONPATH": str(target)}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "env_id: CartPole-v1" in done.stdout
