"""A replay ring for stacks of frames, one frame a row."""

import numpy as np
import torch
from torch import Tensor

from rl_lightning.experience import Rollout
from rl_lightning.replay.ring import IndexArray, ReplayRing


class FrameRing(ReplayRing):
    """A ReplayRing whose observations are the last frames of each copy, stacked.

    A stack shares all but its newest frame with the stack before, so that frame alone is
    kept, with the row's age: the steps since its game's true reset. Stacks are rebuilt by
    gathering; frames from before the reset are 0, as the environment gave them. That is
    exact at every row, and a million transitions of Atari take 7.1 GB in place of 28 GB.

    Args:
        capacity: Transitions to keep, over all copies.
        num_envs: N.
        stack: Frames of an observation [stack, H, W].
        n_step: Steps of reward before the bootstrap.
        device: Where frames and actions live.
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
        self._ages = np.zeros((self.num_rows, num_envs), np.uint8)  # up to `stack`

    def bytes_needed(self, observation_bytes: int, action_bytes: int) -> int:
        """Memory of the ring; `observation_bytes` are those of all frames of a stack."""
        return super().bytes_needed(observation_bytes // self.stack + 1, action_bytes)

    def _insert_observations(self, rollout: Rollout) -> None:
        newest = rollout.observations[:, :, -1]
        if self._observations is None:
            # A row more, which stays 0: every frame from before a reset.
            shape = ((self.num_rows + 1) * self.num_envs, *newest.shape[2:])
            self._observations = torch.zeros(shape, dtype=newest.dtype, device=self.device)
            self._insert_first_stacks(rollout.observations[0])
        self._write(self._frames, newest[1:], self.inserted + 1)
        for row, is_transition in enumerate(rollout.mask.numpy(), self.inserted):
            # What follows the row of a reset is the first observation of a game.
            older = np.minimum(self._ages[row % self.num_rows] + 1, self.stack)
            self._ages[(row + 1) % self.num_rows] = older * is_transition

    def _insert_first_stacks(self, stacks: Tensor) -> None:
        """Put all frames of the first `stacks` [N, stack, H, W] into the rows up to theirs."""
        self._write(self._frames, stacks.transpose(0, 1), self.inserted - self.history)
        self._ages[self.inserted % self.num_rows] = self.history

    @property
    def _frames(self) -> Tensor:
        """The frames [rows, N, H, W], without the row that stays 0."""
        assert self._observations is not None
        return self._observations.unflatten(0, (-1, self.num_envs))[: self.num_rows]

    def observations(self, rows: IndexArray, copies: IndexArray) -> Tensor:
        """The stacks [B, stack, H, W] in `rows` [B] of `copies` [B], on the ring's device."""
        return self._latest_frames(self.stack, rows, copies)

    def _observations_around(
        self, rows: IndexArray, next_rows: IndexArray, copies: IndexArray
    ) -> tuple[Tensor, Tensor]:
        if self.n_step > 1:
            return super()._observations_around(rows, next_rows, copies)
        # Two neighbouring stacks have but one frame more than one stack.
        frames = self._latest_frames(self.stack + 1, next_rows, copies)
        return frames[:, :-1], frames[:, 1:]

    def _latest_frames(self, number: int, rows: IndexArray, copies: IndexArray) -> Tensor:
        """The `number` frames [B, number, H, W] up to `rows` [B] of `copies` [B]."""
        assert self._observations is not None
        back = np.arange(number - 1, -1, -1)
        frames = self.slots(rows[:, None] - back, copies[:, None])
        ages = self._ages.take(self.slots(rows, copies))
        frames[back > ages[:, None]] = self.num_rows * self.num_envs
        index = torch.from_numpy(frames.ravel()).to(self.device)
        return self._observations.index_select(0, index).unflatten(0, frames.shape)
