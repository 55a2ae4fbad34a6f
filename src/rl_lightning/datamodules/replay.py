"""Off-policy experience: transitions that are sampled from a replay ring buffer."""

import math
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor
from typing_extensions import Unpack

from rl_lightning.datamodules.online import OnlineDataModule, OnlineOptions
from rl_lightning.datamodules.source import require_positive
from rl_lightning.environments.making import is_atari
from rl_lightning.experience import Transitions
from rl_lightning.functional.exploration import linear_schedule
from rl_lightning.replay.ring import ReplayRing
from rl_lightning.runtime.constructors import require_range
from rl_lightning.runtime.errors import ConfigurationError

if TYPE_CHECKING:
    from rl_lightning.replay.priorities import Priorities
    from rl_lightning.replay.segments import ReplaySegments

REPLAY_FOLDER = "replay"


class ReplayDataModule(OnlineDataModule):
    """Experience replay: before each update it collects a few steps and samples a minibatch.

    The checkpoint itself does not contain the replay ring. With `keep_replay` the ring is written
    to files beside the checkpoint, and a resumed run continues with it. Otherwise a resumed run
    first refills the ring to `warmup_env_steps` with its current policy, without updates, and
    prints a message.

    Source: Mnih et al. 2013, Algorithm 1 (Lin 1993).

    Args:
        env_id: A Gymnasium environment id, such as CartPole-v1.
        env_steps_per_update: Environment steps between two updates, over all environment copies
            of this rank; 4 if neither this nor `replay_ratio` is given.
        replay_ratio: Updates per environment step, in place of its inverse
            `env_steps_per_update`; above 1 there are several updates for each step.
        batch_size: Transitions of an update, on each rank.
        capacity: Transitions that the ring keeps, on each rank.
        warmup_env_steps: Environment steps before the first update.
        n_step: Steps of reward before the bootstrap.
        priority_exponent: α of prioritised replay; None samples uniformly. The callback
            RenewPriorities sets the priorities; DQN adds it where the Trainer has none.
        importance_exponent: β of the importance weights at the start; it grows to 1.
        importance_env_steps: Environment steps until β is 1.
        updates_per_epoch: Updates between two validations.
        replay_device: Device of the ring's tensors.
        keep_replay: Write the ring to files beside the checkpoint; see docs/resume.md.
        options: See `OnlineDataModule`.

    Raises:
        ConfigurationError: If an argument is out of range or the environment cannot be used.
    """

    batch_type = Transitions
    priorities: "Priorities | None"

    def __init__(
        self,
        env_id: str,
        env_steps_per_update: int | None = None,
        replay_ratio: float | None = None,
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
        **options: Unpack[OnlineOptions],
    ) -> None:
        require_positive(
            batch_size=batch_size,
            capacity=capacity,
            warmup_env_steps=warmup_env_steps,
            n_step=n_step,
            importance_env_steps=importance_env_steps,
            updates_per_epoch=updates_per_epoch,
        )
        require_range(0, 1, importance_exponent=importance_exponent)
        super().__init__(env_id, **options)
        self.replay_ratio = _replay_ratio(env_steps_per_update, replay_ratio)
        _check_sizes(capacity, batch_size, self.replay_ratio, self.num_envs)
        # `_due` counts the updates that the environment steps so far allow and that have not been
        # made. It is an integer, because it counts fractions of an update: an environment step
        # adds `_units_of_step` to it, and an update takes `_units_of_update` from it.
        self._units_of_step, self._units_of_update = self.replay_ratio.as_integer_ratio()
        self._due = 0
        self.batch_size = batch_size
        self.capacity = capacity
        self.warmup_env_steps = warmup_env_steps
        self.n_step = n_step
        self.updates_per_epoch = updates_per_epoch
        self.keep_replay = keep_replay
        self.ring = self._make_ring(replay_device)
        if priority_exponent is not None and not 0 < priority_exponent <= 1:
            raise ConfigurationError(
                f"priority_exponent is {priority_exponent}: choose it in (0, 1], or null to sample "
                "uniformly"
            )
        self.is_prioritised = priority_exponent is not None
        self.priorities = None
        if priority_exponent is not None:
            from rl_lightning.replay.priorities import Priorities

            self.priorities = Priorities(self.ring, priority_exponent)
        self.importance_exponent = importance_exponent
        self.importance_env_steps = importance_env_steps
        self._segments: ReplaySegments | None = None

    def _make_ring(self, device: str) -> ReplayRing:
        if is_atari(self.env_id):
            stack = self.environment["observation_shape"][0]
            from rl_lightning.replay.frame_ring import FrameRing

            return FrameRing(self.capacity, self.num_envs, stack, self.n_step, device)
        return ReplayRing(self.capacity, self.num_envs, self.n_step, device)

    def prepare_data(self) -> None:
        """Before training starts, check that the replay ring fits into memory.

        Raises:
            ConfigurationError: If it does not fit. The message has the needed size.
        """
        if self.trainer is None or self.trainer.state.fn != TrainerFn.FITTING:
            return
        from rl_lightning.runtime.memory import memory_of

        shape, dtype = self.environment["observation_shape"], self.environment["observation_dtype"]
        action_bytes = 4 * int(np.prod(self.environment["action_shape"]))
        if self.environment["num_actions"] is not None:
            action_bytes = 8  # an int64
        observation_bytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
        needed = self.ring.bytes_needed(observation_bytes, action_bytes)
        on_host = self.ring.device.type == "cpu"
        if on_host:
            needed *= self.trainer.num_devices
        if needed > (there := memory_of(self.ring.device)):
            raise ConfigurationError(
                f"a replay of capacity {self.capacity} needs {needed / 1e9:.1f} GB and "
                f"{'this machine' if on_host else self.ring.device} has {there / 1e9:.1f} GB: "
                "lower capacity"
            )

    def next_batch(self) -> Transitions:
        """Collect if new steps are due, and sample the minibatch of the next update.

        Rows of resets are no environment steps, so the replay ratio is exact in the long run.
        """
        if self.ring.inserted == 0:
            self._fill()
        self._due -= self._units_of_update
        if self._due < 0:
            self._collect()
        return self.sample(self.numpy_stream("replay"))

    def _collect(self) -> None:
        collector = self.ready_collector()
        while self._due < 0:
            rows = -(self._due // (self._units_of_step * self.num_envs))  # rounded up
            before = collector.env_steps
            self.ring.extend(collector.collect(self.policy, rows))
            self._due += self._units_of_step * (collector.env_steps - before)

    def _fill(self) -> None:
        collector = self.ready_collector()
        before = collector.env_steps
        if before > 0:
            rank_zero_info(
                f"The replay is not in the checkpoint: refilling {self.warmup_env_steps:,} "
                "environment steps with the current policy before the next update."
            )
        collector.generator = self.torch_stream("warm-up exploration", self.policy.device)
        while collector.env_steps - before < self.warmup_env_steps or not self.ring.has_transitions:
            self.ring.extend(collector.collect(self.policy, 1))

    def sample(self, rng: np.random.Generator) -> Transitions:
        """Sample a minibatch from the ring."""
        if self.priorities is None:
            return self.ring.sample(self.batch_size, rng)
        assert self.collector is not None
        env_steps = self.collector.env_steps * self.collector.world_size
        beta = linear_schedule(env_steps, self.importance_exponent, 1.0, self.importance_env_steps)
        rows, copies, weights = self.priorities.draw(self.batch_size, rng, beta)
        batch = self.ring.gather(rows, copies)
        return batch._replace(importance_weights=torch.from_numpy(weights).to(self.ring.device))

    def renew_priorities(self, td_errors: Tensor) -> None:
        """Set the priorities of the last sampled minibatch from its TD errors [B]."""
        if self.priorities is not None:
            self.priorities.renew(td_errors.float().cpu().numpy())

    def statistics(self) -> dict[str, float]:
        """Metrics of the experience so far over all ranks, by metric name."""
        size = float(len(self.ring) * self.collector.world_size) if self.collector else 0.0
        return {**super().statistics(), "replay/size": size}

    def _start_episodes(self) -> None:
        super()._start_episodes()
        assert self.collector is not None
        if self.ring.inserted:
            self.ring.begin_episodes(self.collector.observations)

    def rank_state(self) -> dict[str, Any]:
        """The state of this rank's experience, for a checkpoint."""
        due = (self._due, self._units_of_update)
        state = {**super().rank_state(), "updates_due": due}
        if self.keep_replay:
            state["replay"] = self.segments.save(self.ring)
            if self.priorities is not None:
                state["priorities"] = self.priorities.state_dict()
        return state

    def load_rank_state(self, state: dict[str, Any]) -> None:
        """Restore a state from `rank_state`."""
        super().load_rank_state(state)
        units, units_of_update = state.get("updates_due", (0, 1))
        self._due = units * self._units_of_update // units_of_update
        if self.keep_replay and "replay" in state:
            assert self.trainer is not None
            folder = Path(str(self.trainer.ckpt_path)).parent / REPLAY_FOLDER
            self.segments.load(self.ring, state["replay"], folder)
            if self.priorities is not None and "priorities" in state:
                self.priorities.load_state_dict(state["priorities"])

    @property
    def segments(self) -> "ReplaySegments":
        """The files of the ring, in a folder beside the run's checkpoints."""
        if self._segments is None:
            assert self.trainer is not None
            folder = getattr(self.trainer.checkpoint_callback, "dirpath", None)
            if folder is None:
                raise ConfigurationError(
                    "keep_replay writes beside the checkpoints, and trainer.callbacks has no "
                    "ModelCheckpoint: add one, or set keep_replay to false"
                )
            from rl_lightning.replay.segments import ReplaySegments

            self._segments = ReplaySegments(Path(folder) / REPLAY_FOLDER, self.rank)
        return self._segments


def _replay_ratio(env_steps_per_update: int | None, replay_ratio: float | None) -> Fraction:
    """Updates per environment step, as an exact number."""
    if replay_ratio is None:
        steps = 4 if env_steps_per_update is None else env_steps_per_update
        require_positive(env_steps_per_update=steps)
        return Fraction(1, steps)
    if env_steps_per_update is not None:
        raise ConfigurationError(
            f"replay_ratio is {replay_ratio} and env_steps_per_update is {env_steps_per_update}, "
            "and each is the inverse of the other: set one of them, and the other to null"
        )
    if not 0 < replay_ratio < math.inf:
        raise ConfigurationError(
            f"replay_ratio is {replay_ratio}: choose a positive number of updates per environment "
            "step"
        )
    return Fraction(str(replay_ratio))  # the decimal number as typed, such as 1/10


def _check_sizes(capacity: int, batch_size: int, replay_ratio: Fraction, num_envs: int) -> None:
    if capacity < batch_size:
        raise ConfigurationError(
            f"capacity {capacity} is smaller than batch_size {batch_size}: "
            "raise capacity, because the replay must hold at least one batch"
        )
    rows = math.ceil(1 / (replay_ratio * num_envs))
    if capacity < rows * num_envs:
        raise ConfigurationError(
            f"capacity {capacity} is less than the {rows * num_envs} environment steps that are "
            "collected for one update: raise capacity, or ask for more updates"
        )
