"""Base class of datamodules with an environment: it makes and evaluates in environments."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, TypedDict, cast

from torch.utils.data import DataLoader

from rl_lightning.datamodules.source import (
    Batches,
    SourceDataModule,
    WholeBatchLoader,
    require_positive,
)
from rl_lightning.environments.making import EnvironmentMaker
from rl_lightning.environments.stepping import Envs
from rl_lightning.experience import EnvironmentSpec, Episodes, Policy, RecordedEpisode
from rl_lightning.runtime.constructors import require_range
from rl_lightning.runtime.errors import ConfigurationError
from rl_lightning.runtime.seeding import stream_seed


class EnvironmentOptions(TypedDict, total=False):
    """The options of `EnvironmentDataModule` that its subclasses pass on."""

    env_kwargs: Mapping[str, Any] | None
    wrappers: Sequence[str]
    gamma: float
    eval_episodes: int
    num_eval_envs: int
    predict_episodes: int
    seed: int


class EnvironmentDataModule(SourceDataModule):
    """Owns the environment, γ and the evaluation episodes.

    Subclasses define the training batches. γ is an argument of the datamodule because it is part
    of the Markov decision process, like states, actions, rewards and dynamics.

    Args:
        env_id: A Gymnasium environment id, such as CartPole-v1. `package:id` first imports the
            package, which must register the id.
        env_kwargs: Keyword arguments of the environment, such as `max_episode_steps`.
        wrappers: Import paths of wrapper classes, such as gymnasium.wrappers.FlattenObservation,
            the innermost first.
        gamma: Discount factor γ.
        eval_episodes: Whole episodes of a validation or test.
        num_eval_envs: Environment copies for evaluation, a divisor of `eval_episodes`.
        predict_episodes: Episodes that `predict` plays and records.
        seed: Seed of every random stream; the command line passes --seed_everything.

    Raises:
        ConfigurationError: If an argument is out of range or the environment cannot be used.
    """

    needs_of_module: ClassVar[type] = Policy

    def __init__(
        self,
        env_id: str,
        env_kwargs: Mapping[str, Any] | None = None,
        wrappers: Sequence[str] = (),
        gamma: float = 0.99,
        eval_episodes: int = 20,
        num_eval_envs: int = 20,
        predict_episodes: int = 1,
        seed: int = 0,
    ) -> None:
        super().__init__(seed)
        self.save_hyperparameters()
        require_positive(
            eval_episodes=eval_episodes,
            num_eval_envs=num_eval_envs,
            predict_episodes=predict_episodes,
        )
        require_range(0, 1, gamma=gamma)
        if eval_episodes % num_eval_envs:
            raise ConfigurationError(
                f"eval_episodes {eval_episodes} is not a multiple of num_eval_envs "
                f"{num_eval_envs}, and all environment copies play equally many: make it a multiple"
            )
        self.env_id = env_id
        self.task = env_id.rpartition("/")[2]
        self.maker = EnvironmentMaker(env_id, dict(env_kwargs or {}), tuple(wrappers))
        self.gamma = gamma
        self.eval_episodes = eval_episodes
        self.num_eval_envs = num_eval_envs
        self.predict_episodes = predict_episodes
        self.environment: EnvironmentSpec = self.maker.describe()
        self._evaluation_envs: dict[str, Envs] = {}

    @property
    def policy(self) -> Policy:
        """The Trainer's module, as a policy."""
        assert self.trainer is not None, "the datamodule has no Trainer"
        return cast(Policy, self.trainer.lightning_module)

    def teardown(self, stage: str) -> None:
        """Close the evaluation environments."""
        while self._evaluation_envs:
            self._evaluation_envs.popitem()[1].close()

    def batches_of(self, stage: str) -> int | None:
        """Batches of an epoch of "train" or "validate" on each rank."""
        if stage == "validate":
            return -(-(self.eval_episodes // self.num_eval_envs) // self.world_size)
        return super().batches_of(stage)

    def val_dataloader(self) -> DataLoader[Episodes]:
        """Whole greedy episodes, with the same seeds in every validation."""
        return self._evaluation("validate")

    def test_dataloader(self) -> DataLoader[Episodes]:
        """Whole greedy episodes, with other seeds than those of validation."""
        return self._evaluation("test")

    def _evaluation(self, stage: str) -> DataLoader[Episodes]:
        from rl_lightning.interaction.evaluation import evaluate

        envs = self._to_close(stage, self.maker.make(self.num_eval_envs))
        waves = self.eval_episodes // self.num_eval_envs
        seeds = [stream_seed(self.seed, stream=f"{stage} {wave}") for wave in range(waves)]
        play = partial(evaluate, envs, self.policy, seeds, self.rank, self.world_size)
        return WholeBatchLoader(Batches(play, -(-waves // self.world_size)))

    def predict_dataloader(self) -> DataLoader[RecordedEpisode]:
        """Greedy episodes with their rendered frames."""
        envs = self._to_close("predict", self.maker.make_rendered())
        numbers = range(self.rank, self.predict_episodes, self.world_size)
        return WholeBatchLoader(
            Batches(lambda: (self._record(envs, number) for number in numbers), len(numbers))
        )

    def record_episode(self) -> RecordedEpisode:
        """Record the first of the episodes that `predict` plays."""
        envs = self.maker.make_rendered()
        try:
            return self._record(envs, 0)
        finally:
            envs.close()

    def _record(self, envs: Envs, number: int) -> RecordedEpisode:
        from rl_lightning.interaction.evaluation import record_episode

        seed = stream_seed(self.seed, stream=f"predict {number}")
        return record_episode(envs, self.policy, self.gamma, seed)

    def _to_close(self, stage: str, envs: Envs) -> Envs:
        # Under reload_dataloaders_every_n_epochs the Trainer calls for each dataloader several
        # times, so the environments of the one before are closed.
        if (before := self._evaluation_envs.pop(stage, None)) is not None:
            before.close()
        self._evaluation_envs[stage] = envs
        return envs
