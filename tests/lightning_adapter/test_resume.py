"""What Lightning's checkpoints hold, and what it does not do at a resume.

`tests/callbacks/test_exact_resume.py` and `tests/test_resume*.py` show that a resume is exact. The
tests here show why a correction is needed, so that one that a new version makes needless is found.
"""

import copy

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from rl_lightning.lightning_adapter.resume import correct_progress
from small_module import SmallModule
from trainers import quiet


class Counted(SmallModule):
    def on_train_epoch_start(self):
        self.epochs = [*getattr(self, "epochs", []), self.current_epoch]

    def on_validation_start(self):
        self.validations = [*getattr(self, "validations", []), self.trainer.global_step]


def run(folder, ckpt_path=None, **flags):
    module = Counted()
    each = ModelCheckpoint(
        folder, "{step}", save_top_k=-1, every_n_train_steps=1, enable_version_counter=False
    )
    trainer = quiet(
        **{"max_epochs": 2, "enable_checkpointing": True, "num_sanity_val_steps": 0, **flags},
        callbacks=[each],
    )
    loader = module.loader(4)
    trainer.fit(module, loader, loader, ckpt_path=ckpt_path)
    return module


def saved(folder, update):
    return torch.load(folder / f"step={update}.ckpt", weights_only=True)


@pytest.mark.parametrize(
    ("update", "flags", "expected"),
    [
        (2, {}, (2, True)),
        (4, {}, (4, True)),
        (6, {}, (6, True)),
    ],
)
def test_the_counts_of_a_checkpoint_after_a_batch(update, flags, expected, tmp_path):
    run(tmp_path, **flags)
    assert correct_progress(saved(tmp_path, update), 1) == expected


def test_weights_alone_have_no_counts():
    assert correct_progress({"state_dict": {}}, 1) is None


def test_lightning_skips_the_validation_that_was_due_at_a_checkpoint(tmp_path):
    assert run(tmp_path).validations == [4, 8]
    assert getattr(run(tmp_path, tmp_path / "step=4.ckpt"), "validations", []) == [8]


def test_lightning_counts_an_epoch_that_max_steps_ended_as_complete(tmp_path):
    run(tmp_path, max_steps=6)
    cut = saved(tmp_path, 6)
    trainer = quiet(callbacks=[ModelCheckpoint(tmp_path, "end", save_on_train_epoch_end=True)],
                    enable_checkpointing=True, max_epochs=2, max_steps=6,
                    num_sanity_val_steps=0)  # fmt: skip
    module = Counted()
    trainer.fit(module, module.loader(4), module.loader(4))
    end = torch.load(tmp_path / "end.ckpt", weights_only=True)
    epochs = end["loops"]["fit_loop"]["epoch_progress"]["total"]
    assert epochs["processed"] == 2, "the second epoch had two of four batches"
    assert cut["loops"]["fit_loop"]["epoch_progress"]["total"]["processed"] == 1
    corrected = copy.deepcopy(end)
    correct_progress(corrected, 1)
    assert corrected["loops"]["fit_loop"]["epoch_progress"]["total"]["processed"] == 1
