"""The default callbacks: which of them a run gets, and what the best checkpoint watches."""

from types import SimpleNamespace

import pytest
from lightning.pytorch.callbacks import ModelCheckpoint, TQDMProgressBar

from rl_lightning.callbacks.defaults import DEFAULT_CALLBACKS, is_wanted


def made(key):
    kind, options = DEFAULT_CALLBACKS[key]
    return kind(**options)


def wanted(key, given=(), monitor=("val/error", "min"), **trainer):
    callback = made(key)
    module = SimpleNamespace(monitor=monitor)
    return is_wanted(key, callback, trainer, module, None, given), callback


@pytest.mark.parametrize("mode", ["min", "max"])
def test_the_best_checkpoint_equals_one_that_was_made_with_the_metric(mode):
    is_added, callback = wanted("checkpoint", monitor=("val/error", mode))
    expected = ModelCheckpoint(**DEFAULT_CALLBACKS["checkpoint"][1], monitor="val/error", mode=mode)
    assert is_added
    assert vars(callback) == vars(expected)


@pytest.mark.parametrize(
    ("key", "options", "expected"),
    [
        ("checkpoint", {}, True),
        ("checkpoint", {"monitor": None}, False),
        ("checkpoint", {"limit_val_batches": 0}, False),
        ("checkpoint", {"given": [ModelCheckpoint(monitor="val/error")]}, False),
        ("checkpoint", {"given": [ModelCheckpoint(monitor="val/length")]}, True),
        ("checkpoint", {"enable_checkpointing": False}, False),
        ("last_checkpoint", {"monitor": None}, True),
        ("last_checkpoint", {"enable_checkpointing": False}, False),
        ("last_checkpoint", {"barebones": True}, False),
        ("progress_bar", {}, True),
        ("progress_bar", {"enable_progress_bar": False}, False),
        ("progress_bar", {"given": [TQDMProgressBar()]}, False),
        ("validation_lines", {}, True),
        ("validation_lines", {"given": [made("validation_lines")]}, False),
        ("validation_lines", {"barebones": True}, False),
        ("target_network", {}, False),  # the module has no target networks
    ],
)
def test_a_default_callback_is_added_where_it_fits(key, options, expected):
    assert wanted(key, **options)[0] == expected
