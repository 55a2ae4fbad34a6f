"""The collector: vector environments, the policy in the loop, and the counts of both."""

from collections import deque
from functools import cached_property
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
import torch
from gymnasium.vector import VectorEnv

from rl_lightning.datamodules.snapshots import UnreadableStateError, read_state, write_state
from rl_lightning.experience import Exploration, Policy, Rollout, join_rollouts

Array = npt.NDArray[Any]


class Collector:
    """Steps N environment copies under a policy and keeps what lasts between rollouts.

    All state of the experience stands here and not in a generator's locals, because a
    DataLoader's `__iter__` begins anew every epoch while the games go on.

    A life lost (`infos["life_lost"]`) sets the discount to 0 while the game goes on, and
    rewards may be clipped to ±1: both for who learns only. What `finished` holds is raw
    and of whole games.

    Attributes:
        env_steps: Environment steps taken in all copies of this rank. The row in which a
            copy resets is none: its action is ignored.
        finished: Return and length of the last 100 games that ended here.
    """

    def __init__(
        self,
        envs: VectorEnv[Any, Any, Any],
        gamma: float,
        world_size: int = 1,
        clip_rewards: bool = False,
    ) -> None:
        self.envs = envs
        self.gamma = gamma
        self.world_size = world_size
        self.clip_rewards = clip_rewards
        self.env_steps = 0
        self.finished: deque[tuple[float, int]] = deque(maxlen=100)
        self.generator = torch.Generator()
        self._observations: Array | None = None

    @property
    def num_envs(self) -> int:
        """Copies of the environment."""
        return self.envs.num_envs

    def reset(self, seed: int) -> None:
        """Begin a new game in every copy; the counts go on."""
        self._observations, _ = self.envs.reset(seed=seed)
        self._ended = np.zeros(self.num_envs, dtype=np.bool_)
        self._returns = np.zeros(self.num_envs)
        self._lengths = np.zeros(self.num_envs, dtype=np.int64)
        self._rated = np.ones(self.num_envs, dtype=np.bool_)

    @property
    def ready(self) -> bool:
        """Whether the copies have been reset."""
        return self._observations is not None

    @property
    def observations(self) -> torch.Tensor:
        """What the copies [N, ...] show now, as a rollout would hold it."""
        assert self._observations is not None
        dtype = tensor_dtype(self.envs.single_observation_space)
        return torch.from_numpy(self._observations.astype(dtype))

    @cached_property
    def resumable(self) -> bool:
        """Whether games can go on after a resume: whether the environments' state can be read."""
        assert self.ready, "what an environment keeps shows after its first reset"
        try:
            read_state(self.envs)
        except UnreadableStateError:
            return False
        return True

    def state_dict(self) -> dict[str, Any]:
        """Primitives and tensors from which the games of this rank go on."""
        state = {"env_steps": self.env_steps, "finished": [*self.finished]}
        if self.ready and self.resumable:
            names = ("_observations", "_ended", "_returns", "_lengths")
            state["games"] = {name: torch.from_numpy(getattr(self, name)) for name in names}
            state["envs"] = read_state(self.envs)
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state_dict` was; where it holds no games, the next ones begin anew."""
        self.env_steps = state["env_steps"]
        self.finished.extend(state["finished"])
        if "games" in state:
            self.reset(0)  # makes whatever the state is then written into
            for name, values in state["games"].items():
                setattr(self, name, values.numpy())
            write_state(self.envs, state["envs"])

    def collect(self, policy: Policy, num_steps: int, *, explore: bool = True) -> Rollout:
        """Play `num_steps` steps in every copy.

        Args:
            policy: Chooses the actions.
            num_steps: T.
            explore: Whether it explores, drawing from this collector's `generator`.

        Returns:
            A rollout on the CPU, `observations` one row longer than the rest.
        """
        assert self._observations is not None, "reset the collector before the first rollout"
        shape = (num_steps, self.num_envs)
        space = self.envs.single_observation_space
        observations = np.empty(
            (num_steps + 1, self.num_envs, *(space.shape or ())), tensor_dtype(space)
        )
        actions: list[Array] = []
        rewards = np.empty(shape, np.float32)
        worthless = np.empty(shape, np.bool_)  # what follows has the value 0
        ends = np.empty(shape, np.bool_)
        mask = np.empty(shape, np.bool_)

        for t in range(num_steps):
            observations[t] = self._observations
            np.logical_not(self._ended, out=mask[t])
            exploration = self._exploration() if explore else None
            actions.append(act(policy, observations[t], exploration))
            self._observations, rewards[t], terminated, truncated, infos = self.envs.step(
                within_bounds(self.envs.single_action_space, actions[t])
            )
            np.logical_or(terminated, truncated, out=ends[t])
            np.logical_or(terminated, infos.get("life_lost", False), out=worthless[t])
            self._count(rewards[t], ends[t], mask[t])
        observations[num_steps] = self._observations

        return Rollout(
            observations=torch.from_numpy(observations),
            actions=torch.from_numpy(np.stack(actions)),
            rewards=torch.from_numpy(rewards.clip(-1, 1) if self.clip_rewards else rewards),
            discounts=torch.from_numpy(np.where(worthless, np.float32(0), np.float32(self.gamma))),
            ends=torch.from_numpy(ends),
            mask=torch.from_numpy(mask),
        )

    def collect_episodes(self, policy: Policy, episodes_per_copy: int, seed: int) -> Rollout:
        """Play exactly so many whole episodes in every copy, from a fresh start.

        The first so many to finish, over all copies, would be the short ones.

        Args:
            policy: Chooses the actions, exploring.
            episodes_per_copy: Whole episodes of each copy.
            seed: Of the fresh start.

        Returns:
            A rollout as long as the slowest copy needs; the mask is False where a copy
            had finished. Those steps count as environment steps all the same.
        """
        self.reset(seed)
        missing = np.full(self.num_envs, episodes_per_copy)
        steps: list[Rollout] = []
        while (playing := missing > 0).any():
            self._rated = playing
            step = self.collect(policy, 1)
            steps.append(step._replace(mask=step.mask & torch.from_numpy(playing)))
            missing -= step.ends[0].numpy()
        return join_rollouts(steps)

    def _exploration(self) -> Exploration:
        # The other ranks have taken about as many steps; to ask them at each would be slow.
        return Exploration(self.env_steps * self.world_size, self.generator)

    def _count(self, rewards: Array, ends: Array, mask: Array) -> None:
        self.env_steps += int(np.count_nonzero(mask))
        self._returns += rewards
        self._lengths += mask
        self._ended = ends
        if ends.any():
            rated = ends & self._rated
            self.finished.extend(
                zip(self._returns[rated].tolist(), self._lengths[rated].tolist(), strict=True)
            )
            self._returns[ends] = 0.0
            self._lengths[ends] = 0

    def close(self) -> None:
        """Close the environments."""
        self.envs.close()


# Around the policy alone: a tensor made in inference mode could not enter a loss.
@torch.inference_mode()
def act(policy: Policy, observations: Array, exploration: Exploration | None) -> Array:
    """The policy's actions [N, ...] for `observations` [N, ...], through its device and back."""
    batch = torch.from_numpy(observations).to(policy.device)
    actions: Array = policy.act(batch, exploration).cpu().numpy()
    return actions


def tensor_dtype(space: gym.Space[Any]) -> np.dtype[Any]:
    """The dtype in which observations are kept.

    Networks compute in float32, so MuJoCo's float64 is halved on arrival; everything
    else, uint8 above all, stays as it is.
    """
    dtype = np.dtype(space.dtype)
    return np.dtype(np.float32) if dtype == np.float64 else dtype


def within_bounds(space: gym.Space[Any], actions: Array) -> Array:
    """Clip continuous actions to the box, at the environment's door alone.

    The rollout keeps the unclipped sample, whose log-probability the loss is about.
    """
    if isinstance(space, gym.spaces.Box):
        return np.clip(actions, space.low, space.high)
    return actions
