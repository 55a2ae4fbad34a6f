"""Making environments that can be drawn."""

import os

import gymnasium as gym
import numpy as np
import pytest

from rl_lightning.datamodules.environments import make_rendered_env
from rl_lightning.errors import ConfigurationError


class UndrawableEnv(gym.Env[np.ndarray, int]):
    """Fails where a machine without a drawing library would."""

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


def test_a_machine_that_cannot_draw_is_told_so_in_one_line():
    with pytest.raises(ConfigurationError, match="cannot draw test/Undrawable-v0") as error:
        make_rendered_env("test/Undrawable-v0", {})
    assert "libegl1" in str(error.value)
    assert "\n" not in str(error.value)


def test_without_a_screen_mujoco_is_pointed_to_egl(monkeypatch):
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.setenv("MUJOCO_GL", "glfw")
    monkeypatch.delenv("MUJOCO_GL")
    envs = make_rendered_env("CartPole-v1", {})
    assert os.environ["MUJOCO_GL"] == "egl"
    assert envs.render()[0].shape[-1] == 3
    envs.close()


def test_a_users_own_choice_stands(monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", "osmesa")
    make_rendered_env("CartPole-v1", {}).close()
    assert os.environ["MUJOCO_GL"] == "osmesa"
