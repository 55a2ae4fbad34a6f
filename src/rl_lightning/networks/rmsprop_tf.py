"""TensorFlow's variant of RMSprop, for which A2C's published settings were tuned."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.optimizer import ParamsT


class RMSpropTF(Optimizer):
    """RMSprop as in TensorFlow: θ ← θ − lr · g / √(v + ε), where v is initially 1.

    torch's RMSprop divides by √v + ε, and its v is initially 0. Its first steps are therefore
    many times larger, and A2C does not learn with its published settings.

    Args:
        params: Parameters or groups of them.
        lr: Learning rate.
        alpha: Decay of the running mean v of squared gradients.
        eps: ε, inside the square root.
    """

    def __init__(
        self, params: ParamsT, lr: float = 7e-4, alpha: float = 0.99, eps: float = 1e-5
    ) -> None:
        super().__init__(params, {"lr": lr, "alpha": alpha, "eps": eps})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Do one optimizer step."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    average = self._square_average(parameter, group["alpha"])
                    root = average.add(group["eps"]).sqrt_()
                    parameter.addcdiv_(parameter.grad, root, value=-group["lr"])
        return loss

    def _square_average(self, parameter: Tensor, alpha: float) -> Tensor:
        state = self.state[parameter]
        if not state:
            state["square_average"] = torch.ones_like(parameter)
        average: Tensor = state["square_average"]
        assert parameter.grad is not None
        return average.mul_(alpha).addcmul_(parameter.grad, parameter.grad, value=1 - alpha)
