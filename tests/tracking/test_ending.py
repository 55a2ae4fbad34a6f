"""The command that `fit` ends with; tests/tracking/test_which_run.py runs it."""

import pytest

from rl_lightning.tracking.ending import test_command as command_of


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
