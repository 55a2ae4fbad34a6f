"""REINFORCE's gradient on a Markov decision process that is small enough for an exact gradient."""

import functools
import itertools
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from loss_terms import loss_terms
from rl_lightning.experience import Rollout
from rl_lightning.modules.reinforce import Baseline, Reinforce, Returns
from rl_lightning.runtime.errors import ConfigurationError
from specs import spec

TWO_STATES = spec("TwoStates", (2,), num_observations=None, action_shape=(), num_actions=2)
GAMMA, HORIZON = 0.5, 4
# Probability to move to state 1 and reward, by state and action. Action 1 in state 1 ends.
TO_ONE = torch.tensor([[0.2, 0.7], [0.6, 0.5]])
REWARDS = torch.tensor([[1.0, 2.0], [3.0, 5.0]])


class PossibleEpisode(NamedTuple):
    """One of all possible episodes, with its probability under a policy."""

    states: list[int]
    actions: list[int]
    probability: float


def all_episodes(policy: Tensor) -> list[PossibleEpisode]:
    """Every episode from state 0 with its probability under `policy` [state, action]."""
    episodes = []
    unfinished = [PossibleEpisode([0], [], 1.0)]
    for t in range(HORIZON):
        grown = []
        for episode, action, following in itertools.product(unfinished, (0, 1), (0, 1)):
            state = episode.states[-1]
            to_one = TO_ONE[state, action].item()
            chance = policy[state, action].item() * (to_one if following else 1 - to_one)
            child = PossibleEpisode(
                [*episode.states, following],
                [*episode.actions, action],
                episode.probability * chance,
            )
            ended = (state, action) == (1, 1) or t == HORIZON - 1
            (episodes if ended else grown).append(child)
        unfinished = grown
    return episodes


def naive_returns(episode: PossibleEpisode, kind: Returns) -> list[float]:
    rewards = [REWARDS[s, a].item() for s, a in zip(episode.states, episode.actions, strict=False)]
    if kind == "trajectory":
        return [sum(rewards)] * len(rewards)
    gamma = GAMMA if kind == "discounted" else 1.0
    return [
        sum(gamma**k * reward for k, reward in enumerate(rewards[t:])) for t in range(len(rewards))
    ]


def as_rollout(episodes: list[PossibleEpisode]) -> Rollout:
    """A rollout with one episode in each environment copy, masked after its end."""
    copies = len(episodes)
    states = torch.zeros(HORIZON + 1, copies, dtype=torch.long)
    actions = torch.zeros(HORIZON, copies, dtype=torch.long)
    ends, mask = torch.zeros(2, HORIZON, copies, dtype=torch.bool)
    for n, episode in enumerate(episodes):
        length = len(episode.actions)
        states[: length + 1, n] = torch.tensor(episode.states)
        actions[:length, n] = torch.tensor(episode.actions)
        ends[length - 1, n] = True
        mask[:length, n] = True
    return Rollout(
        observations=torch.nn.functional.one_hot(states, 2).float(),
        actions=actions,
        # Rows after the end, which have 1 and 2 here as any other row, must not change the result.
        rewards=REWARDS[states[:-1], actions],
        discounts=torch.where(ends, 0.0, GAMMA),
        ends=ends,
        mask=mask,
    )


def make_module(kind: Returns, baseline: Baseline) -> Reinforce:
    """A linear policy that is not uniform, with a trained baseline."""
    module = Reinforce(TWO_STATES, hidden_sizes=(), returns=kind, baseline=baseline)
    with torch.no_grad():
        module.head.linear.weight.copy_(torch.tensor([[0.5, -0.6], [-0.5, 0.6]]))
    psi, visits = torch.zeros(2, 2)
    for episode in all_episodes(module.policy(torch.eye(2)).probs):
        for value, state in zip(naive_returns(episode, kind), episode.states, strict=False):
            psi[state] += episode.probability * value
            visits[state] += episode.probability
    if module.value_head is not None:
        module.value_head.weight.data.copy_((psi / visits).unsqueeze(0))
    if module.average is not None:
        module.average.update(psi.sum() / visits.sum(dim=0, keepdim=True))
    return module


def gradient(module: Reinforce, batch: Rollout) -> Tensor:
    """The module's estimate of the gradient of J."""
    weight = module.head.linear.weight
    (descent,) = torch.autograd.grad(loss_terms(module, batch).policy, weight)
    return -descent.flatten().double()


def exact_gradient(module: Reinforce, episodes: list[PossibleEpisode], kind: Returns) -> Tensor:
    """E[Σ_t ψ_t ∇ log π(a_t | s_t)], summed over all episodes by their probability."""
    log_policy = module.policy(torch.eye(2)).logits.double()
    objective = sum(
        episode.probability * psi * log_policy[state, action]
        for episode in episodes
        for psi, state, action in zip(
            naive_returns(episode, kind), episode.states, episode.actions, strict=False
        )
    )
    (ascent,) = torch.autograd.grad(objective, module.head.linear.weight)
    return ascent.flatten().double()


RUNGS: list[tuple[Returns, Baseline]] = [
    ("trajectory", "none"),
    ("reward_to_go", "none"),
    ("discounted", "none"),
    ("discounted", "moving_average"),
    ("discounted", "value"),
]


@functools.cache
def estimates(kind: Returns, baseline: Baseline, batches: int = 400, size: int = 50) -> Tensor:
    """Monte-Carlo estimates [batches, parameters] of the gradient."""
    module = make_module(kind, baseline)
    episodes = all_episodes(module.policy(torch.eye(2)).probs)
    probabilities = torch.tensor([episode.probability for episode in episodes])
    generator = torch.Generator().manual_seed(0)
    drawn = torch.multinomial(probabilities, batches * size, True, generator=generator)
    columns = as_rollout(episodes)
    return torch.stack(
        [
            gradient(module, Rollout(*(column[:, chosen] for column in columns[:6])))
            for chosen in drawn.split(size)
        ]
    )


@pytest.mark.parametrize(("kind", "baseline"), RUNGS)
def test_the_estimate_agrees_with_the_exact_gradient(kind: Returns, baseline: Baseline) -> None:
    module = make_module(kind, baseline)
    episodes = all_episodes(module.policy(torch.eye(2)).probs)
    assert sum(episode.probability for episode in episodes) == pytest.approx(1.0, abs=1e-5)
    exact = exact_gradient(module, episodes, kind)
    drawn = estimates(kind, baseline)
    error = drawn.std(0) / len(drawn) ** 0.5
    assert exact.abs().max() > 10 * error.max(), "the gradient is too small to detect a wrong sign"
    assert ((drawn.mean(0) - exact).abs() < 4 * error).all(), (drawn.mean(0), exact, error)


def test_the_undiscounted_estimates_ascend_the_expected_return() -> None:
    """∇J of J = Σ_τ p(τ) r(τ), by differentiating the probabilities."""
    module = make_module("trajectory", "none")
    policy = module.policy(torch.eye(2))
    episodes = all_episodes(policy.probs)
    by_kind = [exact_gradient(module, episodes, kind) for kind in ("trajectory", "reward_to_go")]
    step = 1e-3

    def expected_return() -> float:
        with torch.no_grad():
            probabilities = module.policy(torch.eye(2)).probs
        return sum(
            episode.probability * naive_returns(episode, "trajectory")[0]
            for episode in all_episodes(probabilities)
        )

    numeric = torch.zeros(4, dtype=torch.float64)
    flat = module.head.linear.weight.data.view(-1)
    for i in range(4):
        flat[i] += step
        above = expected_return()
        flat[i] -= 2 * step
        numeric[i] = (above - expected_return()) / (2 * step)
        flat[i] += step
    for exact in by_kind:
        torch.testing.assert_close(exact, numeric, rtol=2e-3, atol=2e-3)


def test_each_variance_reduction_lowers_the_variance() -> None:
    variances = [estimates(*rung).var(0).sum().item() for rung in RUNGS]
    assert variances == sorted(variances, reverse=True), variances


def test_discounting_changes_the_estimate() -> None:
    module = make_module("discounted", "none")
    episodes = all_episodes(module.policy(torch.eye(2)).probs)
    discounted, undiscounted = (
        exact_gradient(module, episodes, kind) for kind in ("discounted", "reward_to_go")
    )
    error = estimates("discounted", "value").std(0) / 20
    assert (discounted - undiscounted).abs().max() > 10 * error.max()


def test_the_moving_average_is_of_past_batches_only() -> None:
    module = Reinforce(TWO_STATES, hidden_sizes=(), baseline="moving_average")
    batch = as_rollout([PossibleEpisode([0, 1, 0, 0, 0], [1, 0, 0, 0], 1.0)])
    returns = module.returns(batch)[batch.mask]
    log_probs = module.policy(batch.observations[:-1][batch.mask]).log_prob(
        batch.actions[batch.mask]
    )
    for baseline in (0.0, returns.mean()):
        expected = -((returns - baseline) * log_probs).sum()
        before = module.average.norm.clone()
        torch.testing.assert_close(loss_terms(module, batch).policy, expected)
        assert module.average.norm == before  # the batch is used again
        module.training_step(batch)


def test_the_value_baseline_learns_only_from_its_own_loss() -> None:
    module = make_module("discounted", "value")
    losses = loss_terms(module, as_rollout([PossibleEpisode([0, 1, 0, 0, 0], [1, 0, 0, 0], 1.0)]))
    critic = [*module.value_head.parameters()]
    assert not any(g.any() for g in torch.autograd.grad(losses.policy, critic, retain_graph=True))
    assert all(g.any() for g in torch.autograd.grad(losses.value, critic))


def test_a_decay_out_of_range_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="baseline_decay"):
        Reinforce(TWO_STATES, baseline_decay=1.0)
