"""PQN: its loss by hand, the targets of a rollout, and that it learns."""

import pytest
import torch
from lightning import Trainer, seed_everything
from torch import Tensor, nn

from loss_terms import with_trainer
from rl_lightning.datamodules import RolloutMinibatchDataModule
from rl_lightning.experience import Decision, Exploration, Minibatch, Rollout
from rl_lightning.modules import PQN
from rl_lightning.runtime.errors import ConfigurationError
from specs import spec

GAMMA, LAMBDA = 0.9, 0.7
FOUR_ACTIONS = spec("x", (3,), num_actions=4)


def pqn(**options: object) -> PQN:
    torch.manual_seed(0)
    settings = {"q_lambda": LAMBDA, "hidden_sizes": [8], **options}
    return with_trainer(PQN(FOUR_ACTIONS, **settings))


def rollout(module: PQN) -> Rollout:
    """Random observations with random actions and the values of the module."""
    generator = torch.Generator().manual_seed(0)
    observations = torch.randn(6, 2, 3, generator=generator)
    with torch.no_grad():
        decisions = [module.act(each, Exploration(0, generator)) for each in observations[:-1]]
    mask = torch.ones(5, 2, dtype=torch.bool)
    ends = torch.zeros(5, 2, dtype=torch.bool)
    discounts = torch.full((5, 2), GAMMA)
    ends[1, 0], mask[2, 0] = True, False  # truncated
    ends[2, 1], mask[3, 1], discounts[2, 1] = True, False, 0.0  # terminated
    return Rollout(
        observations,
        torch.stack([decision.actions for decision in decisions]),
        torch.randn(5, 2, generator=generator) * mask,
        discounts,
        ends,
        mask,
        {"values": torch.stack([decision.extras["values"] for decision in decisions])},
    )


def test_the_loss_by_hand() -> None:
    module = pqn()
    batch = Minibatch(torch.randn(6, 3), torch.randint(4, (6,)), {"targets": torch.randn(6)})
    errors = [
        target - module.q_network(observation[None])[0, action]
        for observation, action, target in zip(*batch[:2], batch.extras["targets"], strict=True)
    ]
    torch.testing.assert_close(module.training_step(batch), torch.stack(errors).square().mean())


@pytest.mark.parametrize("reward_scale", [1.0, 0.1])
def test_targets_are_q_lambda_returns_of_the_network_that_collected(reward_scale) -> None:
    module = pqn(reward_scale=reward_scale, normalise_observations=True)
    module.normaliser.update(torch.randn(50, 3) * 3 + 1)
    given = rollout(module)
    with torch.no_grad():
        best = module.q_network(module.normaliser(given.observations.flatten(0, 1))).amax(1)
    values = best.unflatten(0, (6, 2))

    def target(t: int, n: int) -> Tensor:
        reward = given.rewards[t, n] * reward_scale
        bootstrap = given.discounts[t, n] * values[t + 1, n]
        if given.ends[t, n] or t == 4:
            return reward + bootstrap
        return reward + (1 - LAMBDA) * bootstrap + LAMBDA * GAMMA * target(t + 1, n)

    normalised = module.normaliser(given.observations)
    prepared = module.prepare(given)
    for t in range(5):
        for n in range(2):
            if given.mask[t, n]:
                torch.testing.assert_close(prepared.extras["targets"][t, n], target(t, n))
    assert torch.equal(prepared.observations, normalised)
    assert module.normaliser.count == 50 + given.mask.sum()
    assert not prepared.extras["targets"].requires_grad


def test_it_explores_and_gives_the_largest_q_value() -> None:
    module = pqn(epsilon_start=1.0, epsilon_end=0.5, epsilon_env_steps=100)
    observations = torch.randn(400, 3)
    decision = module.act(observations, Exploration(100, torch.Generator().manual_seed(0)))
    assert isinstance(decision, Decision)
    torch.testing.assert_close(decision.extras["values"], module.values(observations))
    greedy = module.act(observations)
    assert torch.equal(greedy, module.q_network(observations).argmax(1))
    share = (decision.actions == greedy).float().mean().item()
    assert share == pytest.approx(0.5 + 0.5 / 4, abs=0.08)
    assert module.epsilon == 0.5


def test_layers_are_normalised_unless_asked_otherwise() -> None:
    assert any(isinstance(layer, nn.LayerNorm) for layer in pqn().modules())
    assert not any(isinstance(layer, nn.LayerNorm) for layer in pqn(layer_norm=False).modules())


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="q_lambda"):
        PQN(FOUR_ACTIONS, q_lambda=-0.1)
    with pytest.raises(ConfigurationError, match="PQN needs discrete actions"):
        PQN(spec("x", (3,), action_shape=(1,)))


def fit(module: PQN, data: RolloutMinibatchDataModule) -> None:
    Trainer(
        accelerator="cpu",
        max_epochs=1,
        limit_val_batches=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    ).fit(module, data)


class TruncationIsTermination(PQN):
    def prepare(self, rollout: Rollout) -> Rollout:
        return super().prepare(rollout._replace(discounts=rollout.discounts * ~rollout.ends))


@pytest.mark.parametrize("kind", [PQN, TruncationIsTermination])
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
    if kind is PQN:
        assert value == pytest.approx(1 / (1 - GAMMA), rel=0.05)
    else:
        assert value < 0.7 / (1 - GAMMA)


def test_a_contextual_bandit_is_learned() -> None:
    seed_everything(0, verbose=False)
    data = RolloutMinibatchDataModule(
        "test/Signal-v0", num_envs=8, rollout_length=16, gamma=0.0, updates_per_epoch=320
    )
    module = PQN(
        data.environment,
        hidden_sizes=[16],
        epsilon_env_steps=1_000,
        optimizer=lambda parameters: torch.optim.Adam(parameters, lr=1e-2),
    )
    fit(module, data)
    assert module.act(torch.tensor([[-1.0], [1.0]])).tolist() == [0, 1]
    torch.testing.assert_close(module.values(torch.ones(1, 1)), torch.ones(1), atol=0.1, rtol=0)
