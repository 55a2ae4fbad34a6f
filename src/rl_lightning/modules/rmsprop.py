"""RMSprop as A2C was tuned with."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.optimizer import ParamsT


class RMSpropTF(Optimizer):
    """RMSprop as TensorFlow writes it: θ ← θ − lr · g / √(v + ε), with v beginning at 1.

    torch's divides by √v + ε and begins at 0, so its first steps are many times longer,
    and A2C's published settings fall apart under it.

    Args:
        params: Parameters or groups of them.
        lr: Learning rate.
        alpha: Decay of the running mean v of squared gradients.
        eps: ε, inside the root.
    """

    def __init__(
        self, params: ParamsT, lr: float = 7e-4, alpha: float = 0.99, eps: float = 1e-5
    ) -> None:
        super().__init__(params, {"lr": lr, "alpha": alpha, "eps": eps})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """One update."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            if parameters:
                self._update(parameters, group["lr"], group["alpha"], group["eps"])
        return loss

    def _update(self, parameters: list[Tensor], lr: float, alpha: float, eps: float) -> None:
        gradients = [p.grad for p in parameters]
        for parameter in parameters:
            if not self.state[parameter]:
                self.state[parameter]["square_average"] = torch.ones_like(parameter)
        averages = [self.state[p]["square_average"] for p in parameters]
        torch._foreach_mul_(averages, alpha)
        torch._foreach_addcmul_(averages, gradients, gradients, 1 - alpha)
        roots = torch._foreach_add(averages, eps)
        torch._foreach_sqrt_(roots)
        torch._foreach_addcdiv_(parameters, gradients, roots, -lr)
