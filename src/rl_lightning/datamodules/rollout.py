"""On-policy experience: rollouts of the current policy, each for one update unless asked."""

from typing import Any

import torch
from torch import Tensor
from typing_extensions import Unpack

from rl_lightning.datamodules.online import OnlineDataModule, OnlineOptions
from rl_lightning.datamodules.source import require_positive
from rl_lightning.experience import Rollout
from rl_lightning.runtime.errors import ConfigurationError
from rl_lightning.runtime.seeding import numpy_stream


class RolloutDataModule(OnlineDataModule):
    """Collects rollouts, each with the policy just before the first update that uses it.

    A rollout is one of two kinds. With `rollout_length` it has that number of steps in every
    environment copy, and episodes continue from rollout to rollout. With `episodes_per_update` it
    has that number of whole episodes, the same number from each environment copy, and begins with
    a reset.

    A rollout is one batch. With `passes` and `minibatches` it is several, for algorithms such as
    PPO. In each pass the environment copies are split at random into minibatches of equal size,
    which are rollouts of fewer copies. So their steps stay in order.

    Args:
        env_id: A Gymnasium environment id, such as CartPole-v1.
        rollout_length: T, steps of each environment copy in a rollout.
        episodes_per_update: Whole episodes of a rollout on each rank, a multiple of `num_envs`.
        updates_per_epoch: Updates between two validations.
        passes: How often each rollout is used.
        minibatches: Batches of a pass; `num_envs` must be a multiple.
        options: See `OnlineDataModule`.

    Raises:
        ConfigurationError: If an argument is out of range or the environment cannot be used.
    """

    batch_type = Rollout

    def __init__(
        self,
        env_id: str,
        rollout_length: int | None = None,
        episodes_per_update: int | None = None,
        updates_per_epoch: int = 100,
        passes: int = 1,
        minibatches: int = 1,
        **options: Unpack[OnlineOptions],
    ) -> None:
        if (rollout_length is None) == (episodes_per_update is None):
            raise ConfigurationError(
                f"rollout_length is {rollout_length} and episodes_per_update is "
                f"{episodes_per_update}: set exactly one of them, for rollouts of fixed length or "
                "of whole episodes"
            )
        require_positive(
            rollout_length=1 if rollout_length is None else rollout_length,
            episodes_per_update=1 if episodes_per_update is None else episodes_per_update,
            updates_per_epoch=updates_per_epoch,
            passes=passes,
            minibatches=minibatches,
        )
        super().__init__(env_id, **options)
        if self.num_envs % minibatches:
            raise ConfigurationError(
                f"num_envs {self.num_envs} is not a multiple of minibatches {minibatches}, and a "
                "minibatch holds whole environment copies: make it a multiple"
            )
        if episodes_per_update is not None and episodes_per_update % self.num_envs:
            raise ConfigurationError(
                f"episodes_per_update {episodes_per_update} is not a multiple of num_envs "
                f"{self.num_envs}, and all environment copies play equally many: make it a multiple"
            )
        self.rollout_length = rollout_length
        self.episodes_per_update = episodes_per_update
        self.updates_per_epoch = updates_per_epoch
        self.gives_whole_episodes = episodes_per_update is not None
        self.passes = passes
        self.minibatches = minibatches
        self.updates_per_rollout = passes * minibatches
        self._rollout: Rollout | None = None  # in use, and in the checkpoint until its last use

    def next_batch(self) -> Rollout:
        """The rollout of the next update, or a minibatch of it."""
        use = self.updates % self.updates_per_rollout
        rollout = self._collect() if use == 0 else self._rollout
        assert rollout is not None
        self._rollout = rollout if use + 1 < self.updates_per_rollout else None
        if self.minibatches > 1:
            copies = self._copies(use % self.minibatches)
            rollout = rollout.each(lambda column: column[:, copies])
        return rollout._replace(is_last_use=use >= (self.passes - 1) * self.minibatches)

    def _copies(self, minibatch: int) -> Tensor:
        """The environment copies of a minibatch, from the random stream of its pass."""
        stream = numpy_stream(
            self.seed, rank=self.rank, update=self.updates - minibatch, stream="minibatches"
        )
        return torch.from_numpy(stream.permutation(self.num_envs)[minibatch :: self.minibatches])

    def _collect(self) -> Rollout:
        collector = self.ready_collector()
        if self.rollout_length is not None:
            return collector.collect(self.policy, self.rollout_length)
        assert self.episodes_per_update is not None
        return collector.collect_episodes(
            self.policy, self.episodes_per_update // self.num_envs, self.stream_seed("episodes")
        )

    def rank_state(self) -> dict[str, Any]:
        """The state of this rank's experience, with a rollout that is still in use."""
        rollout = None if self._rollout is None else tuple(self._rollout)
        return {**super().rank_state(), "rollout": rollout}

    def load_rank_state(self, state: dict[str, Any]) -> None:
        """Restore a state from `rank_state`.

        Raises:
            ConfigurationError: If the checkpoint holds a rollout and this datamodule uses rollouts
                once, or the other way round.
        """
        super().load_rank_state(state)
        saved = state.get("rollout")
        if (saved is None) != (self.updates % self.updates_per_rollout == 0):
            raise ConfigurationError(
                "the checkpoint was made with other passes or minibatches, in the middle of a "
                "rollout: use the same ones"
            )
        self._rollout = None if saved is None else Rollout(*saved)
