"""Makes environments, also for rendering, and refuses those that cannot be made."""

import configparser
import os
import subprocess
import sys
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest

from rl_lightning.environments.making import EnvironmentMaker
from rl_lightning.runtime.errors import ConfigurationError


class UndrawableEnv(gym.Env[np.ndarray, int]):
    """Its `render` fails as on a machine without a rendering library."""

    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012
    observation_space = gym.spaces.Box(0, 1, (1,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def __init__(self, render_mode=None):
        self.render_mode = render_mode

    def reset(self, *, seed=None, options=None):
        return np.zeros(1, np.float32), {}

    def render(self):
        raise AttributeError("'NoneType' object\nhas no attribute 'glGetError'")


gym.register("test/Undrawable-v0", UndrawableEnv, disable_env_checker=True)


def test_an_environment_that_cannot_be_rendered_is_one_line():
    with pytest.raises(ConfigurationError, match="cannot render test/Undrawable-v0") as error:
        EnvironmentMaker("test/Undrawable-v0").make_rendered()
    assert "libegl1" not in str(error.value), "the variable is for MuJoCo only"
    assert "\n" not in str(error.value)


def test_an_environment_that_renders_nothing_is_one_line(monkeypatch):
    monkeypatch.setattr(UndrawableEnv, "render", lambda self: None)
    with pytest.raises(
        ConfigurationError, match=r"cannot render test/Undrawable-v0.*returns no frame: make it"
    ):
        EnvironmentMaker("test/Undrawable-v0").make_rendered()


def test_a_robot_that_cannot_be_rendered_names_what_to_install(monkeypatch):
    pytest.importorskip("mujoco")

    def fail(self):
        raise AttributeError("'NoneType' object\nhas no attribute 'glGetError'")

    monkeypatch.setattr("gymnasium.envs.mujoco.mujoco_env.MujocoEnv.render", fail)
    with pytest.raises(
        ConfigurationError, match=r"cannot render Hopper-v5.*install libegl1"
    ) as error:
        EnvironmentMaker("Hopper-v5").make_rendered()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("env_id", "package", "extra"),
    [
        ("LunarLander-v3", "Box2D", "box2d"),
        ("gymnasium:BipedalWalker-v3", "Box2D", "box2d"),
        ("Hopper-v5", "mujoco", "mujoco"),
    ],
)
def test_a_missing_package_is_named_by_the_extra_that_has_it(env_id, package, extra, monkeypatch):
    for name in [*sys.modules]:
        if name.startswith((package, f"gymnasium.envs.{extra}")):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ConfigurationError, match="that is not installed") as error:
        EnvironmentMaker(env_id).describe()
    assert str(error.value).endswith(f"pip install 'rl_lightning[{extra}]'")
    assert "\n" not in str(error.value)
    options = configparser.ConfigParser()
    options.read(Path(__file__).parents[2] / "setup.cfg")
    assert f"gymnasium[{extra}]" in options["options.extras_require"][extra]


ROBOTS = """
import sys, mujoco, numpy
from rl_lightning.environments import making

for env_id in ("HalfCheetah-v5", "gymnasium:HalfCheetah-v5"):
    envs = making.EnvironmentMaker(env_id).make(4)
    envs.reset(seed=0)
    envs.step(envs.action_space.sample())
robot = envs.envs[0].unwrapped

def fail():
    robot.data.qvel[:] = numpy.nan
    mujoco.mj_step(robot.model, robot.data)

print("made", file=sys.stderr, flush=True)
with making._without_model_deprecations("HalfCheetah-v5"):
    fail()
print("within", file=sys.stderr, flush=True)
mujoco.mj_resetData(robot.model, robot.data)
fail()
"""


def test_robots_are_made_without_deprecations_and_other_warnings_are_shown(tmp_path):
    pytest.importorskip("mujoco")
    run = subprocess.run(
        [sys.executable, "-c", ROBOTS], stdout=-1, stderr=-2, text=True, cwd=tmp_path
    )
    assert run.returncode == 0, run.stdout
    made, rest = run.stdout.split("made\n")
    within, after = rest.split("within\n")
    assert made == ""
    for warning in (within, after):
        assert "Nan, Inf or huge value" in warning
        assert "settotalmass" not in warning
    assert "MuJoCo: " in within
    assert "MuJoCo: " not in after, "MuJoCo's own handler of warnings was not restored"


def test_without_a_screen_mujoco_uses_egl(monkeypatch):
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.setenv("MUJOCO_GL", "glfw")
    monkeypatch.delenv("MUJOCO_GL")
    envs = EnvironmentMaker("CartPole-v1").make_rendered()
    assert os.environ["MUJOCO_GL"] == "egl"
    assert envs.render()[0].shape[-1] == 3
    envs.close()


def test_a_users_own_choice_is_kept(monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", "osmesa")
    EnvironmentMaker("CartPole-v1").make_rendered().close()
    assert os.environ["MUJOCO_GL"] == "osmesa"


def test_rendering_prints_nothing_without_a_screen(tmp_path):
    code = (
        "from rl_lightning.environments.making import EnvironmentMaker\n"
        "for name in ('CartPole-v1', 'FrozenLake-v1'):\n"
        "    EnvironmentMaker(name).make_rendered().close()\n"
    )
    screens = ("DISPLAY", "WAYLAND_DISPLAY", "XDG_RUNTIME_DIR", "SDL_VIDEODRIVER")
    without = {name: value for name, value in os.environ.items() if name not in screens}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=without, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout + done.stderr == ""
