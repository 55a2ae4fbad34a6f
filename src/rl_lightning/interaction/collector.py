"""The collector: it steps vector environments with the policy and returns rollouts."""

from collections import deque
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from rl_lightning.environments.making import longest_episode
from rl_lightning.environments.stepping import Envs, reset, step, tensor_dtype
from rl_lightning.experience import Decision, Exploration, Policy, Rollout, join_rollouts
from rl_lightning.runtime.errors import RunError

Array = npt.NDArray[Any]


class Collector:
    """Steps N environment copies with a policy and keeps the state of their episodes.

    This state is in attributes and not in the local variables of a generator, because a
    DataLoader calls `__iter__` again in every epoch while the episodes continue.

    In rollouts a lost life (`infos["life_lost"]`) sets the discount to 0 although the episode
    continues, and rewards may be clipped to ±1. Neither changes the returns and lengths in
    `finished`, which are those of whole episodes with raw rewards.

    Attributes:
        env_steps: Environment steps of all environment copies of this rank. The row in which an
            environment copy resets is not counted, because its action is ignored.
        finished: Return and length of the last 100 finished episodes.
        generator: The exploration stream of this update.
    """

    def __init__(
        self,
        envs: Envs,
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
        """Number of environment copies."""
        return self.envs.num_envs

    def reset(self, seed: int) -> None:
        """Start a new episode in every environment copy. The counts are kept."""
        self._observations = reset(self.envs, seed)
        self._ended = np.zeros(self.num_envs, dtype=np.bool_)
        self._returns = np.zeros(self.num_envs)
        self._lengths = np.zeros(self.num_envs, dtype=np.int64)
        self._counted = np.ones(self.num_envs, dtype=np.bool_)

    @property
    def ready(self) -> bool:
        """Whether the environment copies have been reset."""
        return self._observations is not None

    @property
    def observations(self) -> torch.Tensor:
        """The newest observations [N, ...], in the dtype of rollouts."""
        assert self._observations is not None
        return torch.from_numpy(self._observations)

    def state_dict(self) -> dict[str, Any]:
        """The state of this rank's episodes, as primitives and tensors for a checkpoint."""
        from rl_lightning.environments.state import read_state

        state: dict[str, Any] = {"env_steps": self.env_steps, "finished": [*self.finished]}
        if self.ready and (envs := read_state(self.envs)) is not None:
            names = ("_observations", "_ended", "_returns", "_lengths")
            state["episodes"] = {
                name: torch.from_numpy(np.array(getattr(self, name))) for name in names
            }
            state["envs"] = envs
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state from `state_dict`. If it holds no episodes, new ones must be started."""
        self.env_steps = state["env_steps"]
        self.finished.extend(state["finished"])
        if "episodes" in state:
            from rl_lightning.environments.state import write_state

            self.reset(0)  # creates the objects that the state is then written to
            for name, values in state["episodes"].items():
                setattr(self, name, values.numpy())
            write_state(self.envs, state["envs"])

    def collect(self, policy: Policy, num_steps: int, *, explore: bool = True) -> Rollout:
        """Take `num_steps` steps in every environment copy.

        Args:
            policy: Chooses the actions.
            num_steps: T.
            explore: Whether the policy explores, with this collector's `generator`.

        Returns:
            A rollout on the CPU. Its `observations` have one row more than the other fields.

        Raises:
            RunError: If the environment fails, or an observation or reward cannot be used.
        """
        assert self._observations is not None, "reset the collector before the first rollout"
        shape = (num_steps, self.num_envs)
        space = self.envs.single_observation_space
        observations = np.empty(
            (num_steps + 1, self.num_envs, *(space.shape or ())), tensor_dtype(space)
        )
        decisions: list[Decision] = []
        # Only the policy runs in inference mode. A tensor made in that mode cannot be in a loss.
        inference = torch.inference_mode()
        rewards = np.empty(shape, np.float32)
        terminals = np.empty(shape, np.bool_)  # the next observation has the value 0
        ends = np.empty(shape, np.bool_)
        mask = np.empty(shape, np.bool_)

        for t in range(num_steps):
            observations[t] = self._observations
            np.logical_not(self._ended, out=mask[t])
            exploration = self._exploration() if explore else None
            with inference:
                decisions.append(choose(policy, observations[t], exploration))
            after = step(self.envs, decisions[t].actions.cpu().numpy())
            self._observations, rewards[t] = after.observations, after.rewards
            np.logical_or(after.terminated, after.truncated, out=ends[t])
            np.logical_or(after.terminated, after.infos.get("life_lost", False), out=terminals[t])
            self._count(rewards[t], ends[t], mask[t])
        observations[num_steps] = self._observations

        return Rollout(
            observations=torch.from_numpy(observations),
            actions=torch.stack([decision.actions for decision in decisions]).cpu(),
            rewards=torch.from_numpy(rewards.clip(-1, 1) if self.clip_rewards else rewards),
            discounts=torch.from_numpy(np.where(terminals, np.float32(0), np.float32(self.gamma))),
            ends=torch.from_numpy(ends),
            mask=torch.from_numpy(mask),
            extras={
                name: torch.stack([decision.extras[name] for decision in decisions]).cpu()
                for name in decisions[0].extras
            },
        )

    def collect_episodes(self, policy: Policy, episodes_per_copy: int, seed: int) -> Rollout:
        """Reset, then play the same number of whole episodes in every environment copy.

        The number is fixed for each environment copy, because the first episodes to finish over
        all of them would mostly be short ones.

        Args:
            policy: Chooses the actions, with exploration.
            episodes_per_copy: Whole episodes of each environment copy.
            seed: Seed of the reset.

        Returns:
            A rollout that ends when the slowest environment copy has finished. The mask is False
            after an environment copy has finished. Its steps from then on are still counted as
            environment steps.

        Raises:
            RunError: If an episode does not end.
        """
        self.reset(seed)
        limit = longest_episode(self.envs)
        missing = np.full(self.num_envs, episodes_per_copy)
        steps: list[Rollout] = []
        while (playing := missing > 0).any():
            if self._lengths[playing].max() >= limit:
                raise RunError(
                    f"an episode has not ended after {limit:,} environment steps, and "
                    "episodes_per_update needs whole episodes: set a time limit with "
                    "--data.env_kwargs.max_episode_steps"
                )
            self._counted = playing
            rollout = self.collect(policy, 1)
            steps.append(rollout._replace(mask=rollout.mask & torch.from_numpy(playing)))
            missing -= rollout.ends[0].numpy()
        return join_rollouts(steps)

    def _exploration(self) -> Exploration:
        # This is an estimate. Other ranks have taken about as many steps, and an exchange of the
        # exact counts at every step would be slow.
        return Exploration(self.env_steps * self.world_size, self.generator)

    def _count(self, rewards: Array, ends: Array, mask: Array) -> None:
        self.env_steps += int(np.add.reduce(mask))  # `sum` takes two more calls
        self._returns += rewards
        self._lengths += mask
        self._ended = ends
        if np.logical_or.reduce(ends):
            counted = ends & self._counted
            self.finished.extend(
                zip(self._returns[counted].tolist(), self._lengths[counted].tolist(), strict=True)
            )
            self._returns[ends] = 0.0
            self._lengths[ends] = 0

    def close(self) -> None:
        """Close the environments."""
        self.envs.close()


def choose(policy: Policy, observations: Array, exploration: Exploration | None) -> Decision:
    """Compute the policy's decision for `observations` [N, ...] on the policy's device.

    Call this in inference mode.
    """
    decision = policy.act(torch.from_numpy(observations).to(policy.device), exploration)
    return decision if isinstance(decision, Decision) else Decision(decision)
