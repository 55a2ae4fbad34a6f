"""The losses of the Recurrent Attention Model (Mnih et al. 2014, section 3.2 and equation 2).

N is the number of rollouts, T that of glimpses, K that of classes.
"""

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


def reinforce_loss(log_probs: Tensor, returns: Tensor, baselines: Tensor) -> Tensor:
    """−1/N Σ_n Σ_t log π(l_t^n) (R_t^n − b_t^n), whose gradient is that of equation 2.

    Args:
        log_probs: [T − 1, N].
        returns: [N], the same for all locations of a rollout, or [T − 1, N].
        baselines: [T − 1, N]; no gradient flows into them.

    Returns:
        Loss [].
    """
    assert log_probs.shape == baselines.shape
    assert returns.shape in (log_probs.shape, log_probs.shape[1:])
    advantages = (returns - baselines).detach()
    return -(log_probs * advantages).sum(0).mean()


def baseline_loss(baselines: Tensor, returns: Tensor) -> Tensor:
    """Mean squared error of b_t as a prediction of the return R_t.

    Args:
        baselines: [T − 1, N].
        returns: [N], the same for all locations of a rollout, or [T − 1, N].

    Returns:
        Loss [].
    """
    assert returns.shape in (baselines.shape, baselines.shape[1:])
    return F.mse_loss(baselines, returns.expand_as(baselines))


def answers_loss(logits: Tensor, labels: Tensor, weight_of_earlier: float = 0.2) -> Tensor:
    """Cross-entropy of the last answer, plus the weighted mean cross-entropy of the earlier ones.

    Args:
        logits: [A, N, K], the answers after the last A glimpses; A is 1 or T.
        labels: [N].
        weight_of_earlier: Weight of the A − 1 earlier answers.

    Returns:
        Loss [].
    """
    loss = F.cross_entropy(logits[-1], labels)
    if len(logits) == 1:
        return loss
    earlier = F.cross_entropy(logits[:-1].flatten(0, 1), labels.repeat(len(logits) - 1))
    return loss + weight_of_earlier * earlier


def of_right_class(values: Tensor, labels: Tensor) -> Tensor:
    """Select from [..., N, K] the values of the right classes, [..., N]."""
    return values.gather(-1, labels.expand(values.shape[:-1])[..., None]).squeeze(-1)


def answer_rewards(logits: Tensor, labels: Tensor, lowest: float = -3.0) -> Tensor:
    """log p(y) of each answer, at least `lowest`.

    When nearly all answers are right, a reward of 1 for a right answer and 0 for a wrong one hardly
    differs between rollouts. This one still does.

    Args:
        logits: [..., N, K] after each glimpse; no gradient flows into them.
        labels: [N].
        lowest: Bounds the reward of a wrong answer.

    Returns:
        Rewards [..., N].
    """
    return of_right_class(logits.detach().log_softmax(-1), labels).clamp(min=lowest)
