"""Losses of RAM's locator and baseline (Mnih et al. 2014, equation 2)."""

import torch
from torch import Tensor
from torch.nn import functional as F


def gaussian_log_prob(samples: Tensor, means: Tensor, std: Tensor | float) -> Tensor:
    """log N(samples; means, std² I), summed over the last dimension.

    Args:
        samples: [..., 2]; no gradient flows through them, because REINFORCE has no
            reparameterisation.
        means: [..., 2].
        std: σ.

    Returns:
        Log-probabilities [...].
    """
    normal = torch.distributions.Normal(means, std, validate_args=False)
    return normal.log_prob(samples.detach()).sum(-1)


def reinforce_loss(log_probs: Tensor, rewards: Tensor, baselines: Tensor) -> Tensor:
    """−1/N Σ_n Σ_t log π(l_t^n) (R^n − b_t^n), whose gradient is that of equation 2.

    Args:
        log_probs: [T − 1, N].
        rewards: [N], the return of each rollout, whose only reward is at the end.
        baselines: [T − 1, N]; no gradient flows into them.

    Returns:
        Loss [].
    """
    assert log_probs.shape == baselines.shape
    assert log_probs.shape[1:] == rewards.shape
    advantages = (rewards - baselines).detach()
    return -(log_probs * advantages).sum(0).mean()


def baseline_loss(baselines: Tensor, rewards: Tensor) -> Tensor:
    """Mean squared error of b_t as a prediction of the return R.

    Args:
        baselines: [T − 1, N].
        rewards: [N].

    Returns:
        Loss [].
    """
    assert baselines.shape[1:] == rewards.shape
    return F.mse_loss(baselines, rewards.expand_as(baselines))
