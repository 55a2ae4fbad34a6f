"""On-policy experience: rollouts of the current policy, each of which is used for one update."""

from typing import Any

from rl_lightning.datamodules.collecting import CollectingDataModule
from rl_lightning.datamodules.source import require_positive
from rl_lightning.experience import Rollout
from rl_lightning.runtime.errors import ConfigurationError


class RolloutDataModule(CollectingDataModule):
    """Collects one rollout for each update, with the policy just before that update.

    A rollout is one of two kinds. With `rollout_length` it has that number of steps in every
    environment copy, and episodes continue from rollout to rollout. With `episodes_per_update` it
    has that number of whole episodes, the same number from each environment copy, and begins with
    a reset.

    Args:
        env_id: A Gymnasium environment id, such as CartPole-v1.
        rollout_length: T, steps of each environment copy in a rollout.
        episodes_per_update: Whole episodes of a rollout on each rank, a multiple of `num_envs`.
        updates_per_epoch: Updates between two validations.
        collecting_options: See `CollectingDataModule`.

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
        **collecting_options: Any,
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
        )
        super().__init__(env_id, **collecting_options)
        if episodes_per_update is not None and episodes_per_update % self.num_envs:
            raise ConfigurationError(
                f"episodes_per_update {episodes_per_update} is not a multiple of num_envs "
                f"{self.num_envs}, and all environment copies play equally many: make it a multiple"
            )
        self.rollout_length = rollout_length
        self.episodes_per_update = episodes_per_update
        self.updates_per_epoch = updates_per_epoch
        self.gives_whole_episodes = episodes_per_update is not None

    def next_batch(self) -> Rollout:
        """Collect the rollout of the next update."""
        collector = self.ready_collector()
        if self.rollout_length is not None:
            return collector.collect(self.policy, self.rollout_length)
        assert self.episodes_per_update is not None
        return collector.collect_episodes(
            self.policy, self.episodes_per_update // self.num_envs, self.stream_seed("episodes")
        )
