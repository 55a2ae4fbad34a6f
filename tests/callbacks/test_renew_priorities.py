"""RenewPriorities passes each TD error to the row that it was computed from."""

import pytest
import torch
from lightning import LightningModule, Trainer

from rl_lightning.callbacks import RenewPriorities
from rl_lightning.datamodules import ReplayDataModule
from rl_lightning.modules import DQN


class ThirdStep(LightningModule):
    """Its TD error is -1 at the third step of an episode and 0 at all other steps."""

    gives_td_errors = True

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.steps = []

    def act(self, observations, exploration=None):
        return torch.zeros(len(observations), dtype=torch.int64)

    def training_step(self, batch):
        steps = batch.observations[:, 1]
        self.steps.append(steps.tolist())
        return {"loss": self.weight * 0, "td_error": -(steps == 3).float()}

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=1)


def replay(env_id="test/Counting-v0", **settings):
    # Eight environment copies step at every eighth update, so the ring does not change before.
    settings = {"num_envs": 8, "env_steps_per_update": 1, "warmup_env_steps": 64, **settings}
    return ReplayDataModule(env_id, priority_exponent=1.0, updates_per_epoch=7, **settings)


def fit(module, data, callback, **settings):
    Trainer(
        accelerator="cpu",
        max_epochs=1,
        limit_val_batches=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[callback],
        **settings,
    ).fit(module, datamodule=data)


@pytest.mark.parametrize("accumulated", [1, 3])
def test_rows_with_a_td_error_are_sampled_from_the_next_batch_on(accumulated):
    module = ThirdStep()
    data = replay(batch_size=200, env_kwargs={"lengths": (20,)})
    fit(module, data, RenewPriorities(), accumulate_grad_batches=accumulated)
    assert set(module.steps[0]) == set(range(9))
    assert all(set(steps) == {3} for steps in module.steps[1:])


def test_dqn_passes_the_error_of_each_row():
    class Recording(DQN):
        def training_step(self, batch):
            outputs = super().training_step(batch)
            given.append(outputs["td_error"].clone())
            return outputs

    class Renewed(ReplayDataModule):
        def renew_priorities(self, td_errors):
            renewed.append(td_errors.clone())
            super().renew_priorities(td_errors)

    given, renewed = [], []
    data = Renewed(
        "test/Signal-v0",
        priority_exponent=0.5,
        num_envs=2,
        env_steps_per_update=2,
        warmup_env_steps=20,
        batch_size=6,
        updates_per_epoch=5,
    )
    fit(Recording(data.environment, hidden_sizes=(4,)), data, RenewPriorities())
    assert len(renewed) == 5
    assert all(errors.shape == (6,) for errors in renewed)
    assert torch.equal(torch.stack(renewed), torch.stack(given))
    assert torch.stack(renewed).unique().numel() > 5


def test_a_uniform_replay_has_nothing_to_renew():
    data = replay(env_kwargs={"lengths": (20,)})
    data.priorities = None
    module = ThirdStep()
    fit(module, data, RenewPriorities())
    assert len(module.steps) == 7
