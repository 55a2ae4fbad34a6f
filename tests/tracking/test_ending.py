"""The lines that `fit` ends with, and the command that they name."""

from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch.loggers import CSVLogger

from rl_lightning.tracking.ending import ending
from rl_lightning.tracking.ending import test_command as command_of
from rl_lightning.tracking.mlflow_tracker import MLflowTracker


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("fit --config a.yaml", "test --config a.yaml --ckpt_path best"),
        ("fit --ckpt_path last --config a.yaml", "test --config a.yaml --ckpt_path best"),
        ("fit --ckpt_path=last --a 1", "test --a 1 --ckpt_path best"),
        ("--config fit.yaml fit --a fit", "--config fit.yaml test --a fit --ckpt_path best"),
        ("fit --weights_path w.ckpt --a 'b c'", "test --a 'b c' --ckpt_path best"),
    ],
)
def test_the_flags_of_training_alone_are_left_out(given, expected):
    start = "python -m rl_lightning "
    assert command_of(start + given, "best") == start + expected


@pytest.mark.parametrize("tracked", [True, False])
def test_the_ending_tells_best_from_last_and_names_a_command_that_finds_it(tracked, working_folder):
    uri = f"sqlite:///{working_folder}/mlflow.db"
    logger = MLflowTracker("e", tracking_uri=uri) if tracked else CSVLogger(".", "runs", "a")
    folder = working_folder / ("run" if tracked else "runs/a")
    best, last = folder / "checkpoints/best.ckpt", folder / "checkpoints/last.ckpt"
    best.parent.mkdir(parents=True)
    best.touch(), last.touch()
    trainer = SimpleNamespace(
        checkpoint_callback=SimpleNamespace(
            monitor="val/return", best_model_score=torch.tensor(9.0), best_model_path=str(best)
        ),
        callback_metrics={"step": torch.tensor(1200.0), "val/return": torch.tensor(7.0)},
        ckpt_path=None,
        global_step=30,
        logger=None if tracked else logger,
        loggers=[logger],
        default_root_dir="run",
    )
    reached, where, following = ending(trainer, "rl_lightning fit --config a.yaml")
    assert reached == "Reached: 1,200 steps, val/return 9 (best), 7 (last)"
    where_it_is = where.removeprefix("Run: ").split()
    assert where_it_is == [
        f"{'run' if tracked else 'runs/a'}:",
        "checkpoints/best.ckpt",
        "checkpoints/last.ckpt",
    ]
    checkpoint = "best" if tracked else "runs/a/checkpoints/best.ckpt"
    assert following == f"Next: rl_lightning test --config a.yaml --ckpt_path {checkpoint}"
