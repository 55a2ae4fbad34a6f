"""A ring of the latest experience, one observation a row."""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from rl_lightning.experience import Rollout, Transitions

IndexArray = npt.NDArray[np.int64]


class ReplayRing:
    """Keeps the latest rows of N copies and samples n-step transitions from them.

    Each observation stands once: what followed row t is row t + 1 of the same copy,
    a true final observation included (see `Rollout`). The newest observation waits
    in the row that the next insertion begins with. Tensors are allocated on the first
    insertion, in the dtypes that arrive (uint8 stays uint8), and written in place.

    Which rows are drawn (`draw`) and what is made of them (`gather`) are apart, so
    another distribution over rows needs no other ring.

    Args:
        capacity: Transitions to keep, over all copies.
        num_envs: N.
        n_step: Steps of reward before the bootstrap.
        device: Where the tensors live.
    """

    def __init__(
        self, capacity: int, num_envs: int, n_step: int = 1, device: torch.device | str = "cpu"
    ) -> None:
        self.num_envs = num_envs
        self.n_step = n_step
        self.device = torch.device(device)
        # n − 1 rows that wait for the rewards to come, and one for the newest observation.
        self.num_rows = capacity // num_envs + n_step
        self.inserted = 0
        # On the host: every draw asks it, and an answer from a GPU would be waited for.
        self._mask = np.zeros((self.num_rows, num_envs), np.bool_)
        self._observations: Tensor | None = None

    def __len__(self) -> int:
        """Rows times copies that a draw chooses from, rows of resets among them."""
        return max(0, min(self.inserted, self.num_rows - 1) - self.n_step + 1) * self.num_envs

    def extend(self, rollout: Rollout) -> None:
        """Insert the T rows of a rollout that goes on where the last one stopped."""
        if self._observations is None:
            self._allocate(rollout)
        num_steps = rollout.rewards.shape[0]
        assert num_steps < self.num_rows, f"{num_steps} rows into a ring of {self.num_rows}"
        rows = np.arange(self.inserted, self.inserted + num_steps) % self.num_rows
        self._mask[rows] = rollout.mask.numpy()
        start = self.inserted % self.num_rows
        assert self._observations is not None
        for ring, values in (
            (self._actions, rollout.actions),
            (self._rewards, rollout.rewards),
            (self._discounts, rollout.discounts),
            (self._ends, rollout.ends),
            (self._observations, rollout.observations),
        ):
            first = min(len(values), self.num_rows - start)
            ring[start : start + first].copy_(values[:first])
            ring[: len(values) - first].copy_(values[first:])
        self.inserted += num_steps

    def _allocate(self, rollout: Rollout) -> None:
        def rows_like(values: Tensor) -> Tensor:
            return torch.zeros(
                (self.num_rows, *values.shape[1:]), dtype=values.dtype, device=self.device
            )

        self._observations = rows_like(rollout.observations)
        self._actions = rows_like(rollout.actions)
        self._rewards = rows_like(rollout.rewards)
        self._discounts = rows_like(rollout.discounts)
        self._ends = rows_like(rollout.ends)

    def draw(self, batch_size: int, rng: np.random.Generator) -> tuple[IndexArray, IndexArray]:
        """Draw rows and copies uniformly, with replacement, never a row of a reset.

        Returns:
            Rows [B], counted from the first ever inserted, and copies [B].
        """
        assert len(self) > 0, "nothing to draw from: insert more than n_step rows first"
        oldest = max(0, self.inserted - self.num_rows + 1)
        flat = rng.integers(len(self), size=batch_size)
        while True:
            rows, copies = oldest + flat // self.num_envs, flat % self.num_envs
            resets = np.flatnonzero(~self._mask[rows % self.num_rows, copies])
            if resets.size == 0:
                return rows, copies
            flat[resets] = rng.integers(len(self), size=resets.size)

    def gather(self, rows: IndexArray, copies: IndexArray) -> Transitions:
        """Build the n-step transitions that begin at `rows` [B] of `copies` [B].

        An episode's end within the n steps ends the sum there: what follows it is the
        true final observation, weighted by its discount.
        """
        assert self._observations is not None
        step = torch.from_numpy(rows).to(self.device)
        copy = torch.from_numpy(copies).to(self.device)
        start = (step % self.num_rows) * self.num_envs + copy

        index = start
        rewards = self._rewards.view(-1)[index]
        discounts = self._discounts.view(-1)[index]
        going = ~self._ends.view(-1)[index]
        step = step + 1
        for _ in range(1, self.n_step):
            index = (step % self.num_rows) * self.num_envs + copy
            rewards = rewards + going * discounts * self._rewards.view(-1)[index]
            discounts = torch.where(going, discounts * self._discounts.view(-1)[index], discounts)
            step = step + going
            going = going & ~self._ends.view(-1)[index]
        following = (step % self.num_rows) * self.num_envs + copy

        observations = self._observations.flatten(0, 1)
        return Transitions(
            observations=observations[start],
            actions=self._actions.flatten(0, 1)[start],
            rewards=rewards,
            discounts=discounts,
            next_observations=observations[following],
        )

    def sample(self, batch_size: int, rng: np.random.Generator) -> Transitions:
        """Draw and gather a batch of B transitions, on the ring's device."""
        return self.gather(*self.draw(batch_size, rng))
