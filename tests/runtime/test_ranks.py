"""Functions on several ranks, in processes that are forked from this one to start fast."""

import math
import multiprocessing

import gymnasium as gym
import numpy as np
import pytest
import torch
from torch import distributed as dist

from loss_terms import with_trainer
from rl_lightning.experience import Minibatch, Rollout, Transitions
from rl_lightning.functional.maximum_entropy import squashed_log_probs
from rl_lightning.functional.returns import masked_moments, standardised
from rl_lightning.interaction.collector import Collector
from rl_lightning.interaction.evaluation import evaluate
from rl_lightning.modules import A2C, DQN, PPO, PQN, SAC, RecurrentAttentionModel, Reinforce
from rl_lightning.modules.agent import EpisodeStatistics
from rl_lightning.networks.normalisation import RunningStatistics, standardised_over_ranks
from rl_lightning.networks.recurrent_attention import RAMNetworkOptions
from rl_lightning.replay.priorities import Priorities
from rl_lightning.replay.ring import ReplayRing
from rl_lightning.runtime.ranks import (
    count_per_rank,
    from_all_ranks,
    mean_over_ranks,
    moments_over_ranks,
    sum_over_ranks,
)
from rl_lightning.runtime.seeding import stream_seed, torch_stream
from specs import spec

CARTPOLE = spec("CartPole-v1", (4,), num_observations=None, action_shape=(), num_actions=2)


def _rank(rank, world_size, port_file, function, results):
    dist.init_process_group(
        "gloo", init_method=f"file://{port_file}", rank=rank, world_size=world_size
    )
    results.put((rank, function(rank)))
    dist.barrier()
    dist.destroy_process_group()


@pytest.fixture
def on_ranks(tmp_path):
    """Call a function of the rank in several processes and return the results."""

    def run(world_size, function):
        context = multiprocessing.get_context("fork")
        results = context.Queue()
        arguments = [
            (rank, world_size, tmp_path / f"port{world_size}", function, results)
            for rank in range(world_size)
        ]
        processes = [context.Process(target=_rank, args=each) for each in arguments]
        for process in processes:
            process.start()
        answers = dict(results.get(timeout=120) for _ in processes)
        for process in processes:
            process.join(60)
            assert process.exitcode == 0
        return [answers[rank] for rank in range(world_size)]

    return run


class Undecided:
    """A policy whose actions are random numbers of its exploration stream."""

    device = torch.device("cpu")

    def act(self, observations, exploration=None):
        if exploration is None:
            return (observations[:, 2] > 0).long()
        return torch.randint(2, (len(observations),), generator=exploration.generator)


def rollout(rank, steps=8, whole=False):
    """The rollout of one rank. Its episodes end at other steps than those of other ranks."""
    collector = Collector(gym.make_vec("CartPole-v1", num_envs=2), gamma=0.9, world_size=2)
    collector.generator = torch_stream(1, rank=rank, stream="exploration")
    seed = stream_seed(1, rank=rank, stream="environments")
    if whole:
        return collector.collect_episodes(Undecided(), 1, seed)
    collector.reset(seed)
    return collector.collect(Undecided(), steps)


@pytest.mark.parametrize("world_size", [2, 4])
def test_ranks_play_episodes_of_their_own_which_repeat_from_run_to_run(on_ranks, world_size):
    first, again = (
        on_ranks(world_size, lambda rank: rollout(rank).observations.numpy()) for _ in range(2)
    )
    for rank in range(world_size):
        assert (first[rank] == again[rank]).all()
        for other in range(rank):
            # No environment copy of one rank equals an environment copy of another.
            assert not (first[rank][0][:, None] == first[other][0][None]).all(-1).any()


def test_sums_means_and_objects(on_ranks):
    def answer(rank):
        value = torch.tensor([rank + 1.0])
        return sum_over_ranks(value).item(), mean_over_ranks(value).item(), from_all_ranks(rank)

    assert on_ranks(2, answer) == [(3.0, 1.5, [0, 1])] * 2
    assert sum_over_ranks(torch.tensor(3.0)) == 3
    assert from_all_ranks("alone") == ["alone"]


def joined(batches):
    """One rollout of the environment copies of both ranks, padded with masked rows."""
    steps = max(len(batch.rewards) for batch in batches)

    def padded(batch):
        missing = steps - len(batch.rewards)
        rows = [torch.cat([c, c.new_zeros(missing, *c.shape[1:])]) for c in batch[:6]]
        return Rollout(*rows)

    columns = zip(*(padded(batch)[:6] for batch in batches), strict=True)
    return Rollout(*(torch.cat(column, dim=1) for column in columns))


def gradients(agent, loss):
    loss.backward()
    parameters = [p for p in agent.parameters() if p.requires_grad]
    return torch.cat(
        [torch.zeros(p.numel()) if p.grad is None else p.grad.flatten() for p in parameters]
    )


def a2c(**options):
    torch.manual_seed(0)
    return with_trainer(A2C(CARTPOLE, hidden_sizes=(8,), entropy_coefficient=0.1, **options))


def reinforce(**options):
    torch.manual_seed(0)
    return with_trainer(Reinforce(CARTPOLE, hidden_sizes=(8,), entropy_coefficient=0.1, **options))


@pytest.mark.parametrize(("make", "whole"), [(a2c, False), (reinforce, True)])
@pytest.mark.parametrize("normalised", [False, True])
def test_two_ranks_gradient_is_that_of_one_process_with_both_batches(
    on_ranks, make, whole, normalised
):
    batches = [rollout(rank, steps=40, whole=whole) for rank in range(2)]
    assert batches[0].mask.sum() != batches[1].mask.sum()  # a mean of means would be wrong

    def of_rank(rank):
        agent = make(normalise_advantages=normalised)
        return mean_over_ranks(gradients(agent, agent.training_step(batches[rank]))).numpy()

    agent = make(normalise_advantages=normalised)
    alone = gradients(agent, agent.training_step(joined(batches)))
    assert alone.abs().max() > 1e-3
    largest = alone.abs().max().item()  # the gradient of sums of unscaled rewards is large
    for of_both in on_ranks(2, of_rank):
        torch.testing.assert_close(
            torch.from_numpy(of_both), alone, atol=1e-6 * max(1, largest), rtol=0
        )


def dqn():
    torch.manual_seed(0)
    return with_trainer(DQN(CARTPOLE, hidden_sizes=(8,), double=True))


def minibatch(rank):
    draws = torch.Generator().manual_seed(rank)
    return Transitions(
        observations=torch.randn(6, 4, generator=draws),
        actions=torch.randint(2, (6,), generator=draws),
        rewards=torch.randn(6, generator=draws),
        discounts=torch.full((6,), 0.9),
        next_observations=torch.randn(6, 4, generator=draws),
        importance_weights=torch.rand(6, generator=draws),
    )


def ram():
    torch.manual_seed(0)
    return with_trainer(
        RecurrentAttentionModel(
            (1, 12, 12), 3, RAMNetworkOptions(num_glimpses=3, glimpse_size=4, hidden_size=8)
        )
    )


def images(rank):
    """Images, labels and location offsets for each rollout."""
    draws = torch.Generator().manual_seed(rank)
    return (
        torch.rand(6, 1, 12, 12, generator=draws),
        torch.randint(3, (6,), generator=draws),
        0.1 * torch.randn(6, 3, 2, generator=draws),
    )


def ram_loss(agent, batch):
    pictures, labels, offsets = batch
    agent.network.draw_offsets = lambda *_: offsets.transpose(0, 1)
    loss, _, figures = agent.training_loss(pictures, labels)
    assert figures["reinforce_loss"] != 0
    return loss


@pytest.mark.parametrize(
    ("make", "batch_of", "loss"),
    [
        (dqn, minibatch, lambda agent, batch: agent.training_step(batch)["loss"]),
        (ram, images, ram_loss),
    ],
)
def test_two_ranks_gradient_is_that_of_one_process_with_both_minibatches(
    on_ranks, make, batch_of, loss
):
    def of_rank(rank):
        agent = make()
        return mean_over_ranks(gradients(agent, loss(agent, batch_of(rank)))).numpy()

    parts = [[c for c in batch_of(rank) if isinstance(c, torch.Tensor)] for rank in range(2)]
    both = [torch.cat(columns) for columns in zip(*parts, strict=True)]
    agent = make()
    alone = gradients(agent, loss(agent, Transitions(*both) if make is dqn else both))
    assert alone.abs().max() > 1e-3
    for of_both in on_ranks(2, of_rank):
        torch.testing.assert_close(torch.from_numpy(of_both), alone, atol=1e-6, rtol=0)


def random_steps(ranks):
    """A minibatch for both learners, joined over ranks, which have different numbers of steps."""
    draws = [torch.Generator().manual_seed(rank) for rank in ranks]
    sizes = [5 + 4 * rank for rank in ranks]

    def column(make):
        return torch.cat([make(n, each) for n, each in zip(sizes, draws, strict=True)])

    def normal():
        return column(lambda n, generator: torch.randn(n, generator=generator))

    return Minibatch(
        column(lambda n, generator: torch.randn(n, 4, generator=generator)),
        column(lambda n, generator: torch.randint(2, (n,), generator=generator)),
        {
            "log_probs": -normal().abs(),
            **{name: normal() for name in ("advantages", "returns", "targets")},
        },
    )


@pytest.mark.parametrize("kind", [PPO, PQN])
def test_two_ranks_gradient_is_that_of_one_process_with_both_ranks_steps(on_ranks, kind):
    def gradient(ranks):
        torch.manual_seed(0)
        agent = with_trainer(kind(CARTPOLE, hidden_sizes=(8,)))
        return gradients(agent, agent.training_step(random_steps(ranks)))

    alone = gradient((0, 1))
    assert alone.abs().max() > 1e-3
    for of_both in on_ranks(2, lambda rank: mean_over_ranks(gradient((rank,))).numpy()):
        torch.testing.assert_close(torch.from_numpy(of_both), alone, atol=1e-6, rtol=0)


def noise(rank):
    """Noise of the next actions and of the actions of `sac_minibatch`."""
    return torch.randn(2, 6, 2, generator=torch.Generator().manual_seed(100 + rank))


def sac_minibatch(rank):
    draws = torch.Generator().manual_seed(rank)
    return minibatch(rank)._replace(actions=2 * torch.rand(6, 2, generator=draws) - 1)


def sac_loss(batch, draws):
    """SAC's loss with the given noise, and the agent, whose temperature is learned."""
    torch.manual_seed(0)
    agent = with_trainer(SAC(spec(action_shape=(2,)), hidden_sizes=(8,)))
    remaining = iter(draws)

    def sample(features, generator):
        mean, log_std = agent.head(features)
        unsquashed = mean + log_std.exp() * next(remaining)
        return unsquashed.tanh(), squashed_log_probs(unsquashed, mean, log_std)

    agent.head.sample = sample
    return agent, agent.training_step(batch)["loss"]


def test_two_ranks_gradient_of_sac_is_that_of_one_process_with_both_minibatches(on_ranks):
    def of_rank(rank):
        return mean_over_ranks(gradients(*sac_loss(sac_minibatch(rank), noise(rank)))).numpy()

    columns = zip(*(sac_minibatch(rank)[:6] for rank in range(2)), strict=True)
    both = Transitions(*(torch.cat(column) for column in columns))
    agent, loss = sac_loss(both, torch.cat([noise(0), noise(1)], dim=1))
    alone = gradients(agent, loss)
    assert agent.log_temperature.grad.abs() > 1e-3
    for of_both in on_ranks(2, of_rank):
        torch.testing.assert_close(torch.from_numpy(of_both), alone, atol=1e-6, rtol=0)


def test_count_per_rank_is_the_mean_of_the_ranks_counts(on_ranks):
    mask = torch.tensor([True, False, True])
    assert count_per_rank(mask) == 2
    assert on_ranks(2, lambda rank: count_per_rank(mask[: 1 + 2 * rank]).item()) == [1.5, 1.5]


def test_standardised_over_all_ranks(on_ranks):
    values = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    mask = torch.ones(6, 4, dtype=torch.bool)
    mask[2:, 0] = False
    alone = standardised(values, *masked_moments(values, mask))

    def of_rank(rank):
        columns = slice(2 * rank, 2 * rank + 2)
        return standardised_over_ranks(values[:, columns], mask[:, columns]).numpy()

    halves = on_ranks(2, of_rank)
    torch.testing.assert_close(torch.from_numpy(halves[0]), alone[:, :2])
    torch.testing.assert_close(torch.from_numpy(halves[1]), alone[:, 2:])


def test_equal_values_on_all_ranks_have_a_variance_of_zero_and_not_below(on_ranks):
    # With rounding, a mean of squares can be smaller than the square of the mean.
    means = torch.randn(200, generator=torch.Generator().manual_seed(0))

    def of_rank(rank):
        counts = torch.full_like(means, 211 if rank else 290)
        mean, variance = moments_over_ranks(counts, means, torch.zeros_like(means))
        return mean.numpy(), variance.numpy()

    for mean, variance in on_ranks(2, of_rank):
        torch.testing.assert_close(torch.from_numpy(mean), means)
        assert variance.min() == 0
        assert variance.max() < 1e-12


def test_statistics_are_those_of_all_ranks_values(on_ranks):
    values = torch.randn(9, 3, generator=torch.Generator().manual_seed(0))
    parts = (values[:2], values[2:])

    def of_rank(rank):
        statistics = RunningStatistics((3,))
        statistics.update(parts[rank])
        return statistics.mean.numpy(), statistics.variance.numpy()

    for mean, variance in on_ranks(2, of_rank):
        torch.testing.assert_close(torch.from_numpy(mean), values.double().mean(0))
        torch.testing.assert_close(torch.from_numpy(variance), values.double().var(0, correction=0))


@pytest.mark.parametrize("world_size", [2, 4])
def test_evaluation_by_several_ranks_equals_that_of_one_process(on_ranks, world_size):
    seeds = [11, 22, 33]

    def evaluated(rank=0, world_size=1):
        envs = gym.make_vec("CartPole-v1", num_envs=3)
        statistics = EpisodeStatistics()
        batches = 0
        for episodes in evaluate(envs, Undecided(), seeds, rank, world_size):
            statistics.update(episodes)
            batches += 1
        assert batches == math.ceil(len(seeds) / world_size)
        return batches, {name: float(value) for name, value in statistics.compute().items()}

    _, alone = evaluated()
    assert alone["episodes"] == 9
    assert alone["return_std"] > 0
    answers = on_ranks(world_size, lambda rank: evaluated(rank, world_size))
    assert [metrics for _, metrics in answers] == [alone] * world_size
    assert len({batches for batches, _ in answers}) == 1


def test_importance_weights_of_two_ranks_are_those_of_one_batch(on_ranks):
    def drawn(rank):
        ring = ReplayRing(capacity=40, num_envs=1)
        row = torch.zeros(41, 1)
        here = row[:-1]
        ring.extend(Rollout(row, here.long(), here, here, here.bool(), ~here.bool()))
        priorities = Priorities(ring, exponent=0.7)
        rng = np.random.default_rng(rank)
        priorities.draw(400, rng, 0.5)
        errors = rng.exponential(1 + 9 * rank, 40).astype(np.float32)
        priorities._tree[np.arange(40)] = probabilities = errors**0.7
        priorities._drawn = None
        rows, _, weights = priorities.draw(64, rng, 0.5)
        return (probabilities / probabilities.sum())[rows % 41], weights

    ranks = on_ranks(2, drawn)
    expected = np.concatenate([chances for chances, _ in ranks]).astype(np.float64) ** -0.5
    weights = np.concatenate([each for _, each in ranks])
    np.testing.assert_allclose(weights, expected / expected.max(), rtol=1e-5)
    assert sorted(each.max() == 1 for _, each in ranks) == [False, True]
