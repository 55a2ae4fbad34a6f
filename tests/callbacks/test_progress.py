"""What the terminal shows during training."""

import re

from lightning import LightningModule, Trainer

from rl_lightning.callbacks.progress import TrainingProgress, ValidationLines
from rl_lightning.datamodules import RolloutDataModule
from rl_lightning.modules import A2C
from rl_lightning.trainer import make_trainer


def _fit(epochs, **flags):
    data = RolloutDataModule(
        "CartPole-v1", num_envs=2, rollout_length=4, updates_per_epoch=30, eval_episodes=2,
        num_eval_envs=2,
    )  # fmt: skip
    module = A2C(data.environment)
    trainer = make_trainer(module, data, max_epochs=epochs, log_every_n_steps=5, **flags)
    trainer.fit(module, datamodule=data)
    return trainer, module


def test_each_validation_prints_one_line_and_a_file_has_no_bar(working_folder, store, capsys):
    _fit(2)
    lines = capsys.readouterr().out.strip().splitlines()
    pattern = r"epoch {}: \d+ steps, val/return [\d.]+ ± [\d.]+"
    assert len(lines) == 2
    assert re.fullmatch(pattern.format(0), lines[0])
    assert re.fullmatch(pattern.format(1), lines[1])


def test_lines_are_printed_without_a_bar_too(working_folder, store, capsys):
    _fit(1, enable_progress_bar=False)
    assert re.match(r"epoch 0: \d+ steps, val/return", capsys.readouterr().out)


def test_the_bar_fits_80_columns(working_folder, store, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    trainer, module = _fit(2)
    out = capsys.readouterr().out
    bars = [line for line in re.split(r"[\r\n]+", out) if line.startswith("Epoch")]
    assert any("steps=" in bar and "return=" in bar and "val=" in bar for bar in bars)
    assert max(len(bar) for bar in bars) <= 80
    assert out.count("epoch 0: ") == 1
    (bar,) = [each for each in trainer.callbacks if isinstance(each, TrainingProgress)]
    trainer.progress_bar_metrics["env_steps"] = 1_234_567.0
    assert bar.get_metrics(trainer, module)["steps"] == "1.23M"


def test_evaluation_prints_no_line(working_folder, store, capsys):
    trainer, module = _fit(1)
    capsys.readouterr()
    printer = ValidationLines()
    evaluation = Trainer(
        logger=False, callbacks=[printer], accelerator="cpu", enable_progress_bar=False
    )
    evaluation.validate(module, datamodule=trainer.datamodule, verbose=False)
    assert "epoch" not in capsys.readouterr().out


def test_the_lines_of_evaluations_are_rounded(monkeypatch):
    rounded = []
    monkeypatch.setattr("rl_lightning.callbacks.progress.round_tables", rounded.append)
    trainer = Trainer(logger=False, barebones=True)
    ValidationLines().setup(trainer, LightningModule(), "test")
    assert rounded == [trainer]
