"""On-policy experience: rollouts under the policy of the moment, learned from once."""

from typing import Any

from rl_lightning.datamodules.collecting import CollectingDataModule
from rl_lightning.datamodules.source import require_positive
from rl_lightning.experience import Rollout
from rl_lightning.runtime.errors import ConfigurationError


class RolloutDataModule(CollectingDataModule):
    """Every update learns from one rollout, played by the policy before that update.

    Either `rollout_length` steps in every copy, with the episodes going on from rollout to
    rollout, or `episodes_per_update` whole episodes, equally many of each copy and each
    after a reset.

    Args:
        env_id: A Gymnasium environment id, such as CartPole-v1.
        rollout_length: T, steps of each copy in a rollout.
        episodes_per_update: Whole episodes of a rollout on each rank, a multiple of `num_envs`.
        updates_per_epoch: Updates between two validations.
        collecting_options: See `CollectingDataModule`.

    Raises:
        ConfigurationError: If a value or the environment cannot be used.
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
                f"{episodes_per_update}: give exactly one of them, fixed rollouts or whole episodes"
            )
        require_positive(
            rollout_length=1 if rollout_length is None else rollout_length,
            episodes_per_update=1 if episodes_per_update is None else episodes_per_update,
            updates_per_epoch=updates_per_epoch,
        )
        super().__init__(env_id, **collecting_options)
        if episodes_per_update is not None and episodes_per_update % self.num_envs:
            raise ConfigurationError(
                f"episodes_per_update {episodes_per_update} cannot be shared out evenly over "
                f"num_envs {self.num_envs}: every copy plays equally many, so make it a multiple"
            )
        self.rollout_length = rollout_length
        self.episodes_per_update = episodes_per_update
        self.updates_per_epoch = updates_per_epoch
        self.gives_whole_episodes = episodes_per_update is not None

    def next_batch(self) -> Rollout:
        """Play the rollout of the next update."""
        collector = self.ready_collector()
        if self.rollout_length is not None:
            return collector.collect(self.policy, self.rollout_length)
        assert self.episodes_per_update is not None
        return collector.collect_episodes(
            self.policy, self.episodes_per_update // self.num_envs, self.stream_seed("episodes")
        )
