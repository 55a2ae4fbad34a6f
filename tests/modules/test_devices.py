"""No training step needs its tensors on the CPU.

torch's meta device stands for a GPU, which these tests do not need. An operation on tensors of the
meta device and of the CPU fails, as it does with a GPU. So do `.item()`, `.cpu()` and `.numpy()`.
"""

import inspect

import pytest
import torch
from lightning import Callback
from lightning.pytorch.utilities import move_data_to_device
from torch.fx.experimental._config import patch

from rl_lightning import cli
from rl_lightning.modules import learner
from small_runs import EXPERIMENTS, fit, write_mnist

# Shapes that depend on data need the CPU: the visited states of a table, and the lengths of games.
DEPEND_ON_DATA = {"value_iteration/frozenlake", "q_learning/frozenlake", "alphago/self_play"}
BATCHES = 3


class CheckedError(Exception):
    """The training step ran on the meta device."""


def check_step(module, batch, batch_idx):
    """Do and log a training step on the meta device, and its backward pass."""
    logged = {}
    module.log_dict = lambda values, **options: logged.update(values)
    module.log = lambda name, value, **options: logged.update({name: value})
    arguments = (batch, batch_idx)[: len(inspect.signature(module.training_step).parameters)]
    step = module.training_step(*arguments)
    loss = step["loss"] if isinstance(step, dict) else step
    assert loss.device.type == "meta"
    loss.backward()
    assert logged, "log_every_n_steps must be such that this step logs"


class OnMeta(Callback):
    """Repeats a training step of a run on the meta device, and ends the run."""

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        if batch_idx + 1 < BATCHES:
            return
        module.to("meta")
        try:
            check_step(module, move_data_to_device(batch, "meta"), batch_idx)
        finally:
            module.to_empty(device="cpu")  # which the end of the run asks for
        raise CheckedError


@pytest.mark.parametrize("name", sorted(EXPERIMENTS.keys() - DEPEND_ON_DATA))
def test_a_training_step_stays_on_the_device(name, monkeypatch, working_folder):
    write_mnist(working_folder / "mnist")
    original = cli.CommandLine.instantiate_trainer

    def with_check(self, **options):
        trainer = original(self, **options)
        trainer.callbacks.append(OnMeta())
        return trainer

    def stream(seed, *, device, **options):
        assert torch.device(device).type in ("meta", "cpu")
        return torch.Generator() if torch.device(device).type == "cpu" else None

    monkeypatch.setattr(cli.CommandLine, "instantiate_trainer", with_check)
    monkeypatch.setattr(learner, "torch_stream", stream)
    # What the meta device does not know.
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda device: False)
    with pytest.raises(CheckedError), patch(meta_nonzero_assume_all_nonzero=True):
        fit(name, "--trainer.log_every_n_steps", "1", "--trainer.num_sanity_val_steps", "0")
