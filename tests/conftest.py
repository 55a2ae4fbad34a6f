"""Deterministic environments and fixtures for all tests."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

Step = tuple[np.ndarray, float, bool, bool, dict[str, Any]]


class CountingEnv(gym.Env[np.ndarray, int]):
    """Observes (episode, step of it); episode e has `lengths[e % len(lengths)]` steps."""

    observation_space = gym.spaces.Box(0, 1e6, (2,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def __init__(self, lengths: tuple[int, ...] = (3,), truncates: bool = False) -> None:
        self.lengths, self.truncates, self.episode = lengths, truncates, -1

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self.episode, self.t = self.episode + 1, 0
        return self._observe(), {}

    def step(self, action: int) -> Step:
        self.t += 1
        over = self.t == self.lengths[self.episode % len(self.lengths)]
        return self._observe(), 1.0, over and not self.truncates, over and self.truncates, {}

    def _observe(self) -> np.ndarray:
        return np.array([self.episode, self.t], np.float32)


class EndlessEnv(gym.Env[np.ndarray, int]):
    """Has one state and the reward 1 at each step for ever, so its value is 1 / (1 − γ)."""

    observation_space = gym.spaces.Box(0, 1, (1,), np.float32)
    action_space = gym.spaces.Discrete(1)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        return np.ones(1, np.float32), {}

    def step(self, action: int) -> Step:
        return np.ones(1, np.float32), 1.0, False, False, {}


class SignalEnv(gym.Env[np.ndarray, int]):
    """Shows one of two signals. Each has one action with the reward 1. An episode has ten steps."""

    observation_space = gym.spaces.Box(-1, 1, (1,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self.t = 0
        return self._draw(), {}

    def step(self, action: int) -> Step:
        reward = float(action == self.signal)
        self.t += 1
        return self._draw(), reward, self.t == 10, False, {}

    def _draw(self) -> np.ndarray:
        self.signal = int(self.np_random.integers(2))
        return np.array([2 * self.signal - 1], np.float32)


for name, environment, limit in (
    ("Counting-v0", CountingEnv, None),
    ("Endless-v0", EndlessEnv, 5),
    ("Signal-v0", SignalEnv, None),
):
    gym.register(f"test/{name}", environment, max_episode_steps=limit, disable_env_checker=True)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def working_folder(tmp_path, monkeypatch):
    """An empty working folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def _store(tmp_path_factory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('store')}/mlflow.db"


@pytest.fixture
def store(_store, monkeypatch) -> str:
    """One MLflow store for many tests, because making one takes a second."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", _store)
    return _store


@pytest.fixture
def drawn(monkeypatch) -> list[Figure]:
    """A list of all figures that are saved."""
    figures: list[Figure] = []
    save = Figure.savefig

    def keep(figure, *args, **kwargs):
        figures.append(figure)
        save(figure, *args, **kwargs)

    monkeypatch.setattr(Figure, "savefig", keep)
    return figures
