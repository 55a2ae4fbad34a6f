"""Targets and losses of maximum-entropy reinforcement learning, as pure functions over tensors.

The policy maximises E[Σ_t γ^t (r_t + α H(π(· | s_t)))], where α is the temperature.

Source: Haarnoja et al. 2018, "Soft Actor-Critic Algorithms and Applications"; equation numbers
are of this paper.
"""

import math

from torch import Tensor
from torch.nn import functional


def squashed_log_probs(unsquashed: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
    """Compute log π(a | s) of a = tanh(u), where u is Gaussian.

    The density of a is that of u divided by da/du = 1 − tanh² u. Its logarithm is computed as
    2 (log 2 − u − log(1 + e^{−2u})), which is exact where tanh u rounds to 1. (The inverse of
    tanh, as in torch's TanhTransform, is infinite there.)

    Source: appendix C.

    Args:
        unsquashed: u [B, A].
        mean: Mean of u [B, A].
        log_std: log σ of u [B, A].

    Returns:
        Log-probabilities [B].
    """
    assert unsquashed.shape == mean.shape == log_std.shape
    deviation = (unsquashed - mean) * (-log_std).exp()
    gaussian = -0.5 * deviation.square() - log_std - 0.5 * math.log(2 * math.pi)
    log_slope = 2 * (math.log(2) - unsquashed - functional.softplus(-2 * unsquashed))
    return (gaussian - log_slope).sum(dim=-1)


def soft_q_target(
    rewards: Tensor,
    discounts: Tensor,
    next_q_values: Tensor,
    next_log_probs: Tensor,
    temperature: Tensor,
) -> Tensor:
    """Compute y = r + γ (min_i Q_i(s', a'; θ⁻) − α log π(a' | s')) with a' drawn from π(· | s').

    With n-step rewards the entropy of the n − 1 steps in between is left out. `SAC` refuses n > 1
    with a learned temperature.

    Source: equations 5 and 6. The minimum of two Q-functions is from Fujimoto et al. 2018.

    Args:
        rewards: [B], n-step discounted sums.
        discounts: [B], γⁿ or 0 at a true terminal.
        next_q_values: [E, B], of the target networks of E Q-functions.
        next_log_probs: [B].
        temperature: α [].

    Returns:
        Targets [B].
    """
    soft_values = next_q_values.amin(dim=0) - temperature * next_log_probs
    # Shapes (B, 1) and (B,) would broadcast to (B, B) without an error.
    assert rewards.shape == discounts.shape == soft_values.shape, (
        f"rewards {rewards.shape}, discounts {discounts.shape}, values {soft_values.shape}"
    )
    return rewards + discounts * soft_values


def soft_policy_loss(q_values: Tensor, log_probs: Tensor, temperature: Tensor) -> Tensor:
    """Compute E[α log π(a | s) − min_i Q_i(s, a)], whose gradient reaches π through a.

    Source: equation 9.

    Args:
        q_values: [E, B], of E Q-functions at sampled actions.
        log_probs: [B], of the same actions.
        temperature: α [], without gradient.

    Returns:
        The mean loss [].
    """
    lowest = q_values.amin(dim=0)
    assert lowest.shape == log_probs.shape, f"Q {lowest.shape}, log π {log_probs.shape}"
    return (temperature * log_probs - lowest).mean()


def temperature_loss(log_temperature: Tensor, log_probs: Tensor, target_entropy: float) -> Tensor:
    """Compute −log α · (E[log π(a | s)] + target entropy).

    Its gradient raises α while the policy's entropy is below the target. Equation 18 has α in
    place of log α. The paper's own code uses log α, which has the same root and keeps α positive.

    Args:
        log_temperature: log α [].
        log_probs: [B], of sampled actions. They get no gradient.
        target_entropy: In nats, of actions in units in which the bounds are ±1.

    Returns:
        The loss [].
    """
    return -log_temperature * (log_probs.detach().mean() + target_entropy)
