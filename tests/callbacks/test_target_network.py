"""The share of the online network in a target network after a number of updates."""

import pytest
import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import nn

from rl_lightning.callbacks import TargetNetwork
from rl_lightning.experience import TargetNetworks
from rl_lightning.runtime.errors import ConfigurationError


class Ones(LightningModule):
    """Online networks of ones that updates do not change, and target networks of zeros."""

    def __init__(self):
        super().__init__()
        self.online = nn.ParameterList([nn.Parameter(torch.ones(3)) for _ in range(2)])
        self.target = nn.ParameterList([nn.Parameter(torch.zeros(3)) for _ in range(2)])
        self.target.requires_grad_(False)
        self.shares = []  # of the first target network, at each batch

    def target_networks(self):
        # The online network is the first of each pair.
        pairs = [
            (nn.ParameterList([online]), nn.ParameterList([target]))
            for online, target in zip(self.online, self.target, strict=True)
        ]
        return TargetNetworks(pairs, every_n_updates=2, tau=0.25)

    def training_step(self, batch):
        self.shares.append(round(self.target[0][0].item(), 4))
        return 0 * sum(each.sum() for each in self.online)

    def configure_optimizers(self):
        return torch.optim.SGD(self.online.parameters(), lr=0.1)


def fit(module, callback, num_batches, *callbacks, **settings):
    arguments = {"max_epochs": 1, "enable_checkpointing": False, "ckpt_path": None, **settings}
    path = arguments.pop("ckpt_path")
    trainer = Trainer(
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[callback, *callbacks],
        **arguments,
    )
    trainer.fit(module, torch.utils.data.DataLoader(range(num_batches)), ckpt_path=path)
    return trainer


@pytest.mark.parametrize("accumulated", [1, 4])
def test_each_update_adds_one_share_with_any_gradient_accumulation(accumulated):
    module = Ones()
    trainer = fit(
        module, TargetNetwork(1, tau=0.1), 8 * accumulated, accumulate_grad_batches=accumulated
    )
    assert trainer.global_step == 8
    for target in module.target:
        torch.testing.assert_close(target.detach(), torch.full((3,), 1 - 0.9**8))  # 0.570
    assert all(torch.equal(online, torch.ones(3)) for online in module.online)


def test_every_n_updates_are_optimizer_steps():
    module = Ones()
    fit(module, TargetNetwork(3, tau=0.5), 16, accumulate_grad_batches=2)
    # Batches 6 and 12 end the updates 3 and 6. The batch after each has the new target network.
    assert module.shares == [0.0] * 6 + [0.5] * 6 + [0.75] * 4


def test_a_hard_copy_is_exact():
    module = Ones()
    fit(module, TargetNetwork(2, tau=1.0), 3)
    assert module.shares == [0.0, 0.0, 1.0]
    assert torch.equal(module.target[1], torch.ones(3))


@pytest.mark.parametrize(
    ("settings", "shares"),
    [
        ({}, [0.0, 0.0, 0.25, 0.25, 0.4375]),
        ({"every_n_updates": 1}, [0.0, 0.25, 0.4375, 0.5781, 0.6836]),
        ({"tau": 0.5}, [0.0, 0.0, 0.5, 0.5, 0.75]),
    ],
)
def test_the_module_decides_what_the_user_does_not_set(settings, shares):
    module = Ones()
    fit(module, TargetNetwork(**settings), 5)
    assert module.shares == shares


@pytest.mark.parametrize("stopped", [4, 8, 20])
def test_a_resumed_run_continues_the_count_and_adds_no_share_twice(tmp_path, stopped):
    settings = {"accumulate_grad_batches": 4, "max_epochs": 2}
    saving = ModelCheckpoint(tmp_path, "{step}", every_n_train_steps=1, save_top_k=-1)
    through = Ones()
    fit(through, TargetNetwork(1, 0.1), 16, saving, enable_checkpointing=True, **settings)
    resumed = Ones()
    path = tmp_path / f"step={stopped // 4}.ckpt"
    fit(resumed, TargetNetwork(1, 0.1), 16, ckpt_path=path, **settings)
    assert resumed.shares == through.shares[stopped:]
    assert torch.equal(resumed.target[0], through.target[0])
    torch.testing.assert_close(resumed.target[0].detach(), torch.full((3,), 1 - 0.9**8))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            {"every_n_updates": 0},
            "of TargetNetwork is 0: it must be greater than or equal to 1",
        ),
        ({"tau": 0.0}, "tau of TargetNetwork is 0.0: it must be greater than 0"),
        ({"tau": 1.5}, "tau of TargetNetwork is 1.5: it must be less than or equal to 1"),
    ],
)
def test_settings_out_of_range_are_refused(settings, said):
    with pytest.raises(ConfigurationError, match=said):
        TargetNetwork(**settings)
