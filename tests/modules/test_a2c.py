import gymnasium as gym
import numpy as np
import pytest
import torch
from lightning import Trainer, seed_everything
from torch import Tensor

from loss_terms import loss_terms
from rl_lightning.datamodules.rollout import RolloutDataModule
from rl_lightning.experience import EnvironmentSpec, Exploration, Rollout
from rl_lightning.modules.a2c import A2C
from rl_lightning.networks.rmsprop_tf import RMSpropTF
from rl_lightning.runtime.errors import ConfigurationError
from specs import spec

GAMMA = 0.9
DISCRETE = spec("x", (3,), num_observations=None, action_shape=(), num_actions=2)
CONTINUOUS = spec("x", (3,), num_observations=None, action_shape=(2,), num_actions=None)


def rollout(environment: EnvironmentSpec, steps: int = 5, copies: int = 4) -> Rollout:
    generator = torch.Generator().manual_seed(0)
    if environment["num_actions"] is None:
        actions = torch.randn(steps, copies, 2, generator=generator)
    else:
        actions = torch.randint(2, (steps, copies), generator=generator)
    ends, mask = torch.zeros(steps, copies, dtype=torch.bool), torch.ones(steps, copies).bool()
    ends[1, 0], mask[2, 0] = True, False
    return Rollout(
        observations=torch.randn(steps + 1, copies, 3, generator=generator),
        actions=actions,
        rewards=torch.randn(steps, copies, generator=generator) * mask,
        discounts=torch.full((steps, copies), GAMMA),
        ends=ends,
        mask=mask,
    )


class ConstantReward(gym.Env):
    """Its reward is 1 at each step, and its episodes are truncated every few steps."""

    observation_space = gym.spaces.Box(-1.0, 1.0, (1,))
    action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.steps += 1
        return np.zeros(1, np.float32), 1.0, False, self.steps >= 3, {}


class TruncationIsTermination(A2C):
    def training_step(self, batch: Rollout):
        return super().training_step(batch._replace(discounts=batch.discounts * ~batch.ends))


def learned_value(kind: type[A2C], advantage: str) -> float:
    gym.register("ConstantReward-v0", entry_point=ConstantReward)
    try:
        seed_everything(0, verbose=False)
        data = RolloutDataModule(
            "ConstantReward-v0", num_envs=4, gamma=GAMMA, rollout_length=6, updates_per_epoch=150
        )
        module = kind(
            data.environment,
            hidden_sizes=(),
            advantage=advantage,
            n_step=2,
            optimizer=lambda parameters: torch.optim.SGD(parameters, lr=0.3),
        )
        Trainer(
            accelerator="cpu",
            max_epochs=1,
            limit_val_batches=0,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        ).fit(module, data)
    finally:
        del gym.registry["ConstantReward-v0"]
    return module.values(torch.zeros(1, 1)).item()


@pytest.mark.parametrize("advantage", ["monte_carlo", "n_step", "gae"])
def test_values_bootstrap_through_time_limits(advantage: str) -> None:
    assert learned_value(A2C, advantage) == pytest.approx(1 / (1 - GAMMA), rel=0.05)


def test_values_are_wrong_if_truncations_are_terminations() -> None:
    assert learned_value(TruncationIsTermination, "gae") < 0.5 / (1 - GAMMA)


@pytest.mark.parametrize("environment", [DISCRETE, CONTINUOUS])
@pytest.mark.parametrize("shared_body", [False, True])
def test_the_losses_by_hand(environment: EnvironmentSpec, shared_body: bool) -> None:
    """The losses are those of a loop over steps, without the reset row."""
    batch = rollout(environment)
    module = A2C(environment, advantage="n_step", n_step=1, shared_body=shared_body)
    policy, value, entropy = [], [], []
    for t in range(5):
        for n in range(4):
            if not batch.mask[t, n]:
                continue
            here, there = (module.values(batch.observations[s, n : n + 1]) for s in (t, t + 1))
            error = batch.rewards[t, n] + batch.discounts[t, n] * there.detach() - here
            distribution = module.policy(batch.observations[t, n : n + 1])
            log_prob = distribution.log_prob(batch.actions[t, n : n + 1])
            policy.append(-log_prob * error.detach())
            value.append(error.square())
            entropy.append(distribution.entropy())
    losses = loss_terms(module, batch)
    for actual, parts in zip(losses, (policy, value, entropy), strict=True):
        torch.testing.assert_close(actual, torch.cat(parts).mean())


def test_no_gradient_reaches_the_critic_through_the_advantages() -> None:
    module = A2C(DISCRETE, value_coefficient=0.0)
    terms = loss_terms(module, rollout(DISCRETE))
    critic = [*module.critic_body.parameters(), *module.value_head.parameters()]
    assert not any(g.any() for g in torch.autograd.grad(terms.policy, critic, retain_graph=True))
    assert all(g.any() for g in torch.autograd.grad(terms.value, critic))


def test_a_reset_row_does_not_change_the_losses() -> None:
    batch = rollout(DISCRETE)
    module = A2C(DISCRETE, normalise_advantages=True, normalise_observations=True)
    before = loss_terms(module, batch)
    rewards = torch.where(batch.mask, batch.rewards, 1e6)
    actions = torch.where(batch.mask, batch.actions, 1 - batch.actions)
    after = loss_terms(module, batch._replace(rewards=rewards, actions=actions))
    for one, other in zip(before, after, strict=True):
        torch.testing.assert_close(one, other)


def test_statistics_are_updated_after_the_loss_with_valid_rows_only() -> None:
    batch = rollout(DISCRETE)
    module = A2C(DISCRETE, normalise_observations=True, normalise_returns=True)
    with torch.no_grad():
        normalised = module._normalised(batch.observations.flatten(0, 1))
        values = module.critic(normalised).unflatten(0, (6, 4))
    returns = (module.advantages(batch, values) + values[:-1])[batch.mask]
    assert module.normaliser is not None
    loss_terms(module, batch)  # does not update the statistics
    assert module.normaliser.count == 0
    module.training_step(batch)
    assert module.normaliser.count == batch.mask.sum()
    expected = batch.observations[:-1][batch.mask].double().mean(0)
    torch.testing.assert_close(module.normaliser.mean, expected)
    torch.testing.assert_close(module.return_scale, returns.std(correction=0))


def test_returns_are_normalised_and_values_are_not() -> None:
    """Rewards that are 100 times larger give the same losses, once σ is 100 times larger."""
    batch = rollout(DISCRETE)
    small, large = (A2C(DISCRETE, normalise_returns=True) for _ in range(2))
    large.load_state_dict(small.state_dict())
    for module, scale in ((small, 1.0), (large, 100.0)):
        module.return_statistics.variance.fill_(scale**2)
    bigger = batch._replace(rewards=batch.rewards * 100)
    for ours, theirs in zip(loss_terms(small, batch), loss_terms(large, bigger), strict=True):
        torch.testing.assert_close(ours, theirs)
    states = batch.observations[0]
    torch.testing.assert_close(small.values(states) * 100, large.values(states))


def test_evaluation_does_not_change_the_statistics() -> None:
    module = A2C(CONTINUOUS, normalise_observations=True, normalise_returns=True)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    module.act(torch.randn(4, 3))
    module.act(torch.randn(4, 3), Exploration(0, torch.Generator()))
    module.values(torch.randn(4, 3))
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())


def test_the_sample_is_not_clipped() -> None:
    module = A2C(CONTINUOUS, initial_log_std=1.0)
    actions = module.act(torch.zeros(100, 3), Exploration(0, torch.Generator()))
    assert actions.abs().max() > 2


def test_the_initial_policy_is_nearly_uniform() -> None:
    probabilities = A2C(DISCRETE).policy(torch.randn(100, 3)).probs
    torch.testing.assert_close(probabilities, torch.full((100, 2), 0.5), atol=0.02, rtol=0)


@pytest.mark.parametrize("shared_body", [False, True])
def test_the_critic_has_its_own_learning_rate(shared_body: bool) -> None:
    module = A2C(
        DISCRETE,
        shared_body=shared_body,
        critic_learning_rate=0.5,
        optimizer=lambda parameters: RMSpropTF(parameters, lr=0.1),
    )
    actor, critic = module.configure_optimizers().param_groups
    assert (actor["lr"], critic["lr"]) == (0.1, 0.5)
    assert len(critic["params"]) == (2 if shared_body else 6)
    both = {id(p) for p in [*actor["params"], *critic["params"]]}
    assert both == {id(p) for p in module.parameters()}


def test_a_checkpoint_rebuilds_the_agent_without_an_environment(tmp_path) -> None:
    data = RolloutDataModule("CartPole-v1", num_envs=2, rollout_length=2, updates_per_epoch=3)
    module = A2C(data.environment, normalise_observations=True, normalise_returns=True)
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=1,
        limit_val_batches=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, data)
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    rebuilt = A2C.load_from_checkpoint(tmp_path / "a.ckpt", weights_only=True)
    assert rebuilt.normaliser.count > 0
    observations: Tensor = torch.randn(6, 4)
    torch.testing.assert_close(rebuilt.values(observations), module.values(observations))


def test_cartpole_is_learned() -> None:
    """Within 40,000 steps the return is far above 20, about that of a random policy."""
    seed_everything(0, verbose=False)
    data = RolloutDataModule(
        "CartPole-v1", num_envs=64, rollout_length=16, updates_per_epoch=40, seed=0
    )
    module = A2C(
        data.environment, optimizer=lambda parameters: torch.optim.Adam(parameters, lr=7e-3)
    )
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        gradient_clip_val=0.5,
    )
    trainer.fit(module, data)
    assert trainer.callback_metrics["val/return"] > 100


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"gae_lambda": 1.5}, r"gae_lambda is 1.5: choose it in \[0, 1\]"),
        ({"n_step": 0}, "n_step is 0: make it at least 1"),
        ({"entropy_coefficient": -0.1}, "entropy_coefficient is -0.1"),
        ({"value_coefficient": -1.0}, "value_coefficient is -1.0"),
        ({"critic_learning_rate": -1.0}, "critic_learning_rate is -1.0"),
        ({"initial_log_std": 1000.0}, "initial_log_std is 1000.0"),
    ],
)
def test_invalid_settings_are_refused(arguments, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        A2C(DISCRETE, **arguments)
