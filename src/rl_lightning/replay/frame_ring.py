"""A replay ring for stacked frames that stores one frame per row."""

import numpy as np
import torch
from torch import Tensor

from rl_lightning.experience import Rollout
from rl_lightning.replay.ring import IndexArray, ReplayRing


class FrameRing(ReplayRing):
    """A ReplayRing for observations that are stacks of the last frames.

    A stack has only one frame that is not in the stack before, its newest one. So only this frame
    is stored, together with the row's age, which is the number of steps since its episode's reset.
    A stack is rebuilt by gathering its frames. Frames older than the age are 0, because the
    environment also fills stacks with 0 after a reset. Every stack is rebuilt exactly. One million
    Atari transitions take 7.1 GB in place of 28 GB.

    Args:
        capacity: Transitions to keep, over all environment copies.
        num_envs: N.
        stack: Frames of an observation [stack, H, W].
        n_step: Steps of reward before the bootstrap.
        device: Device of frames and actions.
    """

    def __init__(
        self,
        capacity: int,
        num_envs: int,
        stack: int,
        n_step: int = 1,
        device: torch.device | str = "cpu",
    ) -> None:
        self.stack = stack
        self.history = stack - 1
        super().__init__(capacity, num_envs, n_step, device)
        self._ages = np.zeros((self.num_rows, num_envs), np.uint8)  # at most `stack`

    def bytes_needed(self, observation_bytes: int, action_bytes: int) -> int:
        """Memory of the ring in bytes; `observation_bytes` is the size of a whole stack."""
        return super().bytes_needed(observation_bytes // self.stack + 1, action_bytes)

    @property
    def bytes_of_a_row(self) -> int:
        """Bytes of the stacks of one row in a rollout."""
        return self._frames[0].nbytes * self.stack

    def _insert_observations(self, rollout: Rollout) -> None:
        newest = rollout.observations[:, :, -1]
        if self._observations is None:
            # One more row, which is always 0 and stands for all frames from before a reset.
            shape = ((self.num_rows + 1) * self.num_envs, *newest.shape[2:])
            self._observations = torch.zeros(shape, dtype=newest.dtype, device=self.device)
            self._insert_first_stacks(rollout.observations[0])
        self._write(self._frames, newest[1:], self.inserted + 1)
        for row, is_transition in enumerate(rollout.mask.numpy(), self.inserted):
            # The row after the row of a reset holds the first observation of an episode.
            older = np.minimum(self._ages[row % self.num_rows] + 1, self.stack)
            self._ages[(row + 1) % self.num_rows] = older * is_transition

    def _insert_first_stacks(self, stacks: Tensor) -> None:
        """Write all frames of the first `stacks` [N, stack, H, W] to their row and those before."""
        self._write(self._frames, stacks.transpose(0, 1), self.inserted - self.history)
        self._ages[self.inserted % self.num_rows] = self.history

    @property
    def _frames(self) -> Tensor:
        """The frames [rows, N, H, W], without the row that is always 0."""
        assert self._observations is not None
        return self._observations.unflatten(0, (-1, self.num_envs))[: self.num_rows]

    def observations(self, rows: IndexArray, copies: IndexArray) -> Tensor:
        """Stacks [B, stack, H, W] at `rows` [B] of environment copies `copies` [B]."""
        return self._latest_frames(self.stack, rows, copies)

    def _observations_around(
        self, rows: IndexArray, next_rows: IndexArray, copies: IndexArray
    ) -> tuple[Tensor, Tensor]:
        if self.n_step > 1:
            return super()._observations_around(rows, next_rows, copies)
        # Two consecutive stacks together have only one frame more than a single stack.
        frames = self._latest_frames(self.stack + 1, next_rows, copies)
        return frames[:, :-1], frames[:, 1:]

    def _latest_frames(self, number: int, rows: IndexArray, copies: IndexArray) -> Tensor:
        """The last `number` frames [B, number, H, W] up to `rows` [B] of `copies` [B]."""
        assert self._observations is not None
        back = np.arange(number - 1, -1, -1)
        frames = self.slots(rows[:, None] - back, copies[:, None])
        ages = self._ages.take(self.slots(rows, copies))
        frames[back > ages[:, None]] = self.num_rows * self.num_envs
        index = torch.from_numpy(frames.ravel()).to(self.device)
        return self._observations.index_select(0, index).unflatten(0, frames.shape)
