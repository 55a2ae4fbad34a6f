import copy
from types import SimpleNamespace

import pytest
import torch
from lightning import Trainer, seed_everything

from rl_lightning.callbacks import TargetNetwork
from rl_lightning.datamodules import ReplayDataModule
from rl_lightning.experience import Exploration, Transitions
from rl_lightning.modules import DQN
from rl_lightning.runtime.errors import ConfigurationError
from specs import spec

FOUR_ACTIONS = spec(observation_shape=(3,), num_actions=4)


def adam(parameters):
    return torch.optim.Adam(parameters, lr=5e-3)


def train(data, agent, epochs, **trainer):
    settings = {
        "accelerator": "cpu",
        "max_epochs": epochs,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
        "callbacks": [TargetNetwork(every_n_updates=20)],
    }
    trainer = Trainer(**{**settings, **trainer})
    trainer.fit(agent, datamodule=data)
    return trainer


def batch_of(size=6, shape=(3,), num_actions=4):
    return Transitions(
        torch.randn(size, *shape),
        torch.randint(num_actions, (size,)),
        torch.randn(size),
        torch.rand(size),
        torch.randn(size, *shape),
    )


@pytest.mark.parametrize("double", [False, True])
@pytest.mark.parametrize("loss", ["squared", "huber"])
def test_loss_against_a_loop_over_transitions(double, loss):
    torch.manual_seed(0)
    agent = DQN(FOUR_ACTIONS, double=double, loss=loss)
    agent._trainer = Trainer(logger=False, enable_checkpointing=False, log_every_n_steps=0)
    for parameter in agent.target_network.parameters():
        parameter.add_(torch.randn_like(parameter) / 10)
    batch, expected = batch_of(), []
    for obs, action, reward, discount, next_obs in zip(*batch[:5], strict=True):
        rated = agent.target_network(next_obs[None])[0]
        chooses = agent.q_network(next_obs[None])[0] if double else rated
        target = reward + discount * rated[chooses.argmax()]
        error = (target - agent.q_network(obs[None])[0, action]).abs()
        huber = error - 0.5 if error > 1 else error**2 / 2
        expected.append(error**2 if loss == "squared" else huber)
    torch.testing.assert_close(agent.training_step(batch)["loss"], torch.stack(expected).mean())
    weighted = batch._replace(importance_weights=torch.rand(6))
    expected = (torch.stack(expected) * weighted.importance_weights).mean()
    torch.testing.assert_close(agent.training_step(weighted)["loss"], expected)


def test_all_networks_use_normalised_observations_and_only_minibatches_update_the_statistics():
    torch.manual_seed(0)
    raw = batch_of(size=50)
    agents = [DQN(FOUR_ACTIONS, double=True, normalise_observations=on) for on in (True, False)]
    normalised, plain = agents
    plain.load_state_dict(normalised.state_dict(), strict=False)
    for agent in agents:
        agent._trainer = Trainer(logger=False, enable_checkpointing=False, log_every_n_steps=0)
    shifted = raw._replace(observations=5 + 3 * raw.observations)
    normalised.training_step(shifted)
    mean, std = shifted.observations.double().mean(0), shifted.observations.double().std(0)
    torch.testing.assert_close(normalised.normaliser.mean, mean)

    seen = [((o - mean) / std * (50 / 49) ** 0.5).float() for o in (shifted[0], shifted[4])]
    by_hand = raw._replace(observations=seen[0], next_observations=seen[1])
    expected = plain.training_step(by_hand)["loss"]
    torch.testing.assert_close(normalised.act(shifted.observations), plain.act(seen[0]))
    torch.testing.assert_close(normalised.values(shifted.observations), plain.values(seen[0]))
    assert normalised.normaliser.count == 50, "act and values must not update the statistics"
    torch.testing.assert_close(normalised.training_step(shifted)["loss"], expected)


def test_no_gradient_reaches_the_target():
    agent = DQN(FOUR_ACTIONS, double=True)
    agent._trainer = Trainer(logger=False, enable_checkpointing=False, log_every_n_steps=0)
    batch = batch_of()._replace(observations=torch.zeros(6, 3))
    agent.training_step(batch)["loss"].backward()
    # With zero observations, only a gradient through the target could reach the first layer.
    assert not agent.q_network.body[1].weight.grad.any()
    assert all(p.grad is None for p in agent.target_network.parameters())


def test_epsilon_counts_environment_steps():
    agent = DQN(FOUR_ACTIONS, epsilon_start=1.0, epsilon_end=0.1, epsilon_env_steps=100)
    for env_steps, epsilon in ((0, 1.0), (50, 0.55), (100, 0.1), (10**9, 0.1)):
        agent.act(torch.zeros(2, 3), Exploration(env_steps, torch.Generator()))
        assert agent.epsilon == pytest.approx(epsilon)


def test_each_environment_copy_explores_independently():
    agent = DQN(FOUR_ACTIONS, epsilon_start=0.5, epsilon_end=0.5)
    greedy = agent.act(torch.zeros(1, 3)).item()
    actions = agent.act(torch.zeros(4000, 3), Exploration(0, torch.Generator().manual_seed(0)))
    assert (actions == greedy).float().mean().item() == pytest.approx(0.5 + 0.5 / 4, abs=0.03)
    assert torch.unique(actions).numel() == 4


def test_target_network_is_copied_every_n_updates_and_frozen():
    data = ReplayDataModule("test/Signal-v0", num_envs=2, env_steps_per_update=2,
                            warmup_env_steps=40, updates_per_epoch=30)  # fmt: skip
    agent = DQN(data.environment, optimizer=adam)
    first = copy.deepcopy(agent.q_network.state_dict())
    train(data, agent, 1, max_steps=19, limit_val_batches=0)
    assert all(torch.equal(first[k], v) for k, v in agent.target_network.state_dict().items())
    train(data, agent, 1, max_steps=1, limit_val_batches=0, callbacks=[TargetNetwork(1)])
    online, target = agent.q_network.state_dict(), agent.target_network.state_dict()
    assert all(torch.equal(online[k], target[k]) for k in online)
    assert not any(p.requires_grad for p in agent.target_network.parameters())


def test_the_target_network_stays_for_many_updates_if_nothing_else_is_asked_for():
    data = ReplayDataModule("test/Signal-v0", num_envs=2, env_steps_per_update=2,
                            warmup_env_steps=40, updates_per_epoch=3)  # fmt: skip
    agent = DQN(data.environment, optimizer=adam)
    first = copy.deepcopy(agent.q_network.state_dict())
    trainer = train(data, agent, 1, limit_val_batches=0, callbacks=[])
    assert any(isinstance(each, TargetNetwork) for each in trainer.callbacks)
    assert all(torch.equal(first[k], v) for k, v in agent.target_network.state_dict().items())
    assert agent.target_networks()[1:] == (1_000, 1.0)


def test_polyak_average():
    agent = DQN(FOUR_ACTIONS)
    online = [p.add_(1) for p in [q.detach() for q in agent.q_network.parameters()]]
    before = [p.clone() for p in agent.target_network.parameters()]
    callback = TargetNetwork(1, tau=0.25)
    callback.on_train_start(SimpleNamespace(global_step=0), agent)
    callback.on_train_batch_end(SimpleNamespace(global_step=1), agent, None, None, 0)
    for old, new, theta in zip(before, agent.target_network.parameters(), online, strict=True):
        torch.testing.assert_close(new, 0.75 * old + 0.25 * theta)


@pytest.mark.parametrize("dueling", [False, True])
def test_dqn_learns(dueling):
    seed_everything(0)
    data = ReplayDataModule("test/Signal-v0", num_envs=8, env_steps_per_update=8, batch_size=64,
                            warmup_env_steps=100, updates_per_epoch=150, gamma=0.9)  # fmt: skip
    agent = DQN(data.environment, hidden_sizes=(32,), dueling=dueling, epsilon_env_steps=500,
                optimizer=adam)  # fmt: skip
    trainer = train(data, agent, 1)
    assert trainer.callback_metrics["val/return"] == 10
    assert trainer.test(agent, data, verbose=False)[0]["test/return_min"] == 10


def value_of_endless_reward(handles_truncation):
    seed_everything(0)
    data = ReplayDataModule("test/Endless-v0", num_envs=4, env_steps_per_update=4, batch_size=64,
                            warmup_env_steps=100, updates_per_epoch=400, gamma=0.9)  # fmt: skip
    if not handles_truncation:
        data.setup("fit")
        inner = data.collector.collect

        def collect(policy, num_steps):
            rollout = inner(policy, num_steps)
            return rollout._replace(discounts=rollout.discounts * ~rollout.ends)

        data.collector.collect = collect
    agent = DQN(data.environment, hidden_sizes=(16,), optimizer=adam)
    train(data, agent, 1, limit_val_batches=0, callbacks=[TargetNetwork(1, tau=0.1)])
    return agent.values(torch.ones(1, 1)).item()


def test_values_bootstrap_through_a_time_limit():
    assert value_of_endless_reward(True) == pytest.approx(10, rel=0.05)
    assert value_of_endless_reward(False) < 6


def test_validation_does_not_change_training():
    def weights(**trainer):
        seed_everything(0)
        data = ReplayDataModule("CartPole-v1", num_envs=4, env_steps_per_update=4,
                                warmup_env_steps=100, updates_per_epoch=20,
                                eval_episodes=4, num_eval_envs=2)  # fmt: skip
        agent = DQN(data.environment, optimizer=adam)
        train(data, agent, 3, **trainer)
        return agent.q_network.state_dict()

    with_validation, without = weights(), weights(limit_val_batches=0)
    assert all(torch.equal(without[name], value) for name, value in with_validation.items())


def test_a_checkpoint_is_plain_and_rebuilds_the_network_without_an_environment(tmp_path):
    data = ReplayDataModule("CartPole-v1", num_envs=4, env_steps_per_update=4, updates_per_epoch=5)
    agent = DQN(data.environment, hidden_sizes=(7,), dueling=True, optimizer=adam)
    trainer = train(data, agent, 1, limit_val_batches=0)
    trainer.save_checkpoint(tmp_path / "agent.ckpt")
    saved = torch.load(tmp_path / "agent.ckpt", weights_only=True)
    assert {name.split(".")[0] for name in saved["state_dict"]} == {"q_network", "target_network"}
    rebuilt = DQN.load_from_checkpoint(tmp_path / "agent.ckpt", weights_only=True)
    observations = torch.randn(5, 4)
    torch.testing.assert_close(rebuilt.q_network(observations), agent.q_network(observations))


@pytest.mark.parametrize("network", ["atari_2013", "nature"])
def test_atari_networks_accept_bytes(network):
    agent = DQN(
        spec(observation_shape=(4, 84, 84), observation_dtype="uint8", num_actions=6),
        network=network,
    )
    frames = torch.randint(256, (2, 4, 84, 84), dtype=torch.uint8)
    q_values = agent.q_network(frames)
    assert q_values.shape == (2, 6)
    expected = {"atari_2013": 677_686, "nature": 1_687_206}[network]
    assert sum(p.numel() for p in agent.q_network.parameters()) == expected
    scale = agent.q_network.body[0]
    torch.testing.assert_close(scale(frames), frames.float() / 255)
    torch.testing.assert_close(scale(frames.float()), frames.float())  # floats, normalised already


def test_dueling_advantages_have_mean_zero():
    agent = DQN(FOUR_ACTIONS, dueling=True)
    observations = torch.randn(5, 3)
    values = agent.q_network.value(agent.q_network.body(observations)).squeeze(1)
    torch.testing.assert_close(agent.q_network(observations).mean(dim=1), values)


@pytest.mark.parametrize(
    ("environment", "settings", "said"),
    [
        (spec(action_shape=(2,)), {}, "continuous"),
        (FOUR_ACTIONS, {"network": "nature"}, "use network mlp"),
        (FOUR_ACTIONS, {"hidden_sizes": (8, 0)}, "hidden_sizes"),
        (FOUR_ACTIONS, {"epsilon_start": 2.0}, r"epsilon_start is 2.0: choose it in \[0, 1\]"),
        (FOUR_ACTIONS, {"epsilon_end": -0.1}, "epsilon_end is -0.1"),
        (FOUR_ACTIONS, {"epsilon_env_steps": -1}, "epsilon_env_steps is -1"),
    ],
)
def test_invalid_settings_are_refused_in_one_line(environment, settings, said):
    with pytest.raises(ConfigurationError, match=said) as error:
        DQN(environment, **settings)
    assert "\n" not in str(error.value)
