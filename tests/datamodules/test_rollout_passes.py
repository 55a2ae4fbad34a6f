"""Rollouts that are given in several batches."""

import pytest
import torch
from lightning import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from rl_lightning.datamodules.rollout import RolloutDataModule
from rl_lightning.experience import Decision, Exploration, Rollout
from rl_lightning.modules import A2C, Reinforce
from rl_lightning.runtime.errors import ConfigurationError

PASSES, MINIBATCHES, COPIES = 3, 2, 6


class Remembering(A2C):
    """Remembers the number of the environment copy, and keeps its batches."""

    reuses_rollouts = True

    def act(
        self, observations: torch.Tensor, exploration: Exploration | None = None
    ) -> torch.Tensor | Decision:
        actions = super().act(observations, exploration)
        return Decision(actions, {"copies": torch.arange(len(observations))})

    def training_step(self, batch: Rollout) -> torch.Tensor:
        self.kept = [*getattr(self, "kept", []), batch]
        return super().training_step(batch)


def make(**options: object) -> RolloutDataModule:
    settings = {"passes": PASSES, "minibatches": MINIBATCHES, "updates_per_epoch": 4, **options}
    return RolloutDataModule("CartPole-v1", rollout_length=5, num_envs=COPIES, **settings)


def fit(data: RolloutDataModule, module: A2C, ckpt_path=None, **flags: object) -> list[Rollout]:
    trainer = Trainer(
        accelerator="cpu",
        limit_val_batches=0,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **{"max_epochs": 3, "enable_checkpointing": False, **flags},
    )
    trainer.fit(module, datamodule=data, ckpt_path=ckpt_path, weights_only=True)
    return getattr(module, "kept", [])


def test_each_pass_has_every_environment_copy_once_in_a_new_order() -> None:
    data = make()
    batches = fit(data, Remembering(data.environment))
    assert len(batches) == 12
    orders = []
    for start in range(0, 12, MINIBATCHES):
        copies = [batch.extras["copies"] for batch in batches[start : start + MINIBATCHES]]
        assert all((each == each[0]).all() for each in copies), "steps of a copy were mixed"
        order = torch.cat([each[0] for each in copies]).tolist()
        assert sorted(order) == [*range(COPIES)]
        orders.append(tuple(order))
    assert len(set(orders)) > 3
    again = fit(other := make(), Remembering(other.environment))
    assert torch.equal(batches[3].extras["copies"], again[3].extras["copies"])
    data_of_another_seed = make(seed=5)
    different = fit(data_of_another_seed, Remembering(data_of_another_seed.environment))
    assert any(
        not torch.equal(one.extras["copies"], other.extras["copies"])
        for one, other in zip(batches, different, strict=True)
    )


def test_a_rollout_is_collected_once_and_its_minibatches_are_its_columns() -> None:
    data = make()
    batches = fit(data, Remembering(data.environment), max_epochs=3)
    rollouts = [batches[:6], batches[6:]]
    for batch_of_six in rollouts:
        rows: dict[int, torch.Tensor] = {}
        for batch in batch_of_six:
            for column, copy in enumerate(batch.extras["copies"][0].tolist()):
                first = rows.setdefault(copy, batch.observations[:, column])
                assert torch.equal(first, batch.observations[:, column])
    assert not torch.equal(rollouts[0][0].observations.sum(), rollouts[1][0].observations.sum()), (
        "the second rollout is the first"
    )


def test_the_last_pass_is_marked_and_statistics_count_each_step_once() -> None:
    data = make()
    module = Remembering(data.environment, normalise_observations=True)
    batches = fit(data, module)
    marks = [batch.is_last_use for batch in batches]
    assert marks == [False] * 4 + [True] * 2 + [False] * 4 + [True] * 2
    assert module.normaliser.count == sum(int(batch.mask.sum()) for batch in batches) / PASSES


@pytest.mark.parametrize("updates", [1, 2, 5, 6, 7])
def test_a_rollout_in_use_is_in_the_checkpoint(updates: int, tmp_path) -> None:
    whole = fit(data := make(), Remembering(data.environment), max_epochs=3)
    saved = ModelCheckpoint(tmp_path, filename="stopped", every_n_train_steps=updates)
    data = make()
    stopped = Remembering(data.environment)
    fit(data, stopped, max_steps=updates, callbacks=[saved], enable_checkpointing=True)
    data = make()
    module = Remembering(data.environment)
    fit(data, module, ckpt_path=tmp_path / "stopped.ckpt")
    batches = [*stopped.kept, *module.kept]
    assert len(batches) == 12
    for one, other in zip(whole, batches, strict=True):
        assert torch.equal(one.extras["copies"], other.extras["copies"])
        assert torch.equal(one.observations, other.observations)
    inside = updates % (PASSES * MINIBATCHES)
    data = make(passes=1, minibatches=1) if inside else make(passes=4)
    with pytest.raises(ConfigurationError, match="other passes or minibatches"):
        fit(data, Remembering(data.environment), ckpt_path=tmp_path / "stopped.ckpt")


@pytest.mark.parametrize("kind", [A2C, Reinforce])
@pytest.mark.parametrize("options", [{"passes": 2}, {"minibatches": 2}])
def test_modules_that_learn_from_a_rollout_once_are_refused(kind, options) -> None:
    data = RolloutDataModule("CartPole-v1", episodes_per_update=2, num_envs=2, **options)
    with pytest.raises(ConfigurationError, match="gives each rollout in 2 batches"):
        fit(data, kind(data.environment))


@pytest.mark.parametrize(
    ("options", "message"),
    [({"minibatches": 4}, "not a multiple of minibatches 4"), ({"passes": 0}, "passes is 0")],
)
def test_impossible_settings_are_refused(options, message) -> None:
    with pytest.raises(ConfigurationError, match=message):
        make(**options)
