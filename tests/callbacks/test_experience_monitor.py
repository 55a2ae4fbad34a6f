"""Metrics, x-axis and speeds that ExperienceMonitor logs."""

import pytest
import torch
from lightning import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers.logger import Logger
from torch.utils.data import DataLoader

from rl_lightning.callbacks import ExperienceMonitor


class Clock:
    """Replaces the module `time`. Its time changes only when a test changes it."""

    now = 0.0

    def perf_counter(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr("rl_lightning.callbacks.experience_monitor.time", clock)
    return clock


class Recording(Logger):
    name, version = "recording", "0"

    def __init__(self):
        super().__init__()
        self.logged = []

    def log_metrics(self, metrics, step=None):
        self.logged.append((step, metrics))

    def log_hyperparams(self, params, *args, **kwargs): ...

    def of(self, name):
        return [(step, metrics[name]) for step, metrics in self.logged if name in metrics]


class TimedModule(LightningModule):
    """An update takes half a second of the clock, and a validation a thousand seconds."""

    def __init__(self, clock):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.clock = clock

    def training_step(self, batch):
        self.clock.now += 0.5
        self.trainer.datamodule.batches += 1
        return self.weight * 0

    def validation_step(self, batch):
        self.clock.now += 1000
        self.log("val/return", 3.0)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=1)


class Counted(LightningDataModule):
    """Counts 2²⁵ environment steps before training and 10 for each batch."""

    before = 2**25 + 1
    batches = 0

    def statistics(self):
        returns = {"train/return": 7.0} if self.batches > 2 else {}
        return {"env_steps": float(self.before + 10 * self.batches), **returns}

    def state_dict(self):
        return {"batches": self.batches}

    def load_state_dict(self, state_dict):
        self.batches = state_dict["batches"]

    def train_dataloader(self):
        return DataLoader(range(8))

    def val_dataloader(self):
        return DataLoader(range(1))


def fit(clock, logger, *callbacks, ckpt_path=None, **settings):
    settings = {"max_epochs": 2, "log_every_n_steps": 2, "num_sanity_val_steps": 1, **settings}
    trainer = Trainer(
        accelerator="cpu",
        logger=logger,
        enable_checkpointing=bool(callbacks),
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[ExperienceMonitor(), *callbacks],
        **settings,
    )
    trainer.fit(TimedModule(clock), datamodule=Counted(), ckpt_path=ckpt_path)
    return trainer


@pytest.mark.parametrize("settings", [{}, {"val_check_interval": 3}])
def test_speeds_leave_validation_out(clock, settings):
    logger = Recording()
    fit(clock, logger, **settings)
    places = [Counted.before + 10 * (t + 1) for t in (1, 3, 5, 7, 9, 11, 13, 15)]
    assert logger.of("speed/updates_per_second") == [(place, 2.0) for place in places]
    assert logger.of("speed/env_steps_per_second") == [(place, 20.0) for place in places]
    assert logger.of("train/return") == [(place, 7.0) for place in places[1:]]


def test_updates_are_optimizer_steps(clock):
    logger = Recording()
    fit(clock, logger, accumulate_grad_batches=4, log_every_n_steps=1)
    speeds = {speed for _, speed in logger.of("speed/updates_per_second")}
    assert speeds <= {0.0, 0.5, 1.0, 2.0}
    assert sum(speed for _, speed in logger.of("speed/updates_per_second")) == 4 * 2.0


def test_validation_is_logged_at_its_environment_step(clock):
    logger = Recording()
    trainer = fit(clock, logger)
    assert [step for step, _ in logger.of("val/return")] == [
        Counted.before + 80,
        Counted.before + 160,
    ]
    assert trainer.callback_metrics["train/return"] == 7


def test_a_run_resumes_inside_an_epoch(clock, tmp_path):
    saving = ModelCheckpoint(tmp_path, every_n_train_steps=3, save_top_k=-1)
    fit(clock, Recording(), saving, max_epochs=1)
    stopped = min(tmp_path.iterdir())  # the file's name contains the logged step
    assert torch.load(stopped, weights_only=True)["global_step"] == 3
    logger = Recording()
    fit(clock, logger, ckpt_path=stopped, max_epochs=1)
    places = [Counted.before + 10 * (t + 1) for t in (3, 5, 7)]
    assert [place for place, _ in logger.of("speed/updates_per_second")] == places
    assert {speed for _, speed in logger.of("speed/updates_per_second")} == {2.0}
