"""What every datamodule that plays in environments shares."""

from collections.abc import Mapping
from typing import Any, TypeVar, cast

import torch
from lightning import LightningDataModule
from torch.utils.data import DataLoader, IterableDataset

from rl_lightning.datamodules.collector import Collector
from rl_lightning.datamodules.environments import describe, make_rendered_env, make_vector_env
from rl_lightning.datamodules.evaluation import EvaluationDataset, GameDataset
from rl_lightning.errors import ConfigurationError
from rl_lightning.experience import EnvironmentSpec, Episodes, Game, Policy
from rl_lightning.ranks import from_all_ranks, sum_over_ranks
from rl_lightning.seeding import stream_seed, torch_stream

Batch = TypeVar("Batch")


class EnvironmentDataModule(LightningDataModule):
    """Owns the environments, the collector and the evaluation games.

    Subclasses say what a training batch is. γ stands here because it belongs to the
    Markov decision process, beside states, actions, rewards and dynamics.

    Args:
        env_id: A Gymnasium environment id, such as CartPole-v1.
        env_kwargs: Keyword arguments for making it.
        num_envs: Copies that training plays in at once, on each rank.
        gamma: Discount factor γ.
        clip_rewards: Whether what is learned from is clipped to ±1; returns never are.
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
        num_envs: int = 1,
        gamma: float = 0.99,
        clip_rewards: bool = False,
        eval_episodes: int = 20,
        num_eval_envs: int = 20,
        predict_episodes: int = 1,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        require_positive(
            num_envs=num_envs,
            eval_episodes=eval_episodes,
            num_eval_envs=num_eval_envs,
            predict_episodes=predict_episodes,
        )
        if not 0 <= gamma <= 1:
            raise ConfigurationError(f"gamma is {gamma}: a discount factor lies in [0, 1]")
        if eval_episodes % num_eval_envs:
            raise ConfigurationError(
                f"eval_episodes {eval_episodes} cannot be shared out evenly over num_eval_envs "
                f"{num_eval_envs}: make it a multiple"
            )
        self.env_id = env_id
        self.env_kwargs = dict(env_kwargs or {})
        self.num_envs = num_envs
        self.gamma = gamma
        self.clip_rewards = clip_rewards
        self.eval_episodes = eval_episodes
        self.num_eval_envs = num_eval_envs
        self.predict_episodes = predict_episodes
        self.seed = seed
        self.environment: EnvironmentSpec = describe(env_id, self.env_kwargs)
        self.collector: Collector | None = None

    @property
    def policy(self) -> Policy:
        """The agent in training, through its narrow face."""
        assert self.trainer is not None, "a datamodule plays under a Trainer"
        return cast(Policy, self.trainer.lightning_module)

    @property
    def rank(self) -> int:
        """Global rank of this process."""
        return 0 if self.trainer is None else self.trainer.global_rank

    @property
    def world_size(self) -> int:
        """Number of processes."""
        return 1 if self.trainer is None else self.trainer.world_size

    @property
    def epoch(self) -> int:
        """The epoch in which random streams begin."""
        return 0 if self.trainer is None else self.trainer.current_epoch

    def setup(self, stage: str) -> None:
        """Make the training environments."""
        if stage == "fit" and self.collector is None:
            envs = make_vector_env(self.env_id, self.num_envs, self.env_kwargs)
            self.collector = Collector(envs, self.gamma, self.world_size, self.clip_rewards)

    def teardown(self, stage: str) -> None:
        """Close the training environments."""
        if stage == "fit" and self.collector is not None:
            self.collector.close()

    def begin_epoch(self) -> Collector:
        """Give the collector the random streams of the epoch that begins.

        Games go on over epochs and over a resume. Where an environment's state cannot be
        read, as an emulator's, they begin anew at every epoch, in a run that is never stopped
        too: so the two stay equal.
        """
        assert self.collector is not None
        place = {"rank": self.rank, "epoch": self.epoch}
        self.collector.generator = torch_stream(
            self.seed, stream="exploration", device=self.policy.device, **place
        )
        if not (self.collector.ready and self.collector.resumable):
            self.begin_games(stream_seed(self.seed, stream="environments", **place))
        return self.collector

    def begin_games(self, seed: int) -> None:
        """Begin a new game in every copy, whatever becomes of the one that it is in."""
        assert self.collector is not None
        self.collector.reset(seed)

    def statistics(self) -> dict[str, float]:
        """Metrics of the experience of all ranks so far, by the names they are logged under."""
        assert self.collector is not None
        finished = self.collector.finished
        counts = [sum(values) for values in zip(*finished, strict=True)] or [0, 0]
        sums = torch.tensor([self.collector.env_steps, len(finished), *counts], dtype=torch.float64)
        env_steps, games, returns, lengths = sum_over_ranks(sums).tolist()
        statistics = {"env_steps": env_steps}
        if games:
            statistics |= {"train/return": returns / games, "train/length": lengths / games}
        return statistics

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint must keep of the experience, for each rank."""
        return {} if self.collector is None else {"ranks": from_all_ranks(self.rank_state())}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on where the checkpoint was made.

        Raises:
            ConfigurationError: If it was made by another number of processes or copies.
        """
        if self.collector is None:
            return
        ranks, world_size = state_dict["ranks"], self.collector.world_size
        if len(ranks) != world_size:
            raise ConfigurationError(
                f"the checkpoint was made by {len(ranks)} processes and there are {world_size}: "
                "each has games and random streams of its own, so go on with as many "
                "(trainer.devices times trainer.num_nodes)"
            )
        self.load_rank_state(ranks[self.rank])

    def rank_state(self) -> dict[str, Any]:
        """What a checkpoint must keep of this rank's experience."""
        assert self.collector is not None
        return {"num_envs": self.num_envs, "collector": self.collector.state_dict()}

    def load_rank_state(self, state: dict[str, Any]) -> None:
        """Go on where `rank_state` was."""
        assert self.collector is not None
        if state["num_envs"] != self.num_envs:
            raise ConfigurationError(
                f"the checkpoint was made with num_envs {state['num_envs']}, not {self.num_envs}: "
                "its games go on in as many copies"
            )
        self.collector.load_state_dict(state["collector"])

    def val_dataloader(self) -> DataLoader[Episodes]:
        """Whole greedy games, the same starts at every validation."""
        return self._evaluation("validate")

    def test_dataloader(self) -> DataLoader[Episodes]:
        """Whole greedy games from starts that no validation has seen."""
        return self._evaluation("test")

    def _evaluation(self, stream: str) -> DataLoader[Episodes]:
        envs = make_vector_env(self.env_id, self.num_eval_envs, self.env_kwargs)
        seeds = [
            stream_seed(self.seed, epoch=wave, stream=stream)
            for wave in range(self.eval_episodes // self.num_eval_envs)
        ]
        return whole_batches(
            EvaluationDataset(envs, self.policy, seeds, self.rank, self.world_size)
        )

    def predict_dataloader(self) -> DataLoader[Game]:
        """Greedy games to look at, with their frames."""
        envs = make_rendered_env(self.env_id, self.env_kwargs)
        seeds = [
            stream_seed(self.seed, epoch=game, stream="predict")
            for game in range(self.rank, self.predict_episodes, self.world_size)
        ]
        return whole_batches(GameDataset(envs, self.policy, self.gamma, seeds))

    def play_game(self) -> Game:
        """The first of the games that `predict` plays."""
        return next(iter(self.predict_dataloader()))


def whole_batches(dataset: IterableDataset[Batch]) -> DataLoader[Batch]:
    """A DataLoader that passes on the whole batches that `dataset` yields."""
    return DataLoader(dataset, batch_size=None, collate_fn=_unchanged)


def _unchanged(batch: Batch) -> Batch:
    return batch


def require_positive(**sizes: int) -> None:
    """Check that sizes are at least 1.

    Raises:
        ConfigurationError: Naming the first that is not.
    """
    for name, size in sizes.items():
        if size < 1:
            raise ConfigurationError(f"{name} is {size}: it must be at least 1")
