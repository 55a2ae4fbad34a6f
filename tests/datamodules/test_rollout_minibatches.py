"""Rollouts that are given in random minibatches of their steps."""

from itertools import chain

import pytest
import torch
from lightning import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from rl_lightning.datamodules import RolloutMinibatchDataModule
from rl_lightning.experience import Decision, EnvironmentSpec, Exploration, Minibatch, Rollout
from rl_lightning.modules import A2C, PPO
from rl_lightning.runtime.errors import ConfigurationError

PASSES, MINIBATCHES, COPIES, LENGTH = 3, 2, 6, 5


class Remembering(PPO):
    """Numbers the steps that it acted in, counts its rollouts, and keeps its batches."""

    steps = 0

    def __init__(self, environment: EnvironmentSpec) -> None:
        torch.manual_seed(0)
        super().__init__(environment)

    def act(
        self, observations: torch.Tensor, exploration: Exploration | None = None
    ) -> torch.Tensor | Decision:
        decision = super().act(observations, exploration)
        if exploration is None:
            return decision
        assert isinstance(decision, Decision)
        numbers = torch.arange(self.steps, self.steps + len(observations))
        self.steps += len(observations)
        return Decision(decision.actions, {**decision.extras, "steps": numbers})

    def prepare(self, rollout: Rollout) -> Rollout:
        self.prepared = [*getattr(self, "prepared", []), rollout]
        self.updates_at_rollouts = [
            *getattr(self, "updates_at_rollouts", []),
            self.trainer.global_step,
        ]
        ready = super().prepare(rollout)
        extras = {**ready.extras, "steps": rollout.extras["steps"]}
        return ready._replace(extras=extras)

    def training_step(self, batch: Minibatch) -> torch.Tensor:
        self.kept = [*getattr(self, "kept", []), batch]
        return super().training_step(batch)


def make(env_id: str = "test/Signal-v0", **options: object) -> RolloutMinibatchDataModule:
    settings = {"passes": PASSES, "minibatches": MINIBATCHES, "updates_per_epoch": 4, **options}
    return RolloutMinibatchDataModule(
        env_id, **{"rollout_length": LENGTH, "num_envs": COPIES, **settings}
    )


def fit(data, module, ckpt_path=None, **flags: object) -> list[Minibatch]:
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


def steps(batches: list[Minibatch]) -> list[list[int]]:
    return [batch.extras["steps"].tolist() for batch in batches]


def test_each_pass_has_every_step_once_in_a_new_order() -> None:
    data = make()
    module = Remembering(data.environment)
    batches = fit(data, module)
    assert len(batches) == 12
    orders = []
    for start in range(0, 12, MINIBATCHES):
        order = [*chain(*steps(batches[start : start + MINIBATCHES]))]
        rollout = start // (PASSES * MINIBATCHES)
        first = rollout * LENGTH * COPIES
        assert sorted(order) == [*range(first, first + LENGTH * COPIES)]
        orders.append(tuple(step - first for step in order))
    assert len(set(orders)) == 6
    again = fit(other := make(), Remembering(other.environment))
    assert steps(again) == steps(batches)
    different = fit(other := make(seed=5), Remembering(other.environment))
    assert steps(different) != steps(batches)


def test_ranks_have_orders_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    mask = torch.ones(LENGTH, COPIES, dtype=torch.bool)
    orders = []
    for rank in range(2):
        monkeypatch.setattr(RolloutMinibatchDataModule, "rank", rank)
        orders.append(make()._steps(mask, 0).tolist())
    assert orders[0] != orders[1]


def test_a_minibatch_holds_the_rows_of_its_steps() -> None:
    data = make()
    module = Remembering(data.environment)
    for number, batch in enumerate(fit(data, module)):
        rollout = module.prepared[number // (PASSES * MINIBATCHES)]
        where = rollout.extras["steps"].flatten()
        for row, step in enumerate(batch.extras["steps"]):
            index = int((where == step).nonzero())
            expected = rollout.observations[:-1].flatten(0, 1)[index]
            assert torch.equal(batch.observations[row], expected)
            assert torch.equal(batch.actions[row], rollout.actions.flatten()[index])
            log_prob = rollout.extras["log_probs"].flatten()[index]
            assert torch.equal(batch.extras["log_probs"][row], log_prob)


def test_rollouts_are_collected_and_prepared_by_the_policy_before_their_first_update() -> None:
    data = make()
    module = Remembering(data.environment)
    fit(data, module)
    assert module.updates_at_rollouts == [0, PASSES * MINIBATCHES]


def test_reset_rows_are_in_no_minibatch() -> None:
    data = make("test/Counting-v0", rollout_length=9)  # episodes of 3 steps, then a reset row
    module = Remembering(data.environment)
    batches = fit(data, module, max_epochs=1)
    (rollout,) = module.prepared
    assert not rollout.mask.all()
    used = chain(*steps(batches[:MINIBATCHES]))
    assert sorted(used) == rollout.extras["steps"][rollout.mask].tolist()


@pytest.mark.parametrize("updates", [1, 2, 5, 6, 7])
def test_a_rollout_in_use_is_in_the_checkpoint(updates: int, tmp_path) -> None:
    whole = fit(data := make("CartPole-v1"), Remembering(data.environment))
    saved = ModelCheckpoint(tmp_path, filename="stopped", every_n_train_steps=updates)
    data = make("CartPole-v1")
    stopped = Remembering(data.environment)
    fit(data, stopped, max_steps=updates, callbacks=[saved], enable_checkpointing=True)
    data = make("CartPole-v1")
    module = Remembering(data.environment)
    module.steps = stopped.steps
    fit(data, module, ckpt_path=tmp_path / "stopped.ckpt")
    batches = [*stopped.kept, *module.kept]
    assert steps(batches) == steps(whole)
    for one, other in zip(whole, batches, strict=True):
        assert torch.equal(one.observations, other.observations)
        assert torch.equal(one.extras["advantages"], other.extras["advantages"])
    inside = updates % (PASSES * MINIBATCHES)
    data = make("CartPole-v1", **({"passes": 1, "minibatches": 1} if inside else {"passes": 4}))
    with pytest.raises(ConfigurationError, match="other passes or minibatches"):
        fit(data, Remembering(data.environment), ckpt_path=tmp_path / "stopped.ckpt")


def test_a_module_that_learns_from_whole_rollouts_is_refused() -> None:
    data = make()
    with pytest.raises(ConfigurationError, match="A2C"):
        fit(data, A2C(data.environment))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"minibatches": 13}, "may have only 12 environment steps"),
        ({"passes": 0}, "passes is 0"),
        ({"minibatches": 0}, "minibatches is 0"),
    ],
)
def test_impossible_settings_are_refused(options, message) -> None:
    with pytest.raises(ConfigurationError, match=message):
        make(**options)
