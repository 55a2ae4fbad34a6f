"""What the Trainer does not tell publicly."""

import pytest
import torch

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
