"""Environments with unusual spaces, values and behaviour."""

import copy
import random
from collections import Counter, deque
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.spaces import (
    Box,
    Dict,
    Discrete,
    Graph,
    MultiBinary,
    MultiDiscrete,
    OneOf,
    Sequence,
    Text,
    Tuple,
)
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv

TWO = Discrete(2)
NUMBERS = Box(-1, 1, (3,))
ANY_FLOAT = Box(-np.inf, np.inf, (3,))


class Odd(gym.Env[Any, Any]):
    """Returns samples of its observation space and checks that actions are in its action space."""

    def __init__(
        self,
        observations: gym.Space[Any] = NUMBERS,
        actions: gym.Space[Any] = TWO,
        length: int | None = 6,
        truncates: bool = False,
        render_mode: str | None = None,
    ) -> None:
        # Copied, because spaces hold a random generator.
        self.observation_space, self.action_space = copy.deepcopy((observations, actions))
        self.length, self.truncates, self.render_mode = length, truncates, render_mode

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict]:
        super().reset(seed=seed)
        self.observation_space.seed(int(self.np_random.integers(1 << 31)))
        self.t = 0
        return self.observe(), {}

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict]:
        assert self.action_space.contains(action), f"{action!r} is not in {self.action_space}"
        self.t += 1
        over = self.t == self.length
        ends = (over and not self.truncates, over and self.truncates)
        return self.observe(), self.reward(), *ends, {}

    def observe(self) -> Any:
        return self.observation_space.sample()

    def reward(self) -> Any:
        return 1.0


class Values(Odd):
    """Returns constant observations, which are NaN or infinite from one step on."""

    def __init__(self, value: float, good_steps: int = 0, dtype: str = "float32", **kwargs: Any):
        low = -np.finfo(dtype).max if dtype == "float16" else -np.inf
        super().__init__(Box(low, -low, (2,), np.dtype(dtype).type), **kwargs)
        self.value, self.good_steps, self.steps = value, good_steps, 0

    def observe(self) -> Any:
        self.steps += 1
        good = self.steps <= self.good_steps
        return np.full(2, 0.5 if good else self.value, self.observation_space.dtype)


class Rewards(Odd):
    """Returns rewards of unusual types."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def reward(self) -> Any:
        return {
            "inf": np.inf,
            "nan": np.nan,
            "huge": 1e200,
            "int": 3,
            "numpy": np.float64(0.5),
            "bool": True,
            "array": np.array([0.5]),
            "pair": np.array([0.5, 1.0]),
            "text": "much",
            "none": None,
        }[self.kind]


class Breaks(Odd):
    """Raises an error, or returns observations outside of its space."""

    def __init__(self, at: str, after: int = 0) -> None:
        super().__init__(length=4)
        self.at, self.left = at, after
        self._break("init")

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict]:
        self._break("reset")
        return super().reset(seed=seed)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict]:
        self._break("step")
        observation, *rest = super().step(action)
        return (observation[:1] if self.at == "shape" else observation, *rest)

    def _break(self, at: str) -> None:
        if at == self.at:
            self.left -= 1
            if self.left < 0:
                raise ZeroDivisionError(f"broken\nin {at}")


class Lists(Odd):
    """Returns observations as Python lists."""

    def observe(self) -> Any:
        return [float(number) for number in super().observe()]


class Integers(Odd):
    """Returns observations as Python integers."""

    def __init__(self) -> None:
        super().__init__(Discrete(4))

    def observe(self) -> Any:
        return int(super().observe())


class Outside(Integers):
    """Returns an integer that is not in its space after a few steps."""

    def observe(self) -> Any:
        return -1 if self.t == 3 else super().observe()


class Keeps(Odd):
    """Has attributes that a checkpoint cannot hold."""

    def __init__(self) -> None:
        super().__init__()
        self.last: deque[int] = deque(maxlen=3)
        self.counter: Counter[int] = Counter()
        self.random = random.Random(0)

    def observe(self) -> Any:
        self.last.append(self.random.randrange(3))
        self.counter[self.last[0]] += 1
        return np.array([self.last[0], self.counter[0] % 2, 0], np.float32)


class Remembers(Odd):
    """Has a `state_dict()`, so that its episodes continue after a resume."""

    def observe(self) -> Any:
        return np.array([self.t, 0, self.np_random.random()], np.float32)

    def state_dict(self) -> dict[str, Any]:
        return {"t": self.t, "generator": self.np_random.bit_generator.state}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.t, self.np_random.bit_generator.state = state["t"], state["generator"]


class RemembersTooMuch(Remembers):
    """Has a `state_dict()` with values that a checkpoint cannot hold."""

    def state_dict(self) -> dict[str, Any]:
        return {"t": {self.t}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        (self.t,) = state["t"]


class Drawn(Odd):
    """Renders a picture, or None."""

    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012

    def __init__(self, draws: bool, render_mode: str | None = None) -> None:
        super().__init__(render_mode=render_mode)
        self.draws = draws

    def render(self) -> Any:
        return np.zeros((32, 32, 3), np.uint8) if self.draws else None


class Copies(SyncVectorEnv):
    """A native vector environment with a configurable autoreset mode."""

    def __init__(self, num_envs: int, mode: AutoresetMode | None = AutoresetMode.NEXT_STEP) -> None:
        super().__init__([Odd] * num_envs, autoreset_mode=mode or AutoresetMode.NEXT_STEP)
        if mode is None:
            self.metadata = {}


class Native(VectorEnv[Any, Any, Any]):
    """A native vector environment in which each environment copy counts to three."""

    metadata = {"autoreset_mode": AutoresetMode.NEXT_STEP}  # noqa: RUF012
    single_observation_space = Box(0, 3, (1,), np.float64)
    single_action_space = Discrete(2, start=1)

    def __init__(self, num_envs: int, render_mode: str | None = None) -> None:
        self.num_envs, self.render_mode = num_envs, render_mode
        self.observation_space = Box(0, 3, (num_envs, 1), np.float64)
        self.action_space = MultiDiscrete([2] * num_envs, start=[1] * num_envs)

    def reset(self, *, seed: Any = None, options: Any = None) -> tuple[Any, dict]:
        self.counts = np.zeros(self.num_envs, int)
        return self.counts[:, None].astype(float), {}

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict]:
        assert self.action_space.contains(actions), f"{actions!r}"
        begins = self.counts == 3
        self.counts = np.where(begins, 0, self.counts + 1)
        over = self.counts == 3
        observations = self.counts[:, None].astype(float)
        return observations, np.where(begins, 0, 1), over, np.zeros_like(over), {}


class Mirrored(gym.ObservationWrapper[Any, Any, Any]):
    """Reverses the order of Discrete observations."""

    def observation(self, observation: Any) -> Any:
        assert isinstance(self.observation_space, Discrete)
        return self.observation_space.n - 1 - observation


class Binned(gym.wrappers.DiscretizeObservation):
    """Converts observations of two numbers to one of 16 Discrete numbers."""

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        super().__init__(env, bins=4)


class ThreeTorques(gym.wrappers.DiscretizeAction):
    """Converts a continuous action to one of three Discrete actions."""

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        super().__init__(env, bins=3)


class NativeOfRows(Native):
    """Returns rewards [N, 1], which would broadcast to [N, N]."""

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict]:
        observations, rewards, *rest = super().step(actions)
        return (observations, rewards[:, None], *rest)


def _register(name: str, entry_point: Any, **kwargs: Any) -> None:
    limit = kwargs.pop("max_episode_steps", None)
    gym.register(
        f"test/{name}",
        entry_point,
        max_episode_steps=limit,
        disable_env_checker=True,
        kwargs=kwargs,
    )


OBSERVATIONS = {
    "Bytes": Box(0, 255, (8, 8, 3), np.uint8),
    "Images": Box(0, 255, (40, 48, 3), np.uint8),
    "Gray": Box(0, 255, (36, 36), np.uint8),
    "Uint16": Box(0, 65535, (4,), np.uint16),
    "Uint64": Box(0, 2**64 - 1, (2,), np.uint64),
    "Int8": Box(-128, 127, (4,), np.int8),
    "Int64": Box(-(2**62), 2**62, (2,), np.int64),
    "Float16": Box(-100, 100, (4,), np.float16),
    "Float64": Box(-1e-300, 1e-300, (4,), np.float64),
    "Bool": Box(0, 1, (4,), np.bool_),
    "MultiBinary": MultiBinary((2, 3)),
    "MultiDiscrete": MultiDiscrete([[3, 5], [2, 7]]),
    "Scalar": Box(-1, 1, ()),
    "Cube": Box(-1, 1, (2, 3, 4)),
    "Tesseract": Box(-1, 1, (2, 3, 4, 2)),
    "Nothing": Box(-1, 1, (0,)),
    "Unbounded": ANY_FLOAT,
    "HalfBounded": Box(0, np.inf, (3,)),
    "Started": Discrete(5, start=7),
    "StartedBytes": Discrete(5, start=250, dtype=np.uint8),
    "Negative": Discrete(5, start=-3),
    "Dict": Dict(a=Box(-1, 1, (2,)), b=Discrete(3), c=Dict(d=MultiBinary(2))),
    "Tuple": Tuple([Discrete(4), Box(0, 255, (2, 2), np.uint8)]),
    "Text": Text(4),
    "Graph": Graph(Box(0, 1, (1,)), None),
    "Sequence": Sequence(Discrete(3)),
    "OneOf": OneOf([Discrete(3), Box(0, 1, (2,))]),
    "TooMany": Discrete(10**13),
}
ACTIONS = {
    "StartedActions": Discrete(3, start=-2),
    "OneAction": Discrete(1),
    "Lopsided": Box(-1, 3, (2,)),
    "Table": Box(-2, 2, (2, 3)),
    "ScalarAction": Box(-1, 1, ()),
    "Float64Actions": Box(0, 1e-3, (2,), np.float64),
    "Float16Actions": Box(-1, 1, (2,), np.float16),
    "OneSided": Box(np.array([0, -np.inf], np.float32), np.array([np.inf, 1], np.float32)),
    "NoBounds": Box(-np.inf, np.inf, (2,)),
    "OnePoint": Box(np.array([1, -1], np.float32), np.array([1, 1], np.float32)),
    "IntegerActions": Box(0, 3, (2,), np.int64),
    "MultiDiscreteActions": MultiDiscrete([3, 3]),
    "MultiBinaryActions": MultiBinary(3),
    "DictActions": Dict(a=Discrete(2)),
    "TextActions": Text(2),
}

for _name, _space in OBSERVATIONS.items():
    _register(f"{_name}-v0", Odd, observations=_space)
for _name, _space in ACTIONS.items():
    _register(f"{_name}-v0", Odd, actions=_space)
_register("NaN-v0", Values, value=np.nan, good_steps=5)
_register("NaNAtOnce-v0", Values, value=np.nan)
_register("Infinite-v0", Values, value=-np.inf, good_steps=5)
_register("TooLarge-v0", Values, value=1e300, good_steps=5, dtype="float64")
_register("Huge-v0", Values, value=1e30)
_register("HugeFloat16-v0", Values, value=6e4, dtype="float16")
for _kind in ("inf", "nan", "huge", "int", "numpy", "bool", "array", "pair", "text", "none"):
    _register(f"Reward-{_kind}-v0", Rewards, kind=_kind)
for _at, _after in (("init", 0), ("reset", 0), ("step", 5), ("shape", 0)):
    _register(f"Breaks-{_at}-v0", Breaks, at=_at, after=_after)
_register("Lists-v0", Lists)
_register("PythonIntegers-v0", Integers)
_register("Outside-v0", Outside)
_register("Keeps-v0", Keeps)
_register("Remembers-v0", Remembers)
_register("RemembersTooMuch-v0", RemembersTooMuch)
_register("Drawn-v0", Drawn, draws=True)
_register("NotDrawn-v0", Drawn, draws=False)
_register("NoLimit-v0", Odd, length=None)
_register("Limited-v0", Odd, length=None, max_episode_steps=5)
_register("OneStep-v0", Odd, length=1)
_register("OneStepCutOff-v0", Odd, length=1, truncates=True)
gym.register("test/Copies-v0", vector_entry_point=Copies)
for _name, _mode in (("SameStep", AutoresetMode.SAME_STEP), ("NoMode", None)):
    gym.register(f"test/{_name}-v0", vector_entry_point=Copies, kwargs={"mode": _mode})
gym.register("test/Native-v0", vector_entry_point=Native)
gym.register("test/NativeOfRows-v0", vector_entry_point=NativeOfRows)
