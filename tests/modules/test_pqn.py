"""PQN: its loss by hand, and the targets of a rollout."""

import pytest
import torch
from torch import Tensor, nn

from loss_terms import with_trainer
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
