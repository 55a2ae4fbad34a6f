"""On-policy experience that is used several times: random minibatches of each rollout."""

from typing import Any, cast

import torch
from lightning.fabric.utilities import move_data_to_device
from torch import Tensor
from typing_extensions import Unpack

from rl_lightning.datamodules.rollout import RolloutDataModule, RolloutOptions
from rl_lightning.datamodules.source import require_positive
from rl_lightning.experience import Minibatch, PreparesRollouts, Rollout
from rl_lightning.runtime.errors import ConfigurationError
from rl_lightning.runtime.seeding import numpy_stream


class RolloutMinibatchDataModule(RolloutDataModule):
    """Gives each rollout in `passes` × `minibatches` batches, for algorithms such as PPO.

    The module's `prepare` gets each rollout once, just after it was collected. In each pass the
    environment steps of the rollout are split at random into minibatches, whose sizes differ by at
    most 1. Rows in which the mask is False are in no minibatch.

    Args:
        env_id: A Gymnasium environment id, such as CartPole-v1.
        passes: How often each rollout is used.
        minibatches: Batches of a pass.
        options: See `RolloutDataModule`.

    Raises:
        ConfigurationError: If an argument is out of range, a rollout could have fewer steps than
            minibatches, or the environment cannot be used.
    """

    batch_type = Minibatch
    needs_of_module = PreparesRollouts

    def __init__(
        self,
        env_id: str,
        passes: int = 4,
        minibatches: int = 4,
        **options: Unpack[RolloutOptions],
    ) -> None:
        require_positive(passes=passes, minibatches=minibatches)
        super().__init__(env_id, **options)
        # Of two rows in succession at least one is an environment step, and not a reset.
        fewest = self.episodes_per_update or self.num_envs * ((self.rollout_length or 0) // 2)
        if fewest < minibatches:
            raise ConfigurationError(
                f"minibatches is {minibatches}, and a rollout may have only {fewest} environment "
                "steps: choose fewer minibatches, or longer rollouts"
            )
        self.passes = passes
        self.minibatches = minibatches
        self.updates_per_rollout = passes * minibatches
        self._rollout: Rollout | None = None  # in use, and in the checkpoint until its last use

    def next_batch(self) -> Minibatch:
        """The minibatch of the next update, of a new rollout if the last one is used up."""
        use = self.updates % self.updates_per_rollout
        rollout = self._prepared() if use == 0 else self._rollout
        assert rollout is not None
        self._rollout = rollout if use + 1 < self.updates_per_rollout else None
        steps = self._steps(rollout.mask, use % self.minibatches)
        return Minibatch(
            rollout.observations[:-1].flatten(0, 1)[steps],
            rollout.actions.flatten(0, 1)[steps],
            {name: values.flatten(0, 1)[steps] for name, values in rollout.extras.items()},
        )

    def _prepared(self) -> Rollout:
        policy = self.policy
        rollout = move_data_to_device(self.collect(), policy.device)
        return cast(PreparesRollouts, policy).prepare(rollout)

    def _steps(self, mask: Tensor, minibatch: int) -> Tensor:
        """The steps of a minibatch, from the random stream of its pass."""
        stream = numpy_stream(
            self.seed, rank=self.rank, update=self.updates - minibatch, stream="minibatches"
        )
        steps = mask.flatten().nonzero().squeeze(1)
        order = torch.from_numpy(stream.permutation(len(steps))[minibatch :: self.minibatches])
        return steps[order.to(steps.device)]

    def rank_state(self) -> dict[str, Any]:
        """The state of this rank's experience, with a rollout that is still in use."""
        rollout = None if self._rollout is None else tuple(self._rollout)
        return {**super().rank_state(), "rollout": rollout}

    def load_rank_state(self, state: dict[str, Any]) -> None:
        """Restore a state from `rank_state`.

        Raises:
            ConfigurationError: If the checkpoint holds a rollout and this datamodule would collect
                one here, or the other way round.
        """
        super().load_rank_state(state)
        saved = state.get("rollout")
        if (saved is None) != (self.updates % self.updates_per_rollout == 0):
            raise ConfigurationError(
                "the checkpoint was made with other passes or minibatches, in the middle of a "
                "rollout: use the same ones"
            )
        self._rollout = None if saved is None else Rollout(*saved)
