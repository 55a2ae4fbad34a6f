"""Atari 2600 games from pixels, through ale-py's native vector environment."""

import difflib
from collections.abc import Mapping
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

# The settings in which the two usual evaluation protocols differ; see docs/atari.md.
PROTOCOLS: dict[ProtocolName, dict[str, Any]] = {
    "nature": {"repeat_action_probability": 0.0, "noop_max": 30},
    "sticky": {"repeat_action_probability": 0.25, "noop_max": 0},
}
# Settings that are refused in env_kwargs, with the reason. Some have another name in EnvPool.
_RAW_REWARDS = (
    "returns are sums of raw rewards; use data.clip_rewards to clip the rewards of training batches"
)
_LOST_LIFE = (
    "under the protocol nature a lost life sets the discount to 0, and the episode continues"
)
_REFUSED = {
    "reward_clipping": _RAW_REWARDS,
    "reward_clip": _RAW_REWARDS,
    "episodic_life": f"it restarts the whole episode at each lost life; {_LOST_LIFE}",
    "life_loss_info": f"it reports a lost life as the end of the episode; {_LOST_LIFE}",
    "zero_discount_on_life_loss": _LOST_LIFE,
    "batch_size": "all environment copies step together",
}


class AtariGames(AtariVectorEnv):
    """N environment copies of one Atari game.

    Observations are the last four 84 × 84 gray frames, [N, 4, 84, 84] uint8. An environment step
    is four emulator frames, and its observed frame is the maximum of the last two. Rewards are
    raw. `terminated` means that the episode is over, and the environment copy resets on the next
    step.

    Under the protocol "nature", `infos["life_lost"]` [N] bool marks lives that are lost while the
    episode continues, so that a collector can set the discount to 0. `life_loss_info` of
    AtariVectorEnv is not used, because it reports lost lives as terminations, and only some
    terminations would then be followed by a reset.

    Source: "nature": Mnih et al. 2015; "sticky": Machado et al. 2018.

    Args:
        game: Name of the ROM, such as ms_pacman.
        num_envs: N.
        protocol: "nature" starts with up to 30 no-ops and marks lost lives; with "sticky" the
            emulator repeats the previous action with probability 0.25.
        render_mode: With "rgb_array", `render()` returns the screens in colour.
        num_threads: Threads of the emulators. The default is torch's number of threads, because
            emulators and networks do not run at the same time.
        settings: Further arguments of AtariVectorEnv, which override those of the protocol.
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
        settings = {
            **settings_of(protocol, settings),
            "num_threads": min(num_envs, num_threads or torch.get_num_threads()),
            "autoreset_mode": settings.get("autoreset_mode", AutoresetMode.NEXT_STEP),
        }
        super().__init__(game, num_envs, reward_clipping=False, **settings)
        self.metadata = {
            **self.metadata,
            "render_fps": FRAMES_PER_SECOND // settings.get("frameskip", 4),
        }
        self.render_mode = render_mode
        self._reports_lives = protocol == "nature"
        self._lives = np.zeros(num_envs, np.int32)
        # A second set of emulators renders in colour. With equal seeds and actions it plays the
        # same episodes.
        self._screens: AtariVectorEnv | None = None
        if render_mode == "rgb_array":
            shown = {"img_height": 210, "img_width": 160, "grayscale": False, "stack_num": 1}
            self._screens = AtariVectorEnv(game, num_envs, **{**settings, **shown})

    def reset(  # type: ignore[override]  # ale-py's own returns an unbound TypeVar
        self, *, seed: int | Array | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Array, dict[str, Any]]:
        """Start a new episode in every environment copy."""
        observations, infos = super().reset(seed=seed, options=options)
        self._lives = infos["lives"]
        if self._screens is not None:
            assert seed is not None, "rendering needs a seed, so that both emulators agree"
            self._shown, _ = self._screens.reset(seed=seed, options=options)
        return observations, infos

    def step(self, actions: Array) -> Step:
        """Take one environment step in every environment copy."""
        observations, rewards, terminated, truncated, infos = super().step(actions)
        if self._reports_lives:
            infos["life_lost"] = (infos["lives"] < self._lives) & ~terminated
            self._lives = infos["lives"]
        if self._screens is not None:
            self._shown, *_ = self._screens.step(actions)
        return observations, rewards, terminated, truncated, infos

    def render(self) -> tuple[Array, ...]:
        """The screens [210, 160, 3] uint8 of all environment copies."""
        assert self._screens is not None, "made without render_mode rgb_array"
        return tuple(self._shown[:, 0])


def settings_of(protocol: ProtocolName, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of the emulator under a protocol; `settings` override them.

    Raises:
        ConfigurationError: If there is no such protocol, or if a setting is refused.
    """
    if protocol not in PROTOCOLS:
        raise ConfigurationError(f"protocol is {protocol}: choose one of {[*PROTOCOLS]}")
    for name in _REFUSED.keys() & settings.keys():
        raise ConfigurationError(f"{name} cannot be chosen in env_kwargs: {_REFUSED[name]}")
    return {"use_fire_reset": False, **PROTOCOLS[protocol], **settings}


def make_atari(env_id: str, num_envs: int, **env_kwargs: Any) -> AtariGames:
    """Make `num_envs` environment copies of an Atari game such as ALE/Pong-v5.

    Raises:
        ConfigurationError: If there is no such game, or if a setting is refused.
    """
    import ale_py

    env_id = env_id.rpartition(":")[2]  # without the "package:" in front of the id

    gym.register_envs(ale_py)
    games = {name: spec for name, spec in gym.registry.items() if name.startswith(PREFIX)}
    if env_id not in games:
        closest = difflib.get_close_matches(env_id, games, n=3, cutoff=0.0)
        raise ConfigurationError(
            f"there is no Atari game {env_id}: use an existing id, such as {', '.join(closest)}"
        )
    return AtariGames(games[env_id].kwargs["game"], num_envs, **env_kwargs)
