import torch

from rl_lightning.functional.exploration import epsilon_greedy


def test_each_environment_copy_draws_independently() -> None:
    rng = torch.Generator().manual_seed(0)
    greedy = torch.zeros(100_000, dtype=torch.int64)
    actions = epsilon_greedy(greedy, num_actions=4, epsilon=0.4, rng=rng)
    shares = actions.bincount(minlength=4) / len(actions)
    # Each other action has the probability ε / A, because a random action may be the greedy one.
    torch.testing.assert_close(shares, torch.tensor([0.7, 0.1, 0.1, 0.1]), atol=0.01, rtol=0)


def test_epsilon_zero_is_greedy_and_one_is_random() -> None:
    rng = torch.Generator().manual_seed(0)
    greedy = torch.full((1000,), 2)
    assert (epsilon_greedy(greedy, 3, 0.0, rng) == 2).all()
    assert epsilon_greedy(greedy, 3, 1.0, rng).unique().tolist() == [0, 1, 2]
