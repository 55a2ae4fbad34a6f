"""A ring of the latest experience, one observation a row."""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from rl_lightning.experience import Rollout, Transitions
from rl_lightning.runtime.errors import RunError

# Some rows of a copy are resets, at most every second one, so a few draws find the others. A
# ring of very few rows may hold almost nothing else; then the others are listed.
MOST_REDRAWS = 20

IndexArray = npt.NDArray[np.int64]


class ReplayRing:
    """Keeps the latest rows of N copies and samples n-step transitions from them.

    Each observation stands once: what followed row t is row t + 1 of the same copy,
    a true final observation included (see `Rollout`). The newest observation waits
    in the row that the next insertion begins with. All memory is taken on the first
    insertion, in the dtypes that arrive (uint8 stays uint8), and written in place.
    Observations and actions live on `device`; the few bytes a row of rewards,
    discounts and marks stay on the host, where indices are computed without waiting.

    Which rows are drawn (`draw`) and what is made of them (`gather`) are apart, so
    another distribution over rows needs no other ring.

    Args:
        capacity: Transitions to keep, over all copies.
        num_envs: N.
        n_step: Steps of reward before the bootstrap.
        device: Where observations and actions live.
    """

    history = 0  # rows that an observation needs from before its own

    def __init__(
        self, capacity: int, num_envs: int, n_step: int = 1, device: torch.device | str = "cpu"
    ) -> None:
        self.num_envs = num_envs
        self.n_step = n_step
        self.device = torch.device(device)
        # n − 1 rows that wait for the rewards to come, and one for the newest observation.
        self.num_rows = capacity // num_envs + n_step + self.history
        self.inserted = 0
        self.first = 0  # rows before it were never here: see `begin_at`
        self._rewards = np.zeros((self.num_rows, num_envs), np.float32)
        self._discounts = np.zeros_like(self._rewards)
        self._ends = np.zeros((self.num_rows, num_envs), np.bool_)
        self._mask = np.zeros_like(self._ends)
        self._observations: Tensor | None = None
        self._actions: Tensor | None = None
        self._extras: dict[str, Tensor] = {}

    def __len__(self) -> int:
        """Rows times copies that a draw chooses from, rows of resets among them."""
        return len(self.drawable) * self.num_envs

    @property
    def has_transitions(self) -> bool:
        """Whether any row can be drawn: rows of resets cannot."""
        return bool(self._drawable_mask().any())

    def _drawable_mask(self) -> npt.NDArray[np.bool_]:
        rows = np.arange(self.drawable.start, self.drawable.stop) % self.num_rows
        return self._mask[rows]

    @property
    def drawable(self) -> range:
        """Rows that a transition can begin with, counted from the first ever inserted."""
        return range(self.oldest, max(self.oldest, self.inserted - self.n_step + 1))

    def are_transitions(self, slots: IndexArray) -> npt.NDArray[np.bool_]:
        """Whether the rows at `slots` are environment steps, and not those of resets."""
        return self._mask.take(slots)

    @property
    def oldest(self) -> int:
        """The oldest row that is still whole, counted from the first ever inserted."""
        return max(self.first, self.inserted - self.num_rows + 1 + self.history)

    def begin_at(self, row: int) -> None:
        """Number the rows of an empty ring from `row` on, as another ring's were numbered."""
        assert self._observations is None, "only an empty ring can begin elsewhere"
        self.inserted = self.first = row

    def bytes_needed(self, observation_bytes: int, action_bytes: int) -> int:
        """Memory of the ring when an observation and an action take so many bytes."""
        return self.num_rows * self.num_envs * (observation_bytes + action_bytes + 10)

    def extend(self, rollout: Rollout) -> None:
        """Insert the T rows of a rollout that goes on where the last one stopped."""
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
        """Take in `observations` [T + 1, N, ...], the first of which is the newest here."""
        if self._observations is None:
            self._observations = self._rows_like(rollout.observations)
        self._write(self._observations, rollout.observations, self.inserted)

    def _write(self, ring: Tensor, values: Tensor, row: int) -> None:
        start = row % self.num_rows
        before_wrap = min(len(values), self.num_rows - start)
        ring[start : start + before_wrap] = values[:before_wrap]
        if before_wrap < len(values):
            ring[: len(values) - before_wrap] = values[before_wrap:]

    def rows(self, start: int, stop: int) -> Rollout:
        """What `extend` was given for the rows from `start` to `stop`, both still here."""
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
        """Truncate the games of all copies here; others begin with `observations` [N, ...]."""
        assert self._actions is not None
        self._ends[(self.inserted - 1) % self.num_rows] = True
        last = self._all_copies(np.array([self.inserted]))[0].cpu()
        nothing = torch.zeros(1, self.num_envs)
        self.extend(
            Rollout(
                observations=torch.stack([last, observations]),
                actions=torch.zeros_like(self._actions[:1]).cpu(),
                rewards=nothing,
                discounts=nothing,
                ends=nothing.bool(),
                mask=nothing.bool(),
                extras={
                    name: torch.zeros_like(ring[:1]).cpu() for name, ring in self._extras.items()
                },
            )
        )

    def _all_copies(self, rows: IndexArray) -> Tensor:
        copies = np.tile(np.arange(self.num_envs), len(rows))
        observations = self.observations(rows.repeat(self.num_envs), copies)
        return observations.unflatten(0, (len(rows), self.num_envs))

    def _rows_like(self, values: Tensor) -> Tensor:
        shape = (self.num_rows, *values.shape[1:])
        return torch.zeros(shape, dtype=values.dtype, device=self.device)

    def draw(self, batch_size: int, rng: np.random.Generator) -> tuple[IndexArray, IndexArray]:
        """Draw rows and copies uniformly, with replacement, never a row of a reset.

        Returns:
            Rows [B], counted from the first ever inserted, and copies [B].

        Raises:
            RunError: If every row is that of a reset.
        """
        assert len(self) > 0, "nothing to draw from: insert more than n_step rows first"
        flat = rng.integers(len(self), size=batch_size)
        for _ in range(MOST_REDRAWS):
            rows, copies = self.oldest + flat // self.num_envs, flat % self.num_envs
            resets = np.flatnonzero(~self.are_transitions(self.slots(rows, copies)))
            if resets.size == 0:
                return rows, copies
            flat[resets] = rng.integers(len(self), size=resets.size)
        steps = np.flatnonzero(self._drawable_mask())
        if steps.size == 0:
            raise self.no_transitions()
        flat[resets] = rng.choice(steps, size=resets.size)
        return self.oldest + flat // self.num_envs, flat % self.num_envs

    def no_transitions(self) -> RunError:
        """The error of a draw from rows of resets only."""
        return RunError(
            f"the replay of {len(self)} rows holds rows of resets only: raise capacity, so that "
            "it holds environment steps too"
        )

    def gather(self, rows: IndexArray, copies: IndexArray) -> Transitions:
        """Build the n-step transitions that begin at `rows` [B] of `copies` [B].

        An episode's end within the n steps ends the sum there: what follows it is the
        true final observation, weighted by its discount.
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
        """What is observed before and after, at once: memory is slower than Python here."""
        both = np.concatenate([rows, next_rows]), np.concatenate([copies, copies])
        before, after = self.observations(*both).split(len(rows))
        return before, after

    def observations(self, rows: IndexArray, copies: IndexArray) -> Tensor:
        """The observations [B, ...] in `rows` [B] of `copies` [B], on the ring's device."""
        assert self._observations is not None
        index = torch.from_numpy(self.slots(rows, copies)).to(self.device)
        return self._observations.flatten(0, 1).index_select(0, index)

    def slots(self, rows: IndexArray, copies: IndexArray) -> IndexArray:
        """Where `rows` of `copies` stand when rows and copies are one dimension."""
        return rows % self.num_rows * self.num_envs + copies

    def sample(self, batch_size: int, rng: np.random.Generator) -> Transitions:
        """Draw and gather a batch of B transitions, on the ring's device."""
        return self.gather(*self.draw(batch_size, rng))
