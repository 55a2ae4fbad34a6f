"""`ExactResume` in a plain Trainer with a plain module, after every update."""

import pytest
import torch
from lightning import Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.loggers import Logger

from rl_lightning.callbacks.exact_resume import ExactResume
from small_module import SmallModule
from trainers import quiet


class Recorded(SmallModule):
    """Notes each event of a run, with the weights that it has seen."""

    carried = ("seen",)

    def __init__(self):
        super().__init__()
        torch.nn.init.ones_(self.layer.weight)
        torch.nn.init.zeros_(self.layer.bias)
        self.seen, self.events = 0, []

    def training_step(self, batch, batch_idx):
        self.seen += 1
        loss = super().training_step(batch, batch_idx)
        self.events.append(("update", self.current_epoch, batch_idx, self.seen, loss.item()))
        self.log("train/loss", loss)
        return loss

    def on_validation_start(self):
        weight = self.layer.weight[0, 0].item()
        self.events.append(("validation", self.trainer.global_step, weight))


class Recorder(Logger):
    name, version = "recorder", 0

    def __init__(self, events):
        self.events = events

    def log_hyperparams(self, params): ...

    def log_metrics(self, metrics, step=None):
        self.events.append(("logged", step, {**metrics}))


def run(folder, checkpoint=None, callbacks=(), **flags):
    """The events of a run and its Trainer. It writes a checkpoint after each update."""
    module = Recorded()
    each = ModelCheckpoint(
        folder, "{step}", save_top_k=-1, every_n_train_steps=1, save_on_train_epoch_end=False,
        enable_version_counter=False,
    )  # fmt: skip
    trainer = Trainer(
        **{"max_epochs": 3, "log_every_n_steps": 2, "accelerator": "cpu", **flags},
        logger=Recorder(module.events),
        callbacks=[ExactResume(), each, *callbacks],
        num_sanity_val_steps=0, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    loader = module.loader(4)
    trainer.fit(module, loader, loader, ckpt_path=checkpoint)
    return module.events, trainer


def after(events, updates):
    """The events after a number of batches."""
    left = [i for i, event in enumerate(events) if event[0] == "update"][updates - 1] + 1
    return events[left:]


FLAGS = [{}, {"val_check_interval": 2}, {"check_val_every_n_epoch": 2}]
# A DataLoader starts anew at a resume, so it may not be resumed at the end of an epoch without a
# validation. The datasets of this package give the batches that are left.
STOPS = [(update, flags) for update in (1, 3, 6, 8, 11) for flags in FLAGS]


@pytest.mark.parametrize(("update", "flags"), [*STOPS, (4, FLAGS[0]), (4, FLAGS[1])], ids=str)
def test_a_resume_repeats_the_rest_of_the_run(update, flags, tmp_path):
    whole, _ = run(tmp_path, **flags)
    resumed, trainer = run(tmp_path, tmp_path / f"step={update}.ckpt", **flags)
    assert resumed == after(whole, update)
    assert trainer.global_step == 12


@pytest.mark.parametrize("update", [1, 2, 3])
def test_accumulated_gradients_are_kept(update, tmp_path):
    """The checkpoint is written between the two batches of the next update."""

    class SaveBetween(ExactResume):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            if pl_module.seen == 2 * update + 1:
                trainer.save_checkpoint(tmp_path / "between.ckpt")

    flags = {"accumulate_grad_batches": 2, "max_epochs": 2}
    whole, _ = run(tmp_path, callbacks=[SaveBetween()], **flags)
    saved = torch.load(tmp_path / "between.ckpt", weights_only=True)
    assert "gradients" in saved["learner"]["ranks"][0]
    resumed, _ = run(tmp_path, tmp_path / "between.ckpt", **flags)
    assert resumed == after(whole, 2 * update + 1)


def test_early_stopping_does_not_count_an_incomplete_epoch(tmp_path):
    """It stops after two epochs without an improvement, and not by the metric of the first."""

    def stopped(**flags):
        stop = EarlyStopping("val/loss", patience=2, min_delta=1e9)
        return run(tmp_path, callbacks=[stop], max_epochs=9, **flags)[1], stop

    trainer, _ = stopped()
    assert trainer.global_step == 12
    _, cut = stopped(max_steps=6)
    assert cut.wait_count == 0
    resumed, _ = stopped(checkpoint=tmp_path / "step=6.ckpt")
    assert resumed.global_step == 12


def test_the_monitored_metric_is_known_after_a_resume(tmp_path):
    run(tmp_path, callbacks=[EarlyStopping("train/loss", patience=99)])
    seen = []

    class Look(ExactResume):
        def on_train_batch_start(self, trainer, *_):
            seen.append(dict(trainer.callback_metrics))

    run(tmp_path, tmp_path / "step=6.ckpt", callbacks=[Look(), EarlyStopping("train/loss")])
    saved = torch.load(tmp_path / "step=6.ckpt", weights_only=True)
    assert seen[0]["train/loss"].item() == saved["learner"]["monitored"]["train/loss"]


@pytest.mark.parametrize(
    "learner", [None, {"ranks": [{"seen": 99}] * 2, "unlogged": {}, "monitored": {}}]
)
def test_a_checkpoint_without_the_state_of_this_rank_is_resumed(learner, tmp_path):
    """The checkpoint of another program, or of another number of ranks."""
    run(tmp_path)
    saved = torch.load(tmp_path / "step=6.ckpt", weights_only=True)
    saved["learner"] = learner
    if learner is None:
        del saved["learner"]
    torch.save(saved, tmp_path / "other.ckpt")
    events, trainer = run(tmp_path, tmp_path / "other.ckpt")
    assert next(event[3] for event in events if event[0] == "update") == 1
    assert trainer.global_step == 12


def test_an_evaluation_reads_no_state(tmp_path):
    run(tmp_path)
    module = Recorded()
    path = tmp_path / "step=6.ckpt"
    quiet(callbacks=[ExactResume()]).validate(module, module.loader(), path, verbose=False)
    assert module.seen == 0
