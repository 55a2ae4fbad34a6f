"""The terms of the loss of a policy gradient, from `training_step` with other coefficients."""

from typing import NamedTuple

from lightning import Trainer
from torch import Tensor

from rl_lightning.experience import Rollout
from rl_lightning.modules.policy_gradient import PolicyGradient


class Terms(NamedTuple):
    """Each is a scalar with its graph."""

    policy: Tensor
    value: Tensor
    entropy: Tensor


def with_trainer(module):
    """Give a module a Trainer that logs no update, so that `self.log` is not called."""
    module._trainer = Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, log_every_n_steps=0
    )
    return module


def loss_terms(module: PolicyGradient, batch: Rollout) -> Terms:
    """The terms, without an update of the running statistics."""
    if module._trainer is None:
        with_trainer(module)
    before = module.value_coefficient, module.entropy_coefficient
    learn_statistics = module.learn_statistics
    module.learn_statistics = lambda batch, returns: None

    def loss(value: float, entropy: float) -> Tensor:
        module.value_coefficient, module.entropy_coefficient = value, entropy
        return module.training_step(batch)

    policy, with_value, with_entropy = loss(0, 0), loss(1, 0), loss(0, 1)
    module.value_coefficient, module.entropy_coefficient = before
    module.learn_statistics = learn_statistics
    return Terms(policy, with_value - policy, policy - with_entropy)
