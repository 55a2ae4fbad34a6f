"""Prioritised experience replay: rows drawn in proportion to what was still to learn from them."""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from rl_lightning.replay.ring import IndexArray, ReplayRing
from rl_lightning.runtime.errors import ConfigurationError

FloatArray = npt.NDArray[np.float64]
SMALLEST_ERROR = 1e-6  # no row falls out of reach


class SumTree:
    """Non-negative numbers, of which each inner node holds the sum below it.

    Args:
        size: How many numbers.
    """

    def __init__(self, size: int) -> None:
        self._levels = max(1, (size - 1).bit_length())
        self._first_leaf = 1 << self._levels
        self._sums = np.zeros(2 * self._first_leaf)

    @property
    def total(self) -> float:
        """The sum of all."""
        return float(self._sums[1])

    def __getitem__(self, indices: IndexArray) -> FloatArray:
        """The numbers at `indices` [B]."""
        return self._sums[indices + self._first_leaf]

    def __setitem__(self, indices: IndexArray, values: FloatArray | float) -> None:
        """Set the numbers at `indices` [B] and every sum above them."""
        nodes = indices + self._first_leaf
        self._sums[nodes] = values
        for _ in range(self._levels):
            nodes = nodes >> 1
            self._sums[nodes] = self._sums[2 * nodes] + self._sums[2 * nodes + 1]

    def find(self, points: FloatArray) -> IndexArray:
        """Where the cumulated numbers pass `points` [B] in [0, total): never at a 0."""
        nodes = np.ones(len(points), np.int64)
        rest = points.copy()
        for _ in range(self._levels):
            left, right = self._sums[2 * nodes], self._sums[2 * nodes + 1]
            # Rounding may put a point past the last number that is not 0.
            goes_right = (rest >= left) & (right > 0)
            rest -= goes_right * left
            nodes = 2 * nodes + goes_right
        return nodes - self._first_leaf


class Priorities:
    """Draws row i of a ring with P(i) = p_i^α / Σ p^α, where p_i is its last |TD error|.

    A new row has the greatest priority so far, so that each is soon seen. The weights
    (K P(i))^−β of K rows make up for the draw, divided by the greatest of the batch.

    Source: Schaul et al. 2016, the proportional variant.

    Args:
        ring: What is drawn from.
        exponent: α in (0, 1].
    """

    def __init__(self, ring: ReplayRing, exponent: float) -> None:
        self.ring = ring
        self.exponent = exponent
        self._tree = SumTree(ring.num_rows * ring.num_envs)
        self._known = range(0)
        self._greatest = 1.0
        self._drawn: IndexArray | None = None

    def draw(
        self, batch_size: int, rng: np.random.Generator, beta: float
    ) -> tuple[IndexArray, IndexArray, npt.NDArray[np.float32]]:
        """Draw rows and copies, one from each of `batch_size` equal shares of all priority.

        Returns:
            Rows [B], counted from the first ever inserted, copies [B] and weights [B].

        Raises:
            ConfigurationError: If what was drawn before has not been renewed.
            RunError: If every row is that of a reset.
        """
        if self._drawn is not None:
            raise ConfigurationError(
                "priorities stay as they were, since nothing renews them: add the callback "
                "RenewPriorities to trainer.callbacks, or leave priority_exponent out"
            )
        self._take_in_new_rows()
        if self._tree.total == 0:
            raise self.ring.no_transitions()
        shares = (np.arange(batch_size) + rng.random(batch_size)) / batch_size
        slots = self._tree.find(shares * self._tree.total)
        self._drawn = slots
        weights = self._tree[slots] ** -beta  # what is the same for all goes with the greatest
        oldest, num_rows = self._known.start, self.ring.num_rows
        rows = oldest + (slots // self.ring.num_envs - oldest) % num_rows
        return rows, slots % self.ring.num_envs, (weights / weights.max()).astype(np.float32)

    def renew(self, td_errors: npt.NDArray[np.float32]) -> None:
        """Give the rows of the last draw the priorities of their `td_errors` [B]."""
        assert self._drawn is not None, "renewed without a draw"
        priorities = (np.abs(td_errors.astype(np.float64)) + SMALLEST_ERROR) ** self.exponent
        self._tree[self._drawn] = priorities
        self._greatest = max(self._greatest, float(priorities.max()))
        self._drawn = None

    def _take_in_new_rows(self) -> None:
        """Rows that the ring has dropped get 0, new ones the greatest, rows of resets 0."""
        kept, known = self.ring.drawable, self._known
        self._tree[self._slots(range(known.start, min(kept.start, known.stop)))] = 0.0
        new = self._slots(range(max(known.stop, kept.start), kept.stop))
        self._tree[new] = np.where(self.ring.are_transitions(new), self._greatest, 0.0)
        self._known = kept

    def _slots(self, rows: range) -> IndexArray:
        copies = np.arange(self.ring.num_envs)
        return self.ring.slots(np.arange(rows.start, rows.stop)[:, None], copies).ravel()

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint must keep beside the ring."""
        slots = self._slots(self._known)
        return {
            "known": (self._known.start, self._known.stop),
            "values": torch.from_numpy(self._tree[slots]),
            "greatest": self._greatest,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state_dict` was, with the rows that are still in the ring."""
        start, stop = state["known"]
        values = state["values"].numpy().reshape(stop - start, self.ring.num_envs)
        first = min(max(start, self.ring.drawable.start), stop)
        self._known = range(first, stop)
        self._tree[self._slots(self._known)] = values[first - start :].ravel()
        self._greatest = state["greatest"]
