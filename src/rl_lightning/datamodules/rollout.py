"""On-policy experience: rollouts under the policy of the moment, learned from once."""

from collections.abc import Iterator, Mapping
from typing import Any

from torch.utils.data import DataLoader, IterableDataset

from rl_lightning.datamodules.environment import (
    EnvironmentDataModule,
    require_positive,
    whole_batches,
)
from rl_lightning.errors import ConfigurationError
from rl_lightning.experience import Rollout
from rl_lightning.seeding import stream_seed


class RolloutDataModule(EnvironmentDataModule):
    """Every update learns from one rollout, played by the policy before that update.

    Either `rollout_length` steps in every copy, with the games going on from rollout to
    rollout, or `episodes_per_update` whole episodes, equally many of each copy and each
    from a fresh start.

    Args:
        env_id: A Gymnasium environment id, such as CartPole-v1.
        env_kwargs: Keyword arguments for making it.
        num_envs: Copies that training plays in at once, on each rank.
        gamma: Discount factor γ.
        clip_rewards: Whether what is learned from is clipped to ±1; returns never are.
        rollout_length: T, steps of each copy in a rollout.
        episodes_per_update: Whole episodes of a rollout on each rank, a multiple of `num_envs`.
        updates_per_epoch: Updates between two validations.
        eval_episodes: Whole games of a validation or test.
        num_eval_envs: Copies that play them, a divisor of `eval_episodes`.
        predict_episodes: Games that `predict` plays and records.
        seed: Of every random stream here; the command line passes --seed_everything.

    Raises:
        ConfigurationError: If a value or the environment cannot be used.
    """

    def __init__(
        self,
        env_id: str,
        env_kwargs: Mapping[str, Any] | None = None,
        num_envs: int = 8,
        gamma: float = 0.99,
        clip_rewards: bool = False,
        rollout_length: int | None = None,
        episodes_per_update: int | None = None,
        updates_per_epoch: int = 100,
        eval_episodes: int = 20,
        num_eval_envs: int = 20,
        predict_episodes: int = 1,
        seed: int = 0,
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
        super().__init__(
            env_id=env_id,
            env_kwargs=env_kwargs,
            num_envs=num_envs,
            gamma=gamma,
            clip_rewards=clip_rewards,
            eval_episodes=eval_episodes,
            num_eval_envs=num_eval_envs,
            predict_episodes=predict_episodes,
            seed=seed,
        )
        if episodes_per_update is not None and episodes_per_update % num_envs:
            raise ConfigurationError(
                f"episodes_per_update {episodes_per_update} cannot be shared out evenly over "
                f"num_envs {num_envs}: every copy plays equally many, so make it a multiple"
            )
        self.rollout_length = rollout_length
        self.episodes_per_update = episodes_per_update
        self.updates_per_epoch = updates_per_epoch

    def train_dataloader(self) -> DataLoader[Rollout]:
        """Whole rollouts, played as the Trainer asks."""
        return whole_batches(RolloutDataset(self))


class RolloutDataset(IterableDataset[Rollout]):
    """One epoch of rollouts.

    Sized, because Lightning fetches one batch ahead of an unsized iterable: each rollout
    would then be played by the policy before the last update.
    """

    def __init__(self, data: RolloutDataModule) -> None:
        self.data = data

    def __len__(self) -> int:
        """Updates of an epoch."""
        return self.data.updates_per_epoch

    def __iter__(self) -> Iterator[Rollout]:
        """Play a rollout for each update; the games are the datamodule's and go on."""
        data = self.data
        collector = data.begin_epoch()
        for update in range(len(self)):
            if data.rollout_length is not None:
                yield collector.collect(data.policy, data.rollout_length)
                continue
            assert data.episodes_per_update is not None
            seed = stream_seed(
                data.seed, rank=data.rank, epoch=data.epoch, stream=f"episodes/{update}"
            )
            yield collector.collect_episodes(
                data.policy, data.episodes_per_update // data.num_envs, seed
            )
