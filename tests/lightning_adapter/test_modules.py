"""What modules need of Lightning, and clipping of fused optimizers in mixed precision."""

from types import SimpleNamespace

import pytest
import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.loggers import Logger
from lightning.pytorch.plugins import MixedPrecision

from rl_lightning.lightning_adapter.modules import ClippedModule, should_log, trainer_of
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


def test_a_module_has_a_trainer_or_none():
    module, trainer = LightningModule(), quiet()
    assert trainer_of(module) is None
    module.trainer = trainer
    assert trainer_of(module) is trainer


class Recorder(Logger):
    name, version = "recorder", 0

    def __init__(self):
        self.steps = []

    def log_hyperparams(self, params): ...

    def log_metrics(self, metrics, step=None):
        self.steps.append(step)


@pytest.mark.parametrize("flags", [{}, {"accumulate_grad_batches": 2}])
def test_metrics_are_logged_at_the_updates_that_should_log_says(flags):
    class Asks(SmallModule):
        def training_step(self, batch, batch_idx):
            loss = super().training_step(batch, batch_idx)
            self.asked.append((self.trainer.global_step, should_log(self.trainer)))
            self.log("loss", loss)
            return loss

    module, logger = Asks(), Recorder()
    module.asked = []
    Trainer(
        accelerator="cpu", logger=logger, log_every_n_steps=2, max_epochs=2,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False, **flags,
    ).fit(module, module.loader())  # fmt: skip
    assert logger.steps == sorted({step for step, is_logged in module.asked if is_logged})
    assert 0 < len(logger.steps) < len({step for step, _ in module.asked})
