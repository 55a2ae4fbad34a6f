"""PPO: its loss by hand, and the advantages of a rollout."""

import pytest
import torch
from lightning import Trainer
from torch import Tensor

from loss_terms import with_trainer
from rl_lightning.experience import EnvironmentSpec, Exploration, Minibatch, Rollout
from rl_lightning.functional.returns import generalised_advantages
from rl_lightning.modules import PPO
from rl_lightning.runtime.errors import ConfigurationError
from specs import spec

GAMMA, LAMBDA, CLIP = 0.9, 0.8, 0.2
DISCRETE = spec("x", (3,), num_actions=2)
CONTINUOUS = spec("x", (3,), action_shape=(2,))


def ppo(environment: EnvironmentSpec, **options: object) -> PPO:
    torch.manual_seed(0)
    settings = {"clip_range": CLIP, "gae_lambda": LAMBDA, "hidden_sizes": [8], **options}
    return with_trainer(PPO(environment, **settings))


def rollout(module: PPO, steps: int = 5, copies: int = 4) -> Rollout:
    """Random observations with the actions and extras of the module."""
    generator = torch.Generator().manual_seed(0)
    observations = torch.randn(steps + 1, copies, 3, generator=generator)
    with torch.no_grad():
        decisions = [module.act(each, Exploration(0, generator)) for each in observations[:-1]]
    mask = torch.ones(steps, copies, dtype=torch.bool)
    ends = torch.zeros(steps, copies, dtype=torch.bool)
    discounts = torch.full((steps, copies), GAMMA)
    ends[1, 0], mask[2, 0] = True, False  # truncated
    ends[2, 1], mask[3, 1], discounts[2, 1] = True, False, 0.0  # terminated
    return Rollout(
        observations,
        torch.stack([decision.actions for decision in decisions]),
        torch.randn(steps, copies, generator=generator) * mask,
        discounts,
        ends,
        mask,
        {
            name: torch.stack([decision.extras[name] for decision in decisions])
            for name in ("log_probs", "values")
        },
    )


def minibatch(module: PPO, size: int = 12) -> Minibatch:
    generator = torch.Generator().manual_seed(1)
    observations = torch.randn(size, 3, generator=generator)
    with torch.no_grad():
        actions = module.head.act(module.body(observations), generator)
        log_probs = module.policy(observations).log_prob(actions)
    extras = {
        # Ratios from 0.6 to 2.5, so that both sides of the clip are reached.
        "log_probs": log_probs - torch.linspace(-0.5, 0.9, size),
        "advantages": torch.randn(size, generator=generator),
        "returns": torch.randn(size, generator=generator),
    }
    return Minibatch(observations, actions, extras)


@pytest.mark.parametrize("environment", [DISCRETE, CONTINUOUS])
@pytest.mark.parametrize("normalise", [False, True])
@pytest.mark.parametrize("shared_body", [False, True])
def test_the_loss_by_hand(environment, normalise, shared_body) -> None:
    module = ppo(
        environment,
        normalise_advantages=normalise,
        shared_body=shared_body,
        value_coefficient=0.3,
        entropy_coefficient=0.2,
    )
    batch = minibatch(module)
    advantages = batch.extras["advantages"]
    if normalise:
        advantages = (advantages - advantages.mean()) / advantages.std(correction=0)
    total, clipped = torch.zeros(()), 0
    for i, advantage in enumerate(advantages):
        observation = batch.observations[i : i + 1]
        distribution = module.policy(observation)
        log_prob = distribution.log_prob(batch.actions[i : i + 1])[0]
        ratio = (log_prob - batch.extras["log_probs"][i]).exp()
        objective = ratio * advantage
        if advantage > 0 and ratio > 1 + CLIP:
            objective, clipped = (1 + CLIP) * advantage, clipped + 1
        elif advantage < 0 and ratio < 1 - CLIP:
            objective, clipped = (1 - CLIP) * advantage, clipped + 1
        error = batch.extras["returns"][i] - module.values(observation)[0]
        total = total - objective + 0.3 * error**2 - 0.2 * distribution.entropy()[0]
    assert clipped > 1
    torch.testing.assert_close(module.training_step(batch), total / len(advantages))


def test_clipped_steps_have_no_gradient_of_the_policy() -> None:
    module = ppo(DISCRETE, value_coefficient=0.0, normalise_advantages=False)
    batch = minibatch(module)
    far = {**batch.extras, "log_probs": batch.extras["log_probs"] - 5, "advantages": torch.ones(12)}
    module.training_step(batch._replace(extras=far)).backward()
    assert not any(p.grad.any() for p in module.body.parameters())
    module.training_step(batch._replace(extras={**far, "advantages": -torch.ones(12)})).backward()
    assert any(p.grad.any() for p in module.body.parameters())


def test_what_act_remembers_is_of_the_policy_that_acts() -> None:
    module = ppo(CONTINUOUS, normalise_observations=True)
    module.normaliser.update(torch.randn(50, 3) * 3 + 1)
    observations = torch.randn(6, 3)
    decision = module.act(observations, Exploration(0, torch.Generator().manual_seed(0)))
    log_probs = module.policy(observations).log_prob(decision.actions)
    torch.testing.assert_close(decision.extras["log_probs"], log_probs)
    torch.testing.assert_close(decision.extras["values"], module.values(observations))
    assert isinstance(module.act(observations), Tensor)


def test_a_rollout_has_the_advantages_of_the_critic_that_collected_it() -> None:
    module = ppo(DISCRETE, normalise_observations=True, normalise_returns=True)
    module.normaliser.update(torch.randn(50, 3) * 3 + 1)
    module.return_statistics.update(torch.randn(50) * 4)
    given = rollout(module)
    observations = given.observations
    with torch.no_grad():
        normalised = module.normaliser(observations)
        values = module.critic(normalised.flatten(0, 1)).unflatten(0, (6, 4))
    expected = generalised_advantages(
        given.rewards / module.return_scale, given.discounts, given.ends, values, LAMBDA
    )
    prepared = module.prepare(given)
    mask = given.mask
    torch.testing.assert_close(prepared.extras["advantages"][mask], expected[mask])
    torch.testing.assert_close(prepared.extras["returns"][mask], (expected + values[:-1])[mask])
    assert torch.equal(prepared.extras["log_probs"], given.extras["log_probs"])
    assert torch.equal(prepared.observations, normalised)


def test_statistics_learn_each_step_of_a_rollout_once_and_no_reset_row() -> None:
    module = ppo(DISCRETE, normalise_observations=True, normalise_returns=True)
    given = rollout(module)
    module.prepare(given)
    assert module.normaliser.count == given.mask.sum()
    assert module.return_statistics.count == given.mask.sum()
    expected = given.observations[:-1][given.mask].double().mean(0)
    torch.testing.assert_close(module.normaliser.mean, expected)
    module.training_step(minibatch(module))
    assert module.normaliser.count == given.mask.sum()


def test_divergence_and_clipped_share_are_logged() -> None:
    module = ppo(DISCRETE)
    module._trainer = Trainer(logger=False, log_every_n_steps=1)
    logged: dict[str, Tensor] = {}
    module.log_dict = lambda values, **options: logged.update(values)
    batch = minibatch(module)
    module.training_step(batch)
    ratios = torch.linspace(-0.5, 0.9, 12).exp()
    outside = ((ratios < 1 - CLIP) | (ratios > 1 + CLIP)).float().mean()
    assert logged["train/clip_fraction"] == outside
    kl = (ratios - 1 - ratios.log()).mean()
    torch.testing.assert_close(logged["train/approx_kl"], kl)


def test_advantages_are_standardised_unless_asked_otherwise() -> None:
    batch = minibatch(ppo(DISCRETE))
    standardised, plain, as_default = (
        ppo(DISCRETE, **options).training_step(batch)
        for options in ({"normalise_advantages": True}, {"normalise_advantages": False}, {})
    )
    assert as_default == standardised != plain


@pytest.mark.parametrize("options", [{"clip_range": -0.1}, {"gae_lambda": 1.1}])
def test_impossible_settings_are_refused(options) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        PPO(DISCRETE, **options)
