"""A replay ring buffer with one observation per row."""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from rl_lightning.experience import Rollout, Transitions
from rl_lightning.runtime.errors import RunError

# Rows of resets are drawn again. At most every second row is one, so a few draws are enough. A very
# small ring may hold almost only rows of resets, so after this number of draws the other rows are
# listed.
MOST_REDRAWS = 20

IndexArray = npt.NDArray[np.int64]


class ReplayRing:
    """Keeps the latest rows of N environment copies and samples n-step transitions from them.

    Each observation is stored once. The next observation of row t is in row t + 1 of the same
    environment copy, and this is also true for final observations (see `Rollout`). The newest
    observation is stored already, in the row that the next insertion will complete.

    All memory is allocated at the first insertion, in the dtypes of its rollout (uint8 stays
    uint8), and is then overwritten in place. Observations and actions are on `device`. Rewards,
    discounts and flags take a few bytes per row and stay on the host, because the indices are
    computed there.

    `draw` samples rows, and `gather` makes transitions of them. They are separate methods, so that
    `Priorities` can sample rows of the same ring with another distribution.

    Args:
        capacity: Transitions to keep, over all environment copies.
        num_envs: N.
        n_step: Steps of reward before the bootstrap.
        device: Device of observations and actions.
    """

    history = 0  # number of earlier rows that are needed to build an observation

    def __init__(
        self, capacity: int, num_envs: int, n_step: int = 1, device: torch.device | str = "cpu"
    ) -> None:
        self.num_envs = num_envs
        self.n_step = n_step
        self.device = torch.device(device)
        # The newest n − 1 rows cannot be sampled yet, because their later rewards are missing. One
        # more row holds the newest observation.
        self.num_rows = capacity // num_envs + n_step + self.history
        self.inserted = 0
        self.first = 0  # number of the first row of this ring: see `begin_at`
        self._rewards = np.zeros((self.num_rows, num_envs), np.float32)
        self._discounts = np.zeros_like(self._rewards)
        self._ends = np.zeros((self.num_rows, num_envs), np.bool_)
        self._mask = np.zeros_like(self._ends)
        self._observations: Tensor | None = None
        self._actions: Tensor | None = None
        self._extras: dict[str, Tensor] = {}

    def __len__(self) -> int:
        """Number of drawable rows times environment copies. Rows of resets count too."""
        return len(self.drawable) * self.num_envs

    @property
    def has_transitions(self) -> bool:
        """Whether any drawable row is an environment step and not a reset."""
        return bool(self._drawable_mask().any())

    def _drawable_mask(self) -> npt.NDArray[np.bool_]:
        rows = np.arange(self.drawable.start, self.drawable.stop) % self.num_rows
        return self._mask[rows]

    @property
    def drawable(self) -> range:
        """Rows at which a transition can start, counted from the first that was ever inserted."""
        return range(self.oldest, max(self.oldest, self.inserted - self.n_step + 1))

    def are_transitions(self, slots: IndexArray) -> npt.NDArray[np.bool_]:
        """Whether the rows at `slots` are environment steps and not resets."""
        return self._mask.take(slots)

    @property
    def oldest(self) -> int:
        """The oldest row that is not yet overwritten, counted from the first ever inserted."""
        return max(self.first, self.inserted - self.num_rows + 1 + self.history)

    def begin_at(self, row: int) -> None:
        """Start the row numbers of an empty ring at `row`, to load rows of another ring."""
        assert self._observations is None, "the ring is not empty"
        self.inserted = self.first = row

    def bytes_needed(self, observation_bytes: int, action_bytes: int) -> int:
        """Memory of the ring in bytes, for the given sizes of one observation and one action."""
        return self.num_rows * self.num_envs * (observation_bytes + action_bytes + 10)

    @property
    def bytes_of_a_row(self) -> int:
        """Bytes of the observations of one row in a rollout."""
        assert self._observations is not None
        return self._observations[0].nbytes

    def extend(self, rollout: Rollout) -> None:
        """Insert the T rows of a rollout that continues the last inserted one."""
        num_steps = rollout.rewards.shape[0]
        assert num_steps < self.num_rows, f"{num_steps} rows into a ring of {self.num_rows}"
        if self._actions is None:
            self._actions = self._rows_like(rollout.actions)
            self._extras = {name: self._rows_like(v) for name, v in rollout.extras.items()}
        for ring, values in (
            (torch.from_numpy(self._rewards), rollout.rewards),
            (torch.from_numpy(self._discounts), rollout.discounts),
            (torch.from_numpy(self._ends), rollout.ends),
            (torch.from_numpy(self._mask), rollout.mask),
            (self._actions, rollout.actions),
            *((self._extras[name], values) for name, values in rollout.extras.items()),
        ):
            self._write(ring, values, self.inserted)
        self._insert_observations(rollout)
        self.inserted += num_steps

    def _insert_observations(self, rollout: Rollout) -> None:
        """Insert `observations` [T + 1, N, ...]; the first is the newest of the ring already."""
        if self._observations is None:
            self._observations = self._rows_like(rollout.observations)
        self._write(self._observations, rollout.observations, self.inserted)

    def _write(self, ring: Tensor, values: Tensor, row: int) -> None:
        start = row % self.num_rows
        num_steps = values.shape[0]  # `len` of a tensor takes four calls
        before_wrap = min(num_steps, self.num_rows - start)
        ring[start : start + before_wrap] = values[:before_wrap]
        if before_wrap < num_steps:
            ring[: num_steps - before_wrap] = values[before_wrap:]

    def rows(self, start: int, stop: int) -> Rollout:
        """The rows from `start` to `stop` as one rollout. They must not be overwritten yet."""
        assert self.oldest <= start <= stop <= self.inserted
        assert self._actions is not None
        index = np.arange(start, stop + 1)
        here = index[:-1] % self.num_rows
        return Rollout(
            observations=self._all_copies(index).cpu(),
            actions=self._actions[torch.from_numpy(here).to(self.device)].cpu(),
            rewards=torch.from_numpy(self._rewards[here]),
            discounts=torch.from_numpy(self._discounts[here]),
            ends=torch.from_numpy(self._ends[here]),
            mask=torch.from_numpy(self._mask[here]),
            extras={
                name: ring[torch.from_numpy(here).to(self.device)].cpu()
                for name, ring in self._extras.items()
            },
        )

    def begin_episodes(self, observations: Tensor) -> None:
        """Truncate the episodes of all environment copies and start new ones.

        Args:
            observations: First observations of the new episodes [N, ...].
        """
        self._ends[(self.inserted - 1) % self.num_rows] = True
        last = self.rows(self.inserted - 1, self.inserted)
        both = torch.stack([last.observations[-1], observations])
        self.extend(last.each(torch.zeros_like)._replace(observations=both))

    def _all_copies(self, rows: IndexArray) -> Tensor:
        copies = np.tile(np.arange(self.num_envs), len(rows))
        observations = self.observations(rows.repeat(self.num_envs), copies)
        return observations.unflatten(0, (len(rows), self.num_envs))

    def _rows_like(self, values: Tensor) -> Tensor:
        shape = (self.num_rows, *values.shape[1:])
        return torch.zeros(shape, dtype=values.dtype, device=self.device)

    def draw(self, batch_size: int, rng: np.random.Generator) -> tuple[IndexArray, IndexArray]:
        """Sample rows uniformly with replacement, but no rows of resets.

        Returns:
            Rows [B], counted from the first that was ever inserted, and their environment
            copies [B].

        Raises:
            RunError: If all rows are rows of resets.
        """
        size, oldest = len(self), self.oldest
        assert size > 0, "the ring has no drawable rows: insert more than n_step rows first"
        flat = rng.integers(size, size=batch_size)
        for _ in range(MOST_REDRAWS):
            rows, copies = oldest + flat // self.num_envs, flat % self.num_envs
            (resets,) = (~self.are_transitions(self.slots(rows, copies))).nonzero()
            if resets.size == 0:
                return rows, copies
            flat[resets] = rng.integers(size, size=resets.size)
        steps = np.flatnonzero(self._drawable_mask())
        if steps.size == 0:
            raise self.no_transitions()
        flat[resets] = rng.choice(steps, size=resets.size)
        return oldest + flat // self.num_envs, flat % self.num_envs

    def no_transitions(self) -> RunError:
        """The error for a ring that holds only rows of resets."""
        return RunError(
            f"the replay of {len(self)} rows holds only rows of resets: raise capacity, so that "
            "it also holds environment steps"
        )

    def gather(self, rows: IndexArray, copies: IndexArray) -> Transitions:
        """Build the n-step transitions that start at `rows` [B] of environment copies `copies` [B].

        If the episode ends within the n steps, the sum of rewards stops there. The next
        observation is then the true final observation, and its discount is that of the end.
        """
        assert self._actions is not None
        first, start = rows, self.slots(rows, copies)
        rewards = self._rewards.take(start)
        discounts = self._discounts.take(start)
        going = ~self._ends.take(start)
        rows = rows + 1
        for _ in range(1, self.n_step):
            index = self.slots(rows, copies)
            rewards += going * discounts * self._rewards.take(index)
            discounts *= np.where(going, self._discounts.take(index), np.float32(1))
            rows = rows + going
            going &= ~self._ends.take(index)
        start_index = torch.from_numpy(start).to(self.device)
        observations, next_observations = self._observations_around(first, rows, copies)
        return Transitions(
            observations=observations,
            actions=self._actions.flatten(0, 1).index_select(0, start_index),
            rewards=torch.from_numpy(rewards).to(self.device),
            discounts=torch.from_numpy(discounts).to(self.device),
            next_observations=next_observations,
            extras={
                name: ring.flatten(0, 1).index_select(0, start_index)
                for name, ring in self._extras.items()
            },
        )

    def _observations_around(
        self, rows: IndexArray, next_rows: IndexArray, copies: IndexArray
    ) -> tuple[Tensor, Tensor]:
        """Observations at `rows` and at `next_rows`, read in one access, which is faster."""
        both = np.concatenate([rows, next_rows]), np.concatenate([copies, copies])
        before, after = self.observations(*both).split(len(rows))
        return before, after

    def observations(self, rows: IndexArray, copies: IndexArray) -> Tensor:
        """Observations [B, ...] at `rows` [B] of environment copies `copies` [B]."""
        assert self._observations is not None
        index = torch.from_numpy(self.slots(rows, copies)).to(self.device)
        return self._observations.flatten(0, 1).index_select(0, index)

    def slots(self, rows: IndexArray, copies: IndexArray) -> IndexArray:
        """Flat indices of rows and environment copies, for arrays [rows · copies, ...]."""
        return rows % self.num_rows * self.num_envs + copies

    def sample(self, batch_size: int, rng: np.random.Generator) -> Transitions:
        """Draw and gather a batch of `batch_size` transitions, on the ring's device."""
        return self.gather(*self.draw(batch_size, rng))
