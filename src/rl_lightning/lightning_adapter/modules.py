"""What modules need of Lightning and torch: Trainer, logging, clipping, optimizers' states."""

from collections.abc import Iterable
from typing import Any

from lightning import LightningModule, Trainer
from lightning.fabric.plugins.precision.amp import _optimizer_handles_unscaling
from lightning.pytorch.plugins import MixedPrecision
from torch import nn
from torch.nn.utils import clip_grad_norm_, clip_grad_value_
from torch.optim import Optimizer


def trainer_of(module: LightningModule) -> Trainer | None:
    """The Trainer of a module; None if it has none, where `module.trainer` would raise."""
    return module._trainer


def should_log(trainer: Trainer) -> bool:
    """Whether the metrics of this update are sent to the logger (see `log_every_n_steps`).

    Lightning drops the metrics of all other updates, and computing a metric costs as much time as
    a layer of a small network. This calls Lightning's own test, so that both always agree.
    """
    return bool(trainer._logger_connector.should_update_logs)


def regrouped(optimizer: Optimizer, state: dict[str, Any]) -> dict[str, Any]:
    """Give an optimizer's saved state the parameter groups of the optimizer that loads it.

    Earlier versions had more groups, with the same parameters in the same order. The options of a
    group, such as the learning rate, are those of the saved group of its first parameter.
    """
    saved, groups = state["param_groups"], optimizer.param_groups
    order = [index for group in saved for index in group["params"]]
    if len(saved) == len(groups) or len(order) != sum(len(group["params"]) for group in groups):
        return state
    options = {index: group for group in saved for index in group["params"]}
    rest = iter(order)
    new = [[next(rest) for _ in group["params"]] for group in groups]
    new_groups = [{**options[indices[0]], "params": indices} for indices in new]
    return {**state, "param_groups": new_groups}


class ClippedModule(LightningModule):
    """A LightningModule whose gradients can be clipped in groups, and are removed fast.

    Lightning's own clipping takes the norm over all parameters. It refuses fused optimizers in
    mixed precision, even in bf16, where gradients are not scaled.
    """

    def clipped_apart(self, optimizer: Optimizer) -> Iterable[list[nn.Parameter]]:
        """Groups of parameters. Each is clipped to the Trainer's `gradient_clip_val` separately."""
        return [[each for group in optimizer.param_groups for each in group["params"]]]

    def optimizer_zero_grad(self, epoch: int, batch_idx: int, optimizer: Optimizer) -> None:
        """Remove all gradients, as `Optimizer.zero_grad` does with ten times as many calls."""
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                parameter.grad = None

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip gradients by norm or by value, as the Trainer's flags define."""
        if not gradient_clip_val:
            return
        precision = self.trainer.precision_plugin
        scaler = precision.scaler if isinstance(precision, MixedPrecision) else None
        if scaler is not None and _optimizer_handles_unscaling(optimizer):
            # A fused optimizer divides gradients by the loss scale in its step, which is later, so
            # the limit is scaled here.
            gradient_clip_val = gradient_clip_val * scaler.get_scale()
        clip = clip_grad_value_ if gradient_clip_algorithm == "value" else clip_grad_norm_
        for parameters in self.clipped_apart(optimizer):
            # On other devices torch looks at each gradient, to see whether it has these functions.
            foreach = True if parameters[0].device.type in ("cpu", "cuda") else None
            clip(parameters, gradient_clip_val, foreach=foreach)
