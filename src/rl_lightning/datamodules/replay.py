"""Off-policy experience: transitions sampled from a replay ring."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_info
from torch.utils.data import DataLoader, IterableDataset

from rl_lightning.datamodules.collector import tensor_dtype
from rl_lightning.datamodules.environment import (
    EnvironmentDataModule,
    require_positive,
    whole_batches,
)
from rl_lightning.datamodules.environments import is_atari, make_vector_env
from rl_lightning.datamodules.frame_ring import FrameRing
from rl_lightning.datamodules.priorities import Priorities
from rl_lightning.datamodules.replay_ring import ReplayRing
from rl_lightning.datamodules.replay_segments import ReplaySegments
from rl_lightning.errors import ConfigurationError
from rl_lightning.experience import Transitions
from rl_lightning.exploration import linear_schedule
from rl_lightning.seeding import numpy_stream

REPLAY_FOLDER = "replay"


class ReplayDataModule(EnvironmentDataModule):
    """Experience replay: every update collects a little and samples a minibatch of the past.

    Source: Mnih et al. 2013, Algorithm 1 (Lin 1993). A checkpoint does not hold the
    ring. With `keep_replay` it lies beside the checkpoint and a resumed run goes on with
    it; without, a resumed run first refills it to `warmup_env_steps` with its current
    policy, without an update, and says so.

    Args:
        env_id: A Gymnasium environment id, such as CartPole-v1.
        env_kwargs: Keyword arguments for making it.
        num_envs: Copies that training plays in at once, on each rank.
        gamma: Discount factor γ.
        clip_rewards: Whether what is learned from is clipped to ±1; returns never are.
        env_steps_per_update: Environment steps, over this rank's copies, between two
            updates: the inverse of the replay ratio. A multiple or a divisor of `num_envs`.
        batch_size: Transitions of an update, on each rank.
        capacity: Transitions that the ring keeps, on each rank.
        warmup_env_steps: Environment steps before the first update.
        n_step: Steps of reward before the bootstrap.
        priority_exponent: α of prioritised replay, which the callback RenewPriorities goes
            with; None draws uniformly.
        importance_exponent: β of its importance weights at first; it grows to 1.
        importance_env_steps: Environment steps from the one to the other.
        updates_per_epoch: Updates between two validations.
        replay_device: Where the ring's tensors live.
        keep_replay: Write the ring to files beside the checkpoint; see docs/resume.md.
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
        env_steps_per_update: int = 4,
        batch_size: int = 32,
        capacity: int = 100_000,
        warmup_env_steps: int = 1_000,
        n_step: int = 1,
        priority_exponent: float | None = None,
        importance_exponent: float = 0.4,
        importance_env_steps: int = 10_000_000,
        updates_per_epoch: int = 1_000,
        replay_device: str = "cpu",
        keep_replay: bool = False,
        eval_episodes: int = 20,
        num_eval_envs: int = 20,
        predict_episodes: int = 1,
        seed: int = 0,
    ) -> None:
        require_positive(
            env_steps_per_update=env_steps_per_update,
            batch_size=batch_size,
            capacity=capacity,
            warmup_env_steps=warmup_env_steps,
            n_step=n_step,
            importance_env_steps=importance_env_steps,
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
        if capacity < batch_size:
            raise ConfigurationError(
                f"capacity {capacity} is smaller than batch_size {batch_size}: "
                "the replay must hold at least one batch"
            )
        if env_steps_per_update % num_envs and num_envs % env_steps_per_update:
            raise ConfigurationError(
                f"env_steps_per_update {env_steps_per_update} is neither a multiple nor a divisor "
                f"of num_envs {num_envs}: all copies step together, so choose one that is"
            )
        if capacity < num_envs * max(1, env_steps_per_update // num_envs):
            raise ConfigurationError(
                f"capacity {capacity} cannot hold what is collected for one update: with num_envs "
                f"{num_envs} and env_steps_per_update {env_steps_per_update}, raise it"
            )
        self.env_steps_per_update = env_steps_per_update
        self.batch_size = batch_size
        self.capacity = capacity
        self.warmup_env_steps = warmup_env_steps
        self.n_step = n_step
        self.updates_per_epoch = updates_per_epoch
        self.keep_replay = keep_replay
        self.ring = self._make_ring(replay_device)
        if priority_exponent is not None and not 0 < priority_exponent <= 1:
            raise ConfigurationError(
                f"priority_exponent is {priority_exponent}: it lies in (0, 1]; null draws uniformly"
            )
        self.priorities = (
            None if priority_exponent is None else Priorities(self.ring, priority_exponent)
        )
        self.importance_exponent = importance_exponent
        self.importance_env_steps = importance_env_steps
        self._segments: ReplaySegments | None = None

    def _make_ring(self, device: str) -> ReplayRing:
        if is_atari(self.env_id):
            stack = self.environment["observation_shape"][0]
            return FrameRing(self.capacity, self.num_envs, stack, self.n_step, device)
        return ReplayRing(self.capacity, self.num_envs, self.n_step, device)

    def prepare_data(self) -> None:
        """Before anything starts, compare the replay with the machine.

        Raises:
            ConfigurationError: If it has too little memory, saying how much is needed.
        """
        if self.trainer is None or self.trainer.state.fn != TrainerFn.FITTING:
            return
        envs = make_vector_env(self.env_id, 1, self.env_kwargs)
        space = envs.single_observation_space
        envs.close()
        observation_bytes = int(np.prod(space.shape or ())) * tensor_dtype(space).itemsize
        needed = self.ring.bytes_needed(observation_bytes)
        on_host = self.ring.device.type == "cpu"
        if on_host:
            needed *= self.trainer.num_devices
        if needed > (there := memory_of(self.ring.device)):
            raise ConfigurationError(
                f"a replay of capacity {self.capacity} needs {needed / 1e9:.1f} GB and "
                f"{'this machine' if on_host else self.ring.device} has {there / 1e9:.1f} GB: "
                "lower capacity"
            )

    def train_dataloader(self) -> DataLoader[Transitions]:
        """Whole minibatches, collected and sampled as the Trainer asks."""
        return whole_batches(ReplayDataset(self))

    def sample(self, rng: np.random.Generator) -> Transitions:
        """The minibatch of the next update."""
        if self.priorities is None:
            return self.ring.sample(self.batch_size, rng)
        assert self.collector is not None
        env_steps = self.collector.env_steps * self.collector.world_size
        beta = linear_schedule(env_steps, self.importance_exponent, 1.0, self.importance_env_steps)
        rows, copies, weights = self.priorities.draw(self.batch_size, rng, beta)
        batch = self.ring.gather(rows, copies)
        return batch._replace(weights=torch.from_numpy(weights).to(self.ring.device))

    def statistics(self) -> dict[str, float]:
        """Metrics of the experience of all ranks so far, by the names they are logged under."""
        size = float(len(self.ring) * self.collector.world_size) if self.collector else 0.0
        return {**super().statistics(), "replay/size": size}

    def begin_games(self, seed: int) -> None:
        """Begin a new game in every copy, and let the ring know of it."""
        super().begin_games(seed)
        assert self.collector is not None
        if self.ring.inserted:
            self.ring.begin_games(self.collector.observations)

    def rank_state(self) -> dict[str, Any]:
        """What a checkpoint must keep of this rank's experience."""
        state = super().rank_state()
        if self.keep_replay:
            state["replay"] = self.segments.save(self.ring)
            if self.priorities is not None:
                state["priorities"] = self.priorities.state_dict()
        return state

    def load_rank_state(self, state: dict[str, Any]) -> None:
        """Go on where `rank_state` was."""
        super().load_rank_state(state)
        if self.keep_replay and "replay" in state:
            assert self.trainer is not None
            folder = Path(str(self.trainer.ckpt_path)).parent / REPLAY_FOLDER
            self.segments.load(self.ring, state["replay"], folder)
            if self.priorities is not None and "priorities" in state:
                self.priorities.load_state_dict(state["priorities"])

    @property
    def segments(self) -> ReplaySegments:
        """The files of the ring, in the folder of the run's checkpoints."""
        if self._segments is None:
            assert self.trainer is not None
            folder = getattr(self.trainer.checkpoint_callback, "dirpath", None)
            if folder is None:
                raise ConfigurationError(
                    "keep_replay writes beside the checkpoints, and trainer.callbacks has no "
                    "ModelCheckpoint: add one, or set keep_replay to false"
                )
            self._segments = ReplaySegments(Path(folder) / REPLAY_FOLDER, self.rank)
        return self._segments


def memory_of(device: torch.device) -> int:
    """Bytes of memory that a device has."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


class ReplayDataset(IterableDataset[Transitions]):
    """One epoch of minibatches.

    Sized, because Lightning fetches one batch ahead of an unsized iterable: each update
    would then learn from experience of the policy before the last.
    """

    def __init__(self, data: ReplayDataModule) -> None:
        self.data = data

    def __len__(self) -> int:
        """Updates of an epoch."""
        return self.data.updates_per_epoch

    def __iter__(self) -> Iterator[Transitions]:
        """Collect and sample; the games and the ring are the datamodule's and go on."""
        data, ring = self.data, self.data.ring
        collector = data.begin_epoch()
        rng = numpy_stream(data.seed, rank=data.rank, epoch=data.epoch, stream="replay")
        steps_per_collection = max(1, data.env_steps_per_update // data.num_envs)
        updates_per_collection = max(1, data.num_envs // data.env_steps_per_update)

        if ring.inserted == 0 and collector.env_steps > 0:
            rank_zero_info(
                f"The replay is not in the checkpoint: refilling {data.warmup_env_steps:,} "
                "environment steps with the current policy before the next update."
            )
        while ring.inserted * data.num_envs < data.warmup_env_steps or len(ring) == 0:
            ring.extend(collector.collect(data.policy, 1))
        for update in range(len(self)):
            if update % updates_per_collection == 0:
                ring.extend(collector.collect(data.policy, steps_per_collection))
            yield data.sample(rng)
