"""On-policy experience: rollouts of the current policy, each for one update."""

from typing import Any, ClassVar

from typing_extensions import Unpack

from rl_lightning.datamodules.online import OnlineDataModule, OnlineOptions
from rl_lightning.datamodules.source import require_positive
from rl_lightning.experience import Rollout
from rl_lightning.runtime.errors import ConfigurationError


class RolloutOptions(OnlineOptions, total=False):
    """The options of `RolloutDataModule` that its subclasses pass on."""

    rollout_length: int | None
    episodes_per_update: int | None
    updates_per_epoch: int


class RolloutDataModule(OnlineDataModule):
    """Collects rollouts, each with the policy just before the update that uses it.

    A rollout is one of two kinds. With `rollout_length` it has that number of steps in every
    environment copy, and episodes continue from rollout to rollout. With `episodes_per_update` it
    has that number of whole episodes, the same number from each environment copy, and begins with
    a reset.

    Args:
        env_id: A Gymnasium environment id, such as CartPole-v1.
        rollout_length: T, steps of each environment copy in a rollout.
        episodes_per_update: Whole episodes of a rollout on each rank, a multiple of `num_envs`.
        updates_per_epoch: Updates between two validations.
        options: See `OnlineDataModule`.

    Raises:
        ConfigurationError: If an argument is out of range or the environment cannot be used.
    """

    batch_type: ClassVar[type] = Rollout
    updates_per_rollout = 1

    def __init__(
        self,
        env_id: str,
        rollout_length: int | None = None,
        episodes_per_update: int | None = None,
        updates_per_epoch: int = 100,
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
        )
        super().__init__(env_id, **options)
        if episodes_per_update is not None and episodes_per_update % self.num_envs:
            raise ConfigurationError(
                f"episodes_per_update {episodes_per_update} is not a multiple of num_envs "
                f"{self.num_envs}, and all environment copies play equally many: make it a multiple"
            )
        self.rollout_length = rollout_length
        self.episodes_per_update = episodes_per_update
        self.updates_per_epoch = updates_per_epoch
        self.gives_whole_episodes = episodes_per_update is not None

    def next_batch(self) -> Any:
        """Collect the rollout of the next update."""
        return self.collect()

    def collect(self) -> Rollout:
        """Collect a rollout with the current policy."""
        collector = self.ready_collector()
        if self.rollout_length is not None:
            return collector.collect(self.policy, self.rollout_length)
        assert self.episodes_per_update is not None
        return collector.collect_episodes(
            self.policy, self.episodes_per_update // self.num_envs, self.stream_seed("episodes")
        )
