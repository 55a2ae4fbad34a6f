"""What the Trainer does not tell publicly."""

import pytest
import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.loggers import Logger

from rl_lightning.lightning_adapter.modules import should_log, trainer_of
from rl_lightning.lightning_adapter.trainers import round_tables, start_method
from small_module import SmallModule
from trainers import quiet


@pytest.mark.parametrize(
    ("strategy", "method"),
    [
        ("ddp_fork", "fork"),
        ("ddp_spawn", "spawn"),
        ("ddp", None),  # Lightning runs the command again for each process
        ("auto", None),
    ],
)
def test_how_processes_start(strategy, method):
    devices = 1 if strategy == "auto" else 2
    assert start_method(quiet(strategy=strategy, devices=devices).strategy) == method


def test_a_module_has_a_trainer_or_none():
    module, trainer = LightningModule(), quiet()
    assert trainer_of(module) is None
    module.trainer = trainer
    assert trainer_of(module) is trainer


def test_tables_of_evaluations_are_rounded(capsys):
    class Evaluated(SmallModule):
        def test_step(self, batch, batch_idx):
            self.log_dict({"length": 173.77999877929688, "step": torch.tensor(2_010_048.0)})

    trainer, module = quiet(), Evaluated()
    round_tables(trainer)
    trainer.test(module, module.loader())
    printed = capsys.readouterr().out
    assert "173.8 " in printed
    assert "173.77" not in printed
    assert "2010048 " in printed


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
