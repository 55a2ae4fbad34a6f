"""Atari 2600 games from pixels, through ale-py's native vector environment."""

import difflib
from typing import Any, Literal

import gymnasium as gym
import numpy as np
import numpy.typing as npt
import torch
from ale_py.vector_env import AtariVectorEnv
from gymnasium.vector import AutoresetMode

from rl_lightning.runtime.errors import ConfigurationError

Array = npt.NDArray[Any]
Step = tuple[Array, Array, Array, Array, dict[str, Any]]
ProtocolName = Literal["nature", "sticky"]

PREFIX = "ALE/"
FRAMES_PER_SECOND = 60

# What the two evaluation protocols of the field differ in; see docs/atari.md.
PROTOCOLS: dict[ProtocolName, dict[str, Any]] = {
    "nature": {"repeat_action_probability": 0.0, "noop_max": 30},
    "sticky": {"repeat_action_probability": 0.25, "noop_max": 0},
}
# Settings of AtariVectorEnv that env_kwargs cannot choose, and why.
_DECIDED = {
    "reward_clipping": "returns are sums of raw rewards; data.clip_rewards clips what is learned",
    "episodic_life": "it restarts the whole game at each lost life; under the protocol nature a "
    "lost life ends what is learned, and the game goes on",
    "life_loss_info": "it reports lost lives as the end of the episode; under the protocol nature "
    "a lost life ends what is learned, and the game goes on",
    "batch_size": "all environment copies step together",
}


class AtariGames(AtariVectorEnv):
    """N copies of one game: 84×84 gray frames, the last four of them [N, 4, 84, 84] uint8.

    An environment step is four frames, of which the last two are joined by their maximum.
    Rewards are raw, `terminated` means that the game is over, and a copy resets on the step
    after. Lives lost while the game goes on stand in `infos["life_lost"]` [N] bool, under the
    protocol "nature" alone; who learns may end the discount there. (The native environment's
    own `life_loss_info` reports them as terminations, and then only the number of lives left
    tells whether a reset follows.)

    Source: "nature": Mnih et al. 2015; "sticky": Machado et al. 2018.

    Args:
        game: Name of the ROM, such as ms_pacman.
        num_envs: N.
        protocol: "nature": up to 30 no-ops at the start and a life lost ends what is learned;
            "sticky": with probability 0.25 the emulator repeats the action before.
        render_mode: "rgb_array" lets `render()` show the screens in colour.
        num_threads: Threads of the emulators; those of torch by default, since the two take
            turns.
        settings: Of AtariVectorEnv, before the protocol's.
    """

    def __init__(
        self,
        game: str,
        num_envs: int,
        *,
        protocol: ProtocolName = "nature",
        render_mode: Literal["rgb_array"] | None = None,
        num_threads: int | None = None,
        **settings: Any,
    ) -> None:
        if protocol not in PROTOCOLS:
            raise ConfigurationError(f"protocol is {protocol}: choose one of {[*PROTOCOLS]}")
        for name in _DECIDED.keys() & settings.keys():
            raise ConfigurationError(f"{name} cannot be chosen in env_kwargs: {_DECIDED[name]}")
        settings = {
            "use_fire_reset": False,
            **PROTOCOLS[protocol],
            "num_threads": min(num_envs, num_threads or torch.get_num_threads()),
            "autoreset_mode": AutoresetMode.NEXT_STEP,
            **settings,
        }
        super().__init__(game, num_envs, reward_clipping=False, **settings)
        self.metadata = {
            **self.metadata,
            "render_fps": FRAMES_PER_SECOND // settings.get("frameskip", 4),
        }
        self.render_mode = render_mode
        self._reports_lives = protocol == "nature"
        self._lives = np.zeros(num_envs, np.int32)
        # The same games once more, seen in colour: emulators of one seed go the same way.
        self._screens: AtariVectorEnv | None = None
        if render_mode == "rgb_array":
            shown = {"img_height": 210, "img_width": 160, "grayscale": False, "stack_num": 1}
            self._screens = AtariVectorEnv(game, num_envs, **{**settings, **shown})

    def reset(  # type: ignore[override]  # ale-py's own returns an unbound TypeVar
        self, *, seed: int | Array | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Array, dict[str, Any]]:
        """Begin a new game in every copy."""
        observations, infos = super().reset(seed=seed, options=options)
        self._lives = infos["lives"]
        if self._screens is not None:
            assert seed is not None, "only a seed lets the screens show the same games"
            self._shown, _ = self._screens.reset(seed=seed, options=options)
        return observations, infos

    def step(self, actions: Array) -> Step:
        """Play one environment step in every copy."""
        observations, rewards, terminated, truncated, infos = super().step(actions)
        if self._reports_lives:
            infos["life_lost"] = (infos["lives"] < self._lives) & ~terminated
            self._lives = infos["lives"]
        if self._screens is not None:
            self._shown, *_ = self._screens.step(actions)
        return observations, rewards, terminated, truncated, infos

    def render(self) -> tuple[Array, ...]:
        """The screens [210, 160, 3] uint8 of all copies."""
        assert self._screens is not None, "made without render_mode rgb_array"
        return tuple(self._shown[:, 0])


def make_atari(env_id: str, num_envs: int, **env_kwargs: Any) -> AtariGames:
    """Make `num_envs` copies of a game such as ALE/Pong-v5.

    Raises:
        ConfigurationError: If there is no such game, naming the closest, or a setting cannot be
            chosen.
    """
    import ale_py

    env_id = env_id.rpartition(":")[2]  # without the package that registers it

    gym.register_envs(ale_py)
    games = {name: spec for name, spec in gym.registry.items() if name.startswith(PREFIX)}
    if env_id not in games:
        closest = difflib.get_close_matches(env_id, games, n=3, cutoff=0.0)
        raise ConfigurationError(f"there is no game {env_id}: the closest are {', '.join(closest)}")
    return AtariGames(games[env_id].kwargs["game"], num_envs, **env_kwargs)
