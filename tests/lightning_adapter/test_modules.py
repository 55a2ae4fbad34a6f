"""Clipping of gradients in groups, also with fused optimizers in mixed precision."""

from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch.plugins import MixedPrecision

from rl_lightning.lightning_adapter.modules import ClippedModule
from small_module import SmallModule
from trainers import quiet


class Fused(SmallModule):
    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), fused=True)

    def on_before_zero_grad(self, optimizer):
        if self.layer.weight.grad is not None:
            self.norm = torch.nn.utils.get_total_norm([p.grad for p in self.parameters()])


class ClippedFused(ClippedModule, Fused):
    pass


FLAGS = {"precision": "bf16-mixed", "gradient_clip_val": 1e-3, "max_steps": 2}


def test_lightning_refuses_to_clip_for_fused_optimizers():
    module = Fused()
    with pytest.raises(RuntimeError, match="does not allow for gradient clipping"):
        quiet(**FLAGS).fit(module, module.loader())


def test_a_fused_optimizer_is_clipped_in_mixed_precision():
    module = ClippedFused()
    quiet(**FLAGS).fit(module, module.loader())
    assert module.norm.item() == pytest.approx(1e-3, rel=1e-3)


@pytest.mark.parametrize(("fused", "expected"), [(True, 512 * 0.5), (False, 0.5)])
def test_scaled_gradients_are_clipped_at_the_scaled_limit(fused, expected):
    """A fused optimizer unscales in its step. For others Lightning unscales before it clips."""
    scaler = SimpleNamespace(get_scale=lambda: 512.0)
    module = ClippedFused()
    module._trainer = SimpleNamespace(precision_plugin=MixedPrecision("16-mixed", "cpu", scaler))
    module.layer.weight.grad = torch.full((1, 2), 1e6)
    optimizer = torch.optim.Adam([module.layer.weight], fused=fused)
    module.configure_gradient_clipping(optimizer, 0.5, "norm")
    assert module.layer.weight.grad.norm().item() == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("algorithm", ["norm", "value", None])
def test_each_group_is_clipped_separately(algorithm):
    class Grouped(ClippedFused):
        def clipped_apart(self, optimizer):
            return [[self.layer.weight], [self.layer.bias]]

    module = Grouped()
    module._trainer = quiet()
    for parameter in module.parameters():
        parameter.grad = torch.full_like(parameter, 100.0)
    module.configure_gradient_clipping(module.configure_optimizers(), 0.5, algorithm)
    for parameter in module.parameters():
        size = parameter.grad.abs().max() if algorithm == "value" else parameter.grad.norm()
        assert size.item() == pytest.approx(0.5, rel=1e-3)
    module.configure_gradient_clipping(module.configure_optimizers(), None, algorithm)
    assert module.layer.bias.grad.item() == pytest.approx(0.5, rel=1e-3)
