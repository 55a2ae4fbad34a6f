import copy
import math
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from lightning import Trainer, seed_everything

from rl_lightning.callbacks import TargetNetwork
from rl_lightning.datamodules import ReplayDataModule
from rl_lightning.experience import Exploration, Transitions
from rl_lightning.functional.maximum_entropy import squashed_log_probs
from rl_lightning.modules import SAC
from rl_lightning.runtime.checkpoints import check_checkpoint
from rl_lightning.runtime.errors import ConfigurationError
from specs import spec

BOX = spec(observation_shape=(3,), action_shape=(2,), bounds=2.0)
TEMPERATURE, MEAN, STD = 0.5, 0.6, 0.4


def reward_of(actions):
    """α log p(a) for a squashed Gaussian p, so that the soft-optimal policy is p itself."""
    unsquashed = torch.atanh(actions)
    like = torch.ones_like(unsquashed)
    return TEMPERATURE * squashed_log_probs(unsquashed, MEAN * like, math.log(STD) * like)


class BanditEnv(gym.Env[np.ndarray, np.ndarray]):
    """Has one state. An episode is one step with the reward `reward_of`."""

    observation_space = gym.spaces.Box(0, 1, (1,), np.float32)
    action_space = gym.spaces.Box(-1, 1, (1,), np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        return np.ones(1, np.float32), {}

    def step(self, action):
        inside = torch.from_numpy(action.clip(-0.9999, 0.9999)[None])
        return np.ones(1, np.float32), reward_of(inside).item(), True, False, {}


class EndlessBoxEnv(BanditEnv):
    """Has one state and the reward 1 at each step for ever."""

    def step(self, action):
        return np.ones(1, np.float32), 1.0, False, False, {}


class BoundsEnv(BanditEnv):
    """Its reward is minus the squared distance of the action from 2, with bounds −1 and 3."""

    action_space = gym.spaces.Box(-1, 3, (2, 3), np.float32)

    def step(self, action):
        assert self.action_space.contains(action)
        return np.ones(1, np.float32), -float(np.square(action - 2).mean()), True, False, {}


for name, kind, limit in (
    ("Bandit", BanditEnv, None),
    ("EndlessBox", EndlessBoxEnv, 5),
    ("Bounds", BoundsEnv, None),
):
    gym.register(f"sac/{name}-v0", kind, max_episode_steps=limit, disable_env_checker=True)


def adam(parameters):
    return torch.optim.Adam(parameters, lr=5e-3)


def train(data, agent, **trainer):
    settings = {
        "accelerator": "cpu",
        "max_epochs": 1,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "limit_val_batches": 0,
    }
    trainer = Trainer(**{**settings, **trainer})
    trainer.fit(agent, datamodule=data)
    return trainer


def replay(name, updates, **options):
    return ReplayDataModule(f"sac/{name}-v0", num_envs=8, env_steps_per_update=8, batch_size=64,
                            warmup_env_steps=200, updates_per_epoch=updates, **options)  # fmt: skip


def agent_with_trainer(environment=BOX, **options):
    torch.manual_seed(0)
    agent = SAC(environment, hidden_sizes=(8,), **options)
    agent._trainer = Trainer(logger=False, enable_checkpointing=False, log_every_n_steps=0)
    for parameter in agent.target_q_functions.parameters():
        parameter.add_(torch.randn_like(parameter) / 10)
    return agent


def batch_of(size=6):
    return Transitions(
        torch.randn(size, 3),
        4 * torch.rand(size, 2) - 2,
        torch.randn(size),
        torch.rand(size),
        torch.randn(size, 3),
    )


def drawn(agent, observations, generator):
    """Actions and log-probabilities of the policy, with bounds of ±1, by hand."""
    mean, log_std = agent.head(agent.actor(observations))
    unsquashed = mean + log_std.exp() * torch.empty_like(mean).normal_(generator=generator)
    return unsquashed.tanh(), squashed_log_probs(unsquashed, mean, log_std)


@pytest.mark.parametrize(("weighted", "number"), [(False, 2), (True, 2), (False, 3)])
def test_the_loss_against_a_loop_over_transitions(weighted, number):
    agent, batch = agent_with_trainer(temperature=0.3, num_q_functions=number), batch_of()
    if weighted:
        batch = batch._replace(importance_weights=torch.rand(6))
    generator = agent.random_stream("sac actions")
    next_actions, next_log_probs = drawn(agent, batch.next_observations, generator)
    actions, log_probs = drawn(agent, batch.observations, generator)
    losses, td_errors = [], []
    for i in range(6):
        rated = agent.target_q_functions(batch.next_observations[i, None], next_actions[i, None])
        value = rated.min() - 0.3 * next_log_probs[i]
        target = (batch.rewards[i] + batch.discounts[i] * value).detach()
        errors = target - agent.q_functions(batch.observations[i, None], batch.actions[i, None] / 2)
        weight = batch.importance_weights[i] if weighted else 1
        critic = weight * (errors**2).sum() / 2
        chosen = agent.q_functions(batch.observations[i, None], actions[i, None]).min()
        losses.append(critic + 0.3 * log_probs[i] - chosen)
        td_errors.append(errors.abs().mean())
    temperature = -math.log(0.3) * (log_probs.mean() - 2)
    outputs = agent.training_step(batch)
    torch.testing.assert_close(outputs["loss"], torch.stack(losses).mean() + temperature)
    torch.testing.assert_close(outputs["td_error"], torch.stack(td_errors))


def test_layer_normalisation_is_in_the_q_functions_and_their_targets_only():
    normalised, plain = (agent_with_trainer(layer_norm=on) for on in (True, False))
    assert normalised.state_dict().keys() == plain.state_dict().keys()
    # The scale of a layer's input vanishes in its normalised output, if there is no bias.
    for agent in (normalised, plain):
        for functions in (agent.q_functions, agent.target_q_functions):
            functions.layers[0].bias.data.zero_()
            once, twice = (functions(n * torch.ones(1, 3), n * torch.ones(1, 2)) for n in (1, 2))
            assert torch.allclose(once, twice, atol=1e-3) == (agent is normalised)
    observations = torch.randn(5, 3)
    torch.testing.assert_close(normalised.act(observations), plain.act(observations))


def test_a_checkpoint_without_layer_normalisation_is_refused(tmp_path):
    path = tmp_path / "plain.ckpt"
    plain, normalised = (agent_with_trainer(layer_norm=on) for on in (False, True))
    plain.trainer.strategy.connect(plain)
    plain.trainer.save_checkpoint(path)
    check_checkpoint(path, plain)
    with pytest.raises(ConfigurationError, match="layer_norm is False in the checkpoint and True"):
        check_checkpoint(path, normalised)


def gradients(agent, loss):
    agent.zero_grad()
    loss.backward(retain_graph=True)
    return {name for name, p in agent.named_parameters() if p.grad is not None and p.grad.any()}


def test_each_loss_reaches_its_own_parameters_only(monkeypatch):
    agent, batch = agent_with_trainer(), batch_of()
    names = [name for name, _ in agent.named_parameters()]
    own = {
        "policy": {name for name in names if name.startswith(("actor", "head"))},
        "q": {name for name in names if name.startswith("q_functions")},
        "temperature": {"log_temperature"},
    }
    assert set(names) - set().union(*own.values()) == {
        name for name in names if name.startswith("target_q_functions")
    }
    logged = {}
    monkeypatch.setattr("rl_lightning.modules.sac.should_log", lambda trainer: False)

    def keep(name, function):
        def kept(*arguments):
            logged[name] = function(*arguments)
            return logged[name]

        return kept

    for name in ("soft_policy_loss", "temperature_loss"):
        where = f"rl_lightning.modules.sac.{name}"
        function = getattr(__import__("rl_lightning.modules.sac", fromlist=[name]), name)
        monkeypatch.setattr(where, keep(name, function))
    whole = agent.training_step(batch)["loss"]
    rest = whole - logged["soft_policy_loss"] - logged["temperature_loss"]
    assert gradients(agent, logged["soft_policy_loss"]) == own["policy"]
    assert gradients(agent, logged["temperature_loss"]) == own["temperature"]
    assert gradients(agent, whole) == own["policy"] | own["q"] | own["temperature"]
    agent.zero_grad()
    rest.backward()
    for name, parameter in agent.named_parameters():
        if name not in own["q"] and parameter.grad is not None:
            assert parameter.grad.abs().max() < 1e-6  # the difference of equal gradients


def test_the_soft_optimal_policy_of_one_state_is_found():
    seed_everything(0)
    data = replay("Bandit", 1500)
    agent = SAC(
        data.environment,
        hidden_sizes=(64,),
        temperature=TEMPERATURE,
        learn_temperature=False,
        optimizer=adam,
    )
    train(data, agent)
    mean, log_std = agent.head(agent.actor(torch.ones(1, 1)))
    assert mean.item() == pytest.approx(MEAN, abs=0.08)
    assert log_std.exp().item() == pytest.approx(STD, abs=0.08)
    # Within two standard deviations, where the policy acts.
    actions = torch.linspace(MEAN - 2 * STD, MEAN + 2 * STD, 15).tanh().unsqueeze(1)
    q_values = agent.q_functions(torch.ones(15, 1), actions).detach().mean(0)
    torch.testing.assert_close(q_values, reward_of(actions), atol=0.2, rtol=0)
    assert agent.log_temperature.exp().item() == pytest.approx(TEMPERATURE)


@pytest.mark.parametrize("number", [1, 3])
def test_values_are_the_smallest_q_value_of_the_greedy_action(number):
    agent = agent_with_trainer(num_q_functions=number)
    with torch.no_grad():
        agent.head.linear.bias[:2] = 1.5  # tanh of the mean is far from the mean
    observations = torch.randn(5, 3)
    mean, _ = agent.head(agent.actor(observations))
    q_values = agent.q_functions(observations, mean.tanh())
    assert q_values.shape == (number, 5)
    torch.testing.assert_close(agent.values(observations), q_values.min(dim=0).values)
    torch.testing.assert_close(agent.act(observations), 2 * mean.tanh())


def test_steps_between_are_refused_with_a_learned_temperature():
    for n_step, learned in ((1, True), (3, False), (3, True)):
        data = replay("Bandit", 2, n_step=n_step)
        agent = SAC(data.environment, hidden_sizes=(8,), learn_temperature=learned)
        if n_step > 1 and learned:
            with pytest.raises(ConfigurationError, match="n_step is 3 and learn_temperature is"):
                train(data, agent)
        else:
            assert train(data, agent).global_step == 2


def test_the_entropy_reaches_its_target():
    seed_everything(0)
    data = replay("Bandit", 500)
    agent = SAC(data.environment, hidden_sizes=(64,), target_entropy=-0.5, optimizer=adam)
    train(data, agent)
    _, log_probs = agent.head.sample(agent.actor(torch.ones(4000, 1)), torch.Generator())
    assert -log_probs.mean().item() == pytest.approx(-0.5, abs=0.15)
    assert agent.log_temperature.exp().item() != pytest.approx(1, abs=0.05)


def value_of_endless_reward(handles_truncation):
    seed_everything(0)
    data = replay("EndlessBox", 400, gamma=0.9)
    if not handles_truncation:
        data.setup("fit")
        inner = data.collector.collect

        def collect(policy, num_steps):
            rollout = inner(policy, num_steps)
            return rollout._replace(discounts=rollout.discounts * ~rollout.ends)

        data.collector.collect = collect
    agent = SAC(data.environment, hidden_sizes=(16,), temperature=1e-4, learn_temperature=False,
                optimizer=adam)  # fmt: skip
    train(data, agent, callbacks=[TargetNetwork(1, tau=0.1)])
    return agent.values(torch.ones(1, 1)).item()


def test_values_bootstrap_through_a_time_limit():
    assert value_of_endless_reward(True) == pytest.approx(10, rel=0.05)
    assert value_of_endless_reward(False) < 6


def test_other_bounds_and_shapes():
    seed_everything(0)
    data = replay("Bounds", 400)
    agent = SAC(data.environment, hidden_sizes=(32,), optimizer=adam)
    exploration = Exploration(0, torch.Generator().manual_seed(0))
    actions = agent.act(torch.ones(5000, 1), exploration).detach()
    assert actions.shape == (5000, 2, 3)
    assert actions.min() == pytest.approx(-1, abs=0.2)
    assert actions.max() == pytest.approx(3, abs=0.2)
    scaled = agent.head.from_environment(actions)
    assert scaled.shape == (5000, 6)
    torch.testing.assert_close(agent.head.to_environment(scaled), actions)
    train(data, agent)
    torch.testing.assert_close(
        agent.act(torch.ones(1, 1)), torch.full((1, 2, 3), 2.0), atol=0.3, rtol=0
    )


def test_all_networks_use_normalised_observations():
    agent, batch = agent_with_trainer(normalise_observations=True), batch_of(50)
    plain = agent_with_trainer()
    plain.load_state_dict(agent.state_dict(), strict=False)
    batch = batch._replace(observations=5 + 3 * batch.observations)
    agent.training_step(batch)
    mean, std = batch.observations.double().mean(0), batch.observations.double().std(0)
    seen = [((o - mean) / std * (50 / 49) ** 0.5).float() for o in (batch[0], batch[4])]
    by_hand = batch._replace(observations=seen[0], next_observations=seen[1])
    torch.testing.assert_close(agent.act(batch.observations), plain.act(seen[0]))
    torch.testing.assert_close(agent.values(batch.observations), plain.values(seen[0]))
    expected = plain.training_step(by_hand)["loss"]
    torch.testing.assert_close(agent.training_step(batch)["loss"], expected)


def trained_parameters(agent):
    return [p for p in agent.parameters() if p.requires_grad]


@pytest.mark.parametrize(("rate", "rates"), [(None, [5e-3]), (1e-4, [1e-4, 5e-3])])
def test_the_actor_has_its_own_learning_rate(rate, rates):
    agent = agent_with_trainer(actor_learning_rate=rate, optimizer=adam)
    groups = agent.configure_optimizers().param_groups
    assert [group["lr"] for group in groups] == rates
    grouped = [p for group in groups for p in group["params"]]
    assert {id(p) for p in trained_parameters(agent)} == {id(p) for p in grouped}
    assert len(grouped) == len(trained_parameters(agent))
    actor = [*agent.actor.parameters(), *agent.head.parameters()]
    assert rate is None or [id(p) for p in groups[0]["params"]] == [id(p) for p in actor]


@pytest.mark.parametrize("learned", [True, False])
def test_actor_q_functions_and_temperature_are_clipped_apart(learned):
    agent = agent_with_trainer(learn_temperature=learned)
    for parameter in trained_parameters(agent):
        parameter.grad = torch.full_like(parameter, 100.0)
    agent.configure_gradient_clipping(agent.configure_optimizers(), 0.5, "norm")
    own = [[*agent.actor.parameters(), *agent.head.parameters()], [*agent.q_functions.parameters()]]
    for parameters in [*own, *([[agent.log_temperature]] if learned else [])]:
        whole = torch.cat([parameter.grad.flatten() for parameter in parameters])
        assert whole.norm().item() == pytest.approx(0.5, rel=1e-3)


@pytest.mark.parametrize("rate", [None, 1e-4])
def test_an_optimizer_state_of_three_groups_is_resumed(rate):
    """Earlier versions had a group for each of the actor, the Q-functions and the temperature."""
    earlier, agent = (agent_with_trainer(actor_learning_rate=rate, optimizer=adam)
                      for _ in range(2))  # fmt: skip
    actor = [*earlier.actor.parameters(), *earlier.head.parameters()]
    parts = [actor, [*earlier.q_functions.parameters()], [earlier.log_temperature]]
    before = torch.optim.Adam([{"params": part} for part in parts], lr=4e-3)
    before.param_groups[0]["lr"] = rate or 4e-3

    def step(module, optimizer, seed):
        generator = torch.Generator().manual_seed(seed)
        for parameter in trained_parameters(module):
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        optimizer.step()

    step(earlier, before, 1)
    agent.load_state_dict(earlier.state_dict())
    after = agent.configure_optimizers()
    after.load_state_dict(copy.deepcopy(before.state_dict()))
    for seed in (2, 3):
        step(earlier, before, seed)
        step(agent, after, seed)
    for one, other in zip(earlier.parameters(), agent.parameters(), strict=True):
        assert torch.equal(one, other)


def test_the_schedule_changes_the_rates_of_all_groups_after_each_epoch():
    def halved(optimizer):
        return torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.5)

    data = replay("Bandit", 2)
    agent = SAC(data.environment, hidden_sizes=(8,), actor_learning_rate=1e-3, optimizer=adam,
                lr_scheduler=halved)  # fmt: skip
    trainer = train(data, agent, max_epochs=2)
    rates = [group["lr"] for group in trainer.optimizers[0].param_groups]
    assert rates == [1e-3 / 4, 5e-3 / 4]


def test_targets_follow_with_the_papers_share_if_nothing_else_is_asked_for():
    data = replay("Bandit", 3)
    agent = SAC(data.environment, hidden_sizes=(8,), optimizer=adam)
    first = [p.clone() for p in agent.target_q_functions.parameters()]
    train(data, agent, max_steps=1)
    for old, target, online in zip(
        first, agent.target_q_functions.parameters(), agent.q_functions.parameters(), strict=True
    ):
        torch.testing.assert_close(target, 0.995 * old + 0.005 * online)


@pytest.mark.parametrize(
    ("environment", "options", "says"),
    [
        (spec(num_actions=2), {}, "discrete"),
        (spec(action_shape=(1,), bounds=math.inf), {}, "no bounds"),
        (BOX, {"temperature": 0.0}, "temperature is 0.0"),
        (BOX, {"num_q_functions": 0}, "num_q_functions is 0: make it at least 1"),
        (BOX, {"actor_learning_rate": -1.0}, "actor_learning_rate is -1.0"),
    ],
)
def test_what_cannot_be_learned_is_refused(environment, options, says):
    with pytest.raises(ConfigurationError, match=says):
        SAC(environment, **options)
