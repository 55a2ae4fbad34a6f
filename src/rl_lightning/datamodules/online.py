"""Base class of datamodules that collect their experience from environments during training."""

from typing import Any, Literal

import torch
from lightning.pytorch.utilities import rank_zero_info
from typing_extensions import Unpack

from rl_lightning.datamodules.environment import EnvironmentDataModule, EnvironmentOptions
from rl_lightning.datamodules.source import require_positive
from rl_lightning.environments.stepping import Envs
from rl_lightning.interaction.collector import Collector
from rl_lightning.runtime.errors import ConfigurationError
from rl_lightning.runtime.ranks import from_all_ranks, sum_over_ranks


class OnlineOptions(EnvironmentOptions, total=False):
    """The options of `OnlineDataModule` that its subclasses pass on."""

    num_envs: int
    clip_rewards: bool
    engine: Literal["gymnasium", "envpool"]
    num_threads: int | None


class OnlineDataModule(EnvironmentDataModule):
    """Owns the training environments and their collector.

    Args:
        env_id: A Gymnasium environment id, such as CartPole-v1.
        num_envs: Environment copies for training, on each rank. All of them step together.
        clip_rewards: Whether the rewards in training batches are clipped to ±1. The logged
            returns are never clipped.
        engine: What steps the training environments. "envpool" is faster for robots, and has no
            state for a checkpoint, so that episodes begin anew at a resume. Evaluation is always
            in "gymnasium".
        num_threads: Threads of the engine "envpool"; the default is torch's number of threads.
        options: See `EnvironmentDataModule`.

    Raises:
        ConfigurationError: If an argument is out of range or the environment cannot be used.
    """

    def __init__(
        self,
        env_id: str,
        num_envs: int = 8,
        clip_rewards: bool = False,
        engine: Literal["gymnasium", "envpool"] = "gymnasium",
        num_threads: int | None = None,
        **options: Unpack[EnvironmentOptions],
    ) -> None:
        require_positive(num_envs=num_envs, num_threads=1 if num_threads is None else num_threads)
        if num_threads is not None and engine != "envpool":
            raise ConfigurationError(
                f"num_threads is {num_threads} and engine is {engine}, which has no threads of its "
                "own: set engine to envpool, or leave num_threads out"
            )
        super().__init__(env_id, **options)
        self.engine = engine
        self.num_threads = num_threads
        self.num_envs = num_envs
        self.clip_rewards = clip_rewards
        self.collector: Collector | None = None
        self._trained_env_steps = 0  # of the checkpoint that is evaluated, over all ranks
        if engine == "envpool":  # errors are raised before any file is written
            self._make_training_envs(1).close()

    def _make_training_envs(self, num_envs: int) -> Envs:
        if self.engine == "gymnasium":
            return self.maker.make(num_envs)
        from rl_lightning.environments.envpool import make_pooled

        return make_pooled(self.maker, self.environment, num_envs, self.num_threads)

    def setup(self, stage: str) -> None:
        """Make the training environments."""
        super().setup(stage)
        if stage == "fit" and self.collector is None:
            envs = self._make_training_envs(self.num_envs)
            self.collector = Collector(envs, self.gamma, self.world_size, self.clip_rewards)

    def teardown(self, stage: str) -> None:
        """Close all environments."""
        super().teardown(stage)
        if stage == "fit" and self.collector is not None:
            self.collector.close()
            self.collector = None

    def ready_collector(self) -> Collector:
        """The collector, ready to collect, with the exploration stream of this update.

        Episodes continue across epochs. After a resume they continue as well if the checkpoint
        holds the environments' state. Otherwise new episodes start, and a message is printed.
        """
        assert self.collector is not None, "setup has not been called"
        if not self.collector.ready:
            self._start_episodes()
        self.collector.generator = self.torch_stream("exploration", self.policy.device)
        return self.collector

    def _start_episodes(self) -> None:
        assert self.collector is not None
        if self.collector.env_steps and not self.gives_whole_episodes:
            reason = "it has no state_dict() and load_state_dict()"
            if self.engine == "envpool":
                reason = "EnvPool cannot save it"
            rank_zero_info(
                f"New episodes of {self.env_id} start here: its state is not in the checkpoint, "
                f"because {reason}."
            )
        self.collector.reset(self.stream_seed("environments"))
        # A state that no checkpoint can hold raises its error now and not at the end of the epoch.
        self.collector.state_dict()

    def statistics(self) -> dict[str, float]:
        """Metrics of the experience so far over all ranks, by metric name."""
        if self.collector is None:
            return {"env_steps": float(self._trained_env_steps)}
        finished = self.collector.finished
        counts = [sum(values) for values in zip(*finished, strict=True)] or [0, 0]
        sums = torch.tensor([self.collector.env_steps, len(finished), *counts], dtype=torch.float64)
        env_steps, episodes, returns, lengths = sum_over_ranks(sums).tolist()
        statistics = {"env_steps": env_steps}
        if episodes:
            statistics |= {"train/return": returns / episodes, "train/length": lengths / episodes}
        return statistics

    def state_dict(self) -> dict[str, Any]:
        """The state of the experience of every rank, for a checkpoint."""
        if self.collector is None:
            return super().state_dict()
        return {**super().state_dict(), "ranks": from_all_ranks(self.rank_state())}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state from a checkpoint.

        Raises:
            ConfigurationError: If the checkpoint has another number of processes or environment
                copies.
        """
        super().load_state_dict(state_dict)
        if self.collector is None:
            ranks = state_dict.get("ranks", [])
            self._trained_env_steps = sum(rank["collector"]["env_steps"] for rank in ranks)
            return
        ranks, world_size = state_dict["ranks"], self.collector.world_size
        if len(ranks) != world_size:
            raise ConfigurationError(
                f"the checkpoint was made by {len(ranks)} processes and there are {world_size}: "
                "each process has its own episodes and random streams, so use as many as before "
                "(trainer.devices times trainer.num_nodes)"
            )
        self.load_rank_state(ranks[self.rank])

    def rank_state(self) -> dict[str, Any]:
        """The state of this rank's experience, for a checkpoint."""
        assert self.collector is not None
        return {"num_envs": self.num_envs, "collector": self.collector.state_dict()}

    def load_rank_state(self, state: dict[str, Any]) -> None:
        """Restore a state from `rank_state`."""
        assert self.collector is not None
        if state["num_envs"] != self.num_envs:
            raise ConfigurationError(
                f"the checkpoint was made with num_envs {state['num_envs']}, not {self.num_envs}: "
                "its episodes can only continue with the same number, so use that"
            )
        self.collector.load_state_dict(state["collector"])
