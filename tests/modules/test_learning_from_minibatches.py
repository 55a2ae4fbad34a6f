"""PPO and PQN learn from random minibatches of rollouts."""

import pytest
import torch
from lightning import Trainer, seed_everything

from rl_lightning.datamodules import RolloutMinibatchDataModule
from rl_lightning.experience import Rollout
from rl_lightning.modules import PPO, PQN

GAMMA = 0.9


def fit(module, data) -> None:
    Trainer(
        accelerator="cpu",
        max_epochs=1,
        limit_val_batches=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    ).fit(module, data)


class TruncationIsTermination:
    def prepare(self, rollout: Rollout) -> Rollout:
        return super().prepare(rollout._replace(discounts=rollout.discounts * ~rollout.ends))


class WrongPPO(TruncationIsTermination, PPO):
    """A user's mistake."""


class WrongPQN(TruncationIsTermination, PQN):
    """A user's mistake."""


@pytest.mark.parametrize("kind", [PPO, PQN, WrongPPO, WrongPQN])
def test_values_bootstrap_through_time_limits(kind) -> None:
    seed_everything(0, verbose=False)
    data = RolloutMinibatchDataModule(
        *("test/Endless-v0", 2, 2),
        num_envs=4, rollout_length=6, gamma=GAMMA, updates_per_epoch=400,
    )  # fmt: skip
    module = kind(
        data.environment,
        hidden_sizes=(),
        optimizer=lambda parameters: torch.optim.SGD(parameters, lr=0.2),
    )
    fit(module, data)
    value = module.values(torch.ones(1, 1)).item()
    if kind in (PPO, PQN):
        assert value == pytest.approx(1 / (1 - GAMMA), rel=0.05)
    else:
        assert value < 0.7 / (1 - GAMMA)


@pytest.mark.parametrize(
    ("kind", "updates", "options"), [(PPO, 160, {}), (PQN, 320, {"epsilon_env_steps": 1_000})]
)
def test_a_contextual_bandit_is_learned(kind, updates, options) -> None:
    seed_everything(0, verbose=False)
    data = RolloutMinibatchDataModule(
        "test/Signal-v0", num_envs=8, rollout_length=16, gamma=0.0, updates_per_epoch=updates
    )
    module = kind(
        data.environment,
        hidden_sizes=[16],
        optimizer=lambda parameters: torch.optim.Adam(parameters, lr=1e-2),
        **options,
    )
    fit(module, data)
    assert module.act(torch.tensor([[-1.0], [1.0]])).tolist() == [0, 1]
    if kind is PQN:
        values = module.values(torch.ones(1, 1))
        torch.testing.assert_close(values, torch.ones(1), atol=0.1, rtol=0)
