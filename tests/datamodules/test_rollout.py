import itertools
from collections.abc import Iterator
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from lightning import LightningModule, Trainer
from torch import Tensor

from rl_lightning.datamodules.rollout import RolloutDataModule
from rl_lightning.experience import Exploration, Rollout
from rl_lightning.interaction.collector import Collector
from rl_lightning.runtime.errors import ConfigurationError

LONGEST = 7


class Counting(gym.Env[Any, Any]):
    """Observes the number of its steps, and ends after a number that is drawn at each reset.

    Even numbers terminate and odd ones truncate. The reward of a step is its number.
    """

    observation_space = gym.spaces.Box(-1.0, 100.0, (2,))
    action_space = gym.spaces.Discrete(2)

    def _observation(self) -> np.ndarray:
        return np.array([self.count, self.length], np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.count, self.length = 0, int(self.np_random.integers(1, LONGEST + 1))
        return self._observation(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.count += 1
        end, even = self.count >= self.length, self.length % 2 == 0
        return self._observation(), float(self.count), end and even, end and not even, {}


@pytest.fixture(autouse=True, scope="module")
def counting() -> Iterator[None]:
    gym.register("Counting-v0", entry_point=Counting)
    yield
    del gym.registry["Counting-v0"]


class Versioned(LightningModule):
    """Its actions are its number of updates."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.batches: list[Rollout] = []

    def act(self, observations: Tensor, exploration: Exploration | None = None) -> Tensor:
        return torch.zeros(len(observations), dtype=torch.long)

    def training_step(self, batch: Rollout) -> Tensor:
        self.batches.append(batch)
        return self.weight * 0

    def on_train_end(self) -> None:
        self.collector: Collector = self.trainer.datamodule.collector  # type: ignore[attr-defined]

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=1.0)


class Acting(Versioned):
    def act(self, observations: Tensor, exploration: Exploration | None = None) -> Tensor:
        return torch.full((len(observations),), self.trainer.global_step % 2)


def fit(data: RolloutDataModule, module: Versioned, epochs: int = 1) -> list[Rollout]:
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        limit_val_batches=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, data)
    return module.batches


def test_every_rollout_is_played_by_the_policy_of_its_update() -> None:
    data = RolloutDataModule("Counting-v0", num_envs=2, rollout_length=3, updates_per_epoch=4)
    batches = fit(data, Acting(), epochs=2)
    assert [batch.actions.unique().tolist() for batch in batches] == [[0], [1]] * 4


def test_episodes_go_on_from_rollout_to_rollout_and_over_epochs() -> None:
    data = RolloutDataModule("Counting-v0", num_envs=3, rollout_length=2, updates_per_epoch=3)
    batches = fit(data, Versioned(), epochs=2)
    for before, after in itertools.pairwise(batches):
        torch.testing.assert_close(before.observations[-1], after.observations[0])


def test_fixed_rollouts_mask_reset_rows_and_keep_the_final_observation() -> None:
    data = RolloutDataModule("Counting-v0", num_envs=5, rollout_length=40, updates_per_epoch=1)
    (rollout,) = fit(data, Versioned())
    count, length = rollout.observations[1:].unbind(-1)
    before = rollout.observations[:-1, :, 0]
    assert (~rollout.mask).any()
    assert rollout.mask[0].all()
    assert torch.equal(~rollout.mask[1:], rollout.ends[:-1])
    assert (rollout.rewards[~rollout.mask] == 0).all()
    kept = rollout.mask
    assert torch.equal(count[kept], before[kept] + 1), "the next observation is of another step"
    assert torch.equal(rollout.ends[kept], (count == length)[kept])
    even = length % 2 == 0
    assert torch.equal(rollout.discounts == 0, rollout.ends & even)


@pytest.mark.parametrize("copies", [1, 4])
def test_each_copy_plays_equally_many_whole_episodes(copies: int) -> None:
    data = RolloutDataModule(
        "Counting-v0", num_envs=copies, episodes_per_update=3 * copies, updates_per_epoch=2
    )
    batches = fit(data, Versioned())
    for batch in batches:
        assert (batch.observations[0, :, 0] == 0).all(), "the rollout does not begin with a reset"
        assert ((batch.ends & batch.mask).sum(0) == 3).all()
        assert (batch.ends & batch.mask)[-1].any(), "the rollout is too long"
        finished = (batch.ends & batch.mask).long().cumsum(0) == 3
        assert not batch.mask[1:][finished[:-1]].any()


def test_whole_episodes_do_not_favour_short_ones() -> None:
    """Lengths are uniform on 1..7, and the first episodes to finish would be far shorter."""
    data = RolloutDataModule(
        "Counting-v0", num_envs=500, episodes_per_update=500, updates_per_epoch=1
    )
    module = Versioned()
    (batch,) = fit(data, module)
    lengths = batch.mask.sum(0).double()
    assert lengths.mean().item() == pytest.approx((1 + LONGEST) / 2, abs=4 * 2 / 500**0.5)
    finished = [length for _, length in module.collector.finished]
    assert len(finished) == 100
    assert (batch.ends & batch.mask).sum() == 500


def test_only_the_requested_episodes_are_counted() -> None:
    data = RolloutDataModule(
        "Counting-v0", num_envs=20, episodes_per_update=20, updates_per_epoch=1
    )
    module = Versioned()
    (batch,) = fit(data, module)
    counted = sorted(module.collector.finished)
    lengths = batch.mask.sum(0)
    returns = (batch.rewards * batch.mask).sum(0)
    assert counted == sorted(zip(returns.tolist(), lengths.tolist(), strict=True))


def test_each_batch_of_whole_episodes_has_new_starts() -> None:
    first, again, other = (
        fit(
            RolloutDataModule(
                "Counting-v0",
                num_envs=4,
                episodes_per_update=4,
                updates_per_epoch=2,
                seed=seed,
            ),
            Versioned(),
            epochs=2,
        )
        for seed in (1, 1, 2)
    )
    lengths = [batch.observations[0, :, 1].tolist() for batch in first]
    assert len({tuple(value) for value in lengths}) == 4
    assert lengths == [batch.observations[0, :, 1].tolist() for batch in again]
    assert lengths != [batch.observations[0, :, 1].tolist() for batch in other]


def test_ranks_see_different_episodes(monkeypatch: pytest.MonkeyPatch) -> None:
    lengths = []
    for rank in (0, 1):
        monkeypatch.setattr(RolloutDataModule, "rank", rank)
        for kind in ({"rollout_length": 3}, {"episodes_per_update": 8}):
            data = RolloutDataModule("Counting-v0", num_envs=8, updates_per_epoch=1, **kind)
            (batch,) = fit(data, Versioned())
            lengths.append(tuple(batch.observations[0, :, 1].tolist()))
    assert len(set(lengths)) == 4


def test_environment_steps_are_counted_without_reset_rows() -> None:
    data = RolloutDataModule("Counting-v0", num_envs=3, rollout_length=10, updates_per_epoch=2)
    module = Versioned()
    batches = fit(data, module)
    assert module.collector.env_steps == sum(int(batch.mask.sum()) for batch in batches)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "exactly one"),
        ({"rollout_length": 2, "episodes_per_update": 2}, "exactly one"),
        ({"rollout_length": 0}, "rollout_length"),
        ({"episodes_per_update": 3, "num_envs": 2}, "multiple"),
        ({"rollout_length": 2, "updates_per_epoch": 0}, "updates_per_epoch"),
    ],
)
def test_invalid_settings_are_refused(arguments: dict[str, int], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        RolloutDataModule("Counting-v0", **arguments)
