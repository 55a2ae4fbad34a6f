"""Prioritised experience replay: rows are sampled in proportion to their last TD errors."""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from rl_lightning.replay.ring import IndexArray, ReplayRing
from rl_lightning.runtime.errors import ConfigurationError
from rl_lightning.runtime.ranks import max_over_ranks

FloatArray = npt.NDArray[np.float64]
SMALLEST_ERROR = 1e-6  # added to |TD error|, so that every row has a positive probability


class SumTree:
    """A binary tree over non-negative numbers. Each inner node holds the sum of its two children.

    Args:
        size: Number of leaves.
    """

    def __init__(self, size: int) -> None:
        self._levels = max(1, (size - 1).bit_length())
        self._first_leaf = 1 << self._levels
        self._sums = np.zeros(2 * self._first_leaf)

    @property
    def total(self) -> float:
        """The sum of all numbers."""
        return float(self._sums[1])

    def __getitem__(self, indices: IndexArray) -> FloatArray:
        """The numbers at `indices` [B]."""
        return self._sums[indices + self._first_leaf]

    def __setitem__(self, indices: IndexArray, values: FloatArray | float) -> None:
        """Set the numbers at `indices` [B] and update all sums above them."""
        nodes = indices + self._first_leaf
        self._sums[nodes] = values
        for _ in range(self._levels):
            nodes = nodes >> 1
            self._sums[nodes] = self._sums[2 * nodes] + self._sums[2 * nodes + 1]

    def find(self, points: FloatArray) -> IndexArray:
        """Find the first index whose cumulative sum exceeds each of `points` [B].

        The points are in [0, total). An index whose number is 0 is never returned.
        """
        nodes = np.ones(len(points), np.int64)
        rest = points.copy()
        for _ in range(self._levels):
            left, right = self._sums[2 * nodes], self._sums[2 * nodes + 1]
            # Rounding can move a point beyond the last number that is not 0.
            goes_right = (rest >= left) & (right > 0)
            rest -= goes_right * left
            nodes = 2 * nodes + goes_right
        return nodes - self._first_leaf


class Priorities:
    """Samples row i of a ring with P(i) = p_i^α / Σ p^α, where p_i is its last |TD error|.

    A new row has the largest priority so far, so that it is soon sampled. For K rows the
    importance weights (K P(i))^−β correct the bias of this sampling. They are divided by the
    largest weight of the batch. With several ranks each has its own rows, and the largest weight
    is that of all ranks' batches, so that the gradient is that of one batch with all their rows.

    Source: Schaul et al. 2016, the proportional variant.

    Args:
        ring: The ring whose rows are sampled.
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
        """Sample rows and environment copies, in proportion to their priorities.

        The total priority is divided into `batch_size` equal intervals, and one row is drawn from
        each.

        Returns:
            Rows [B], counted from the first that was ever inserted, environment copies [B] and
            importance weights [B].

        Raises:
            ConfigurationError: If the priorities of the last sample have not been renewed.
            RunError: If all rows are rows of resets.
        """
        if self._drawn is not None:
            raise ConfigurationError(
                "priority_exponent is set, and no callback renews the priorities: add "
                "RenewPriorities to trainer.callbacks, or leave priority_exponent out"
            )
        self._update_rows()
        if self._tree.total == 0:
            raise self.ring.no_transitions()
        shares = (np.arange(batch_size) + rng.random(batch_size)) / batch_size
        slots = self._tree.find(shares * self._tree.total)
        self._drawn = slots
        # K^−β is left out, because the division by the largest weight cancels it.
        weights = (self._tree[slots] / self._tree.total) ** -beta
        largest = max_over_ranks(torch.tensor(weights.max())).item()
        oldest, num_rows = self._known.start, self.ring.num_rows
        rows = oldest + (slots // self.ring.num_envs - oldest) % num_rows
        return rows, slots % self.ring.num_envs, (weights / largest).astype(np.float32)

    def renew(self, td_errors: npt.NDArray[np.float32]) -> None:
        """Set the priorities of the last sampled rows from their `td_errors` [B]."""
        assert self._drawn is not None, "renew was called without draw"
        priorities = (np.abs(td_errors.astype(np.float64)) + SMALLEST_ERROR) ** self.exponent
        self._tree[self._drawn] = priorities
        self._greatest = max(self._greatest, float(priorities.max()))
        self._drawn = None

    def _update_rows(self) -> None:
        """Set overwritten rows and rows of resets to 0, and new rows to the largest priority."""
        kept, known = self.ring.drawable, self._known
        self._tree[self._slots(range(known.start, min(kept.start, known.stop)))] = 0.0
        new = self._slots(range(max(known.stop, kept.start), kept.stop))
        self._tree[new] = np.where(self.ring.are_transitions(new), self._greatest, 0.0)
        self._known = kept

    def _slots(self, rows: range) -> IndexArray:
        copies = np.arange(self.ring.num_envs)
        return self.ring.slots(np.arange(rows.start, rows.stop)[:, None], copies).ravel()

    def state_dict(self) -> dict[str, Any]:
        """The state of the priorities, for a checkpoint."""
        slots = self._slots(self._known)
        return {
            "known": (self._known.start, self._known.stop),
            "values": torch.from_numpy(self._tree[slots]),
            "greatest": self._greatest,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state from `state_dict`, for the rows that are in the ring."""
        start, stop = state["known"]
        values = state["values"].numpy().reshape(stop - start, self.ring.num_envs)
        first = min(max(start, self.ring.drawable.start), stop)
        self._known = range(first, stop)
        self._tree[self._slots(self._known)] = values[first - start :].ravel()
        self._greatest = state["greatest"]
