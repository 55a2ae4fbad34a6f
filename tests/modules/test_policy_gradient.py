"""How `training_step` combines the terms of the loss, for REINFORCE and for A2C."""

import pytest
import torch
from lightning.pytorch.cli import ReduceLROnPlateau
from torch.optim.lr_scheduler import LambdaLR

from loss_terms import loss_terms, with_trainer
from rl_lightning.experience import Rollout
from rl_lightning.modules import A2C, Reinforce
from rl_lightning.modules.policy_gradient import PolicyGradient
from specs import spec

ENVIRONMENT = spec(observation_shape=(3,), num_actions=2)
STEPS, COPIES = 6, 4


def whole_episodes() -> Rollout:
    """One episode of three to six steps from each environment copy."""
    generator = torch.Generator().manual_seed(0)
    lengths = torch.tensor([3, 4, 5, 6])
    step = torch.arange(STEPS)[:, None]
    mask, ends = step < lengths, step == lengths - 1
    return Rollout(
        observations=2 + 3 * torch.randn(STEPS + 1, COPIES, 3, generator=generator),
        actions=torch.randint(2, (STEPS, COPIES), generator=generator),
        rewards=(5 + torch.randn(STEPS, COPIES, generator=generator)) * mask,
        discounts=torch.where(ends, 0.0, 0.9),
        ends=ends,
        mask=mask,
    )


def make(kind: type[PolicyGradient], **settings: object) -> PolicyGradient:
    torch.manual_seed(0)
    return with_trainer(kind(ENVIRONMENT, **settings))


@pytest.mark.parametrize("kind", [A2C, Reinforce])
def test_the_loss_is_that_of_policy_and_critic_minus_the_entropy(kind: type) -> None:
    module, batch = make(kind, value_coefficient=0.3, entropy_coefficient=0.2), whole_episodes()
    parts = loss_terms(module, batch)
    expected = parts.policy + 0.3 * parts.value - 0.2 * parts.entropy
    torch.testing.assert_close(module.training_step(batch), expected)


@pytest.mark.parametrize("kind", [A2C, Reinforce])
def test_the_entropy_bonus_makes_the_policy_more_uniform(kind: type) -> None:
    module, batch = make(kind, value_coefficient=0.0, entropy_coefficient=1e4), whole_episodes()
    with torch.no_grad():
        module.head.linear.bias.copy_(torch.tensor([1.0, -1.0]))
    before = module.policy(batch.observations[0]).entropy().mean()
    optimizer = torch.optim.SGD(module.parameters(), lr=1e-5)
    module.training_step(batch).backward()
    optimizer.step()
    assert module.policy(batch.observations[0]).entropy().mean() > before


@pytest.mark.parametrize("kind", [A2C, Reinforce])
def test_the_loss_uses_the_statistics_without_its_own_batch(kind: type) -> None:
    settings = {"normalise_observations": True, "normalise_returns": True}
    module, batch = make(kind, **settings), whole_episodes()
    module.training_step(whole_episodes())  # statistics that differ from the initial ones
    other = batch._replace(observations=batch.observations * 2 + 1, rewards=batch.rewards * 3)
    before = loss_terms(module, other)
    loss = module.training_step(other)
    after = loss_terms(module, other)
    torch.testing.assert_close(loss, before.policy + 0.5 * before.value)
    assert not torch.isclose(loss, after.policy + 0.5 * after.value, rtol=1e-3)
    assert module.normaliser.count == 2 * batch.mask.sum()
    assert module.return_statistics.count == 2 * batch.mask.sum()


@pytest.mark.parametrize("kind", [A2C, Reinforce])
def test_statistics_of_returns_are_in_units_of_rewards(kind: type) -> None:
    """This holds when rewards were divided by the scale of earlier batches."""
    first, scaled = (make(kind, normalise_returns=True) for _ in range(2))
    batch = whole_episodes()
    for values in first.parameters():
        values.data.zero_()  # V = 0, so A2C's returns are also sums of rewards
    scaled.load_state_dict(first.state_dict())
    scaled.return_statistics.variance.fill_(100.0**2)
    for module in (first, scaled):
        module.training_step(batch)
    torch.testing.assert_close(scaled.return_statistics.mean, first.return_statistics.mean)
    assert first.return_statistics.mean > 5


@pytest.mark.parametrize("kind", [A2C, Reinforce])
def test_advantages_are_standardised_for_the_policy_and_not_for_the_critic(kind: type) -> None:
    plain, standardised = (make(kind, normalise_advantages=on) for on in (False, True))
    batch = whole_episodes()
    expected, actual = loss_terms(plain, batch), loss_terms(standardised, batch)
    torch.testing.assert_close(actual.value, expected.value)
    assert not torch.isclose(actual.policy, expected.policy)


@pytest.mark.parametrize("baseline", ["moving_average", "value", "none"])
def test_the_scale_of_returns_applies_to_rewards_and_baseline(baseline: str) -> None:
    """Rewards and baseline that are 100 times larger give the same loss at a scale of 100."""
    batch = whole_episodes()
    small, large = (make(Reinforce, baseline=baseline, normalise_returns=True) for _ in "ab")
    for module, scale in ((small, 1.0), (large, 100.0)):
        module.return_statistics.variance.fill_(scale**2)
        if module.average is not None:
            module.average.update(torch.tensor([7.0 * scale]))
    bigger = batch._replace(rewards=batch.rewards * 100)
    torch.testing.assert_close(loss_terms(small, batch).policy, loss_terms(large, bigger).policy)


def test_the_moving_average_does_not_include_its_own_batch() -> None:
    module, batch = make(Reinforce, baseline="moving_average"), whole_episodes()
    none = make(Reinforce, baseline="none")
    torch.testing.assert_close(module.training_step(batch), none.training_step(batch))
    average = module.average.value.clone()
    returns = module.returns(batch)
    torch.testing.assert_close(average, returns[batch.mask].mean())
    second = module.training_step(batch)
    log_probs = module.policy(batch.observations[:-1].flatten(0, 1)).log_prob(
        batch.actions.flatten()
    )
    advantages = ((returns - average) * batch.mask).flatten()
    torch.testing.assert_close(second, -(log_probs * advantages).sum() / COPIES)


@pytest.mark.parametrize("kind", [A2C, Reinforce])
def test_the_schedule_sets_the_learning_rates_of_policy_and_critic(kind: type) -> None:
    def halved(optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.StepLR:
        return torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.5)

    settings = {"baseline": "value"} if kind is Reinforce else {}
    module = make(kind, critic_learning_rate=0.02, lr_scheduler=halved, **settings)
    both = module.configure_optimizers()
    before = [group["lr"] for group in both["optimizer"].param_groups]
    both["optimizer"].step()
    both["lr_scheduler"].step()
    assert before == [0.001, 0.02]
    assert [group["lr"] for group in both["optimizer"].param_groups] == [0.0005, 0.01]


@pytest.mark.parametrize("rate", [None, 0.02])
@pytest.mark.parametrize("scheduled", [False, True])
def test_an_optimizer_state_of_earlier_versions_is_resumed(
    rate: float | None, scheduled: bool
) -> None:
    """Earlier versions always had a group for the critic."""

    def halved(optimizer: torch.optim.Optimizer) -> LambdaLR:
        return LambdaLR(optimizer, lambda epoch: 0.5**epoch)

    module = make(A2C, critic_learning_rate=rate, lr_scheduler=halved if scheduled else None)
    assert module.critic_body is not None
    assert module.value_head is not None
    critic = [*module.critic_body.parameters(), *module.value_head.parameters()]
    policy = [p for p in module.parameters() if not any(p is other for other in critic)]
    before = torch.optim.Adam([{"params": policy}, {"params": critic}], lr=0.004)
    before.param_groups[1]["lr"] = rate or 0.004
    for number, parameter in enumerate([*policy, *critic]):
        parameter.grad = torch.full_like(parameter, float(number))
    before.step()
    made = module.configure_optimizers()
    after = made["optimizer"] if scheduled else made
    if scheduled:
        made["lr_scheduler"].load_state_dict(halved(before).state_dict())
    after.load_state_dict(before.state_dict())
    assert len(after.param_groups) == 1 + (scheduled or rate is not None)
    for optimizer, number in ((before, 0), (after, 1)):
        rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
        assert rates[id(policy[0])] == 0.004, number
        assert rates[id(critic[0])] == (rate or 0.004), number
    for parameter in [*policy, *critic]:
        assert torch.equal(before.state[parameter]["exp_avg"], after.state[parameter]["exp_avg"])
    if scheduled:
        after.step()
        made["lr_scheduler"].step()


def test_a_schedule_on_plateaus_names_its_metric() -> None:
    def on_plateaus(optimizer: torch.optim.Optimizer) -> ReduceLROnPlateau:
        return ReduceLROnPlateau(optimizer, monitor="val/return", mode="max")

    assert make(A2C, lr_scheduler=on_plateaus).configure_optimizers()["monitor"] == "val/return"
