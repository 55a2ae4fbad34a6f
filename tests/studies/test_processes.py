"""Processes of runs."""

import signal
from types import SimpleNamespace

import pytest
import torch

from rl_lightning.callbacks.safeguards import Safeguards
from rl_lightning.runtime.errors import DivergedError
from rl_lightning.studies import processes
from rl_lightning.studies.processes import RunningCommand, drop_rank_variables


def _ended(tmp_path, exitcode, output):
    (tmp_path / "output.log").write_text(output)
    command = object.__new__(RunningCommand)
    command._log, command._process = tmp_path / "output.log", SimpleNamespace(exitcode=exitcode)
    return command.error


def test_an_error_is_the_signal_or_the_last_line_of_the_output(tmp_path):
    killed = _ended(tmp_path, -signal.SIGKILL, "epoch 3: 500 steps\n")
    assert killed.startswith("killed by SIGKILL, as the system does when memory is used up")
    assert "epoch" not in killed
    assert _ended(tmp_path, -signal.SIGSEGV, "epoch 3\n").startswith("killed by SIGSEGV (")
    refused = _ended(tmp_path, 2, "line\nrl_lightning: error: the loss is nan\n")
    assert refused.startswith("the loss is nan (")
    stopped = _ended(tmp_path, 143, "rl_lightning: SIGTERM stopped the run at update 3\n")
    assert stopped.startswith("SIGTERM stopped the run at update 3")
    assert "printed nothing" in _ended(tmp_path, 1, "")


def test_the_variables_of_launchers_are_dropped(monkeypatch):
    monkeypatch.setattr(processes.os, "environ", environ := {
        "RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "NODE_RANK": "0", "GROUP_RANK": "0",
        "MASTER_ADDR": "a", "MASTER_PORT": "1", "SLURM_PROCID": "1", "SLURM_NTASKS": "2",
        "TORCHELASTIC_RUN_ID": "a", "OMPI_COMM_WORLD_RANK": "1", "LOCAL_WORLD_SIZE": "2",
        "PATH": "/bin", "MLFLOW_TRACKING_URI": "a", "OMP_NUM_THREADS": "1", "RANKING": "kept",
    })  # fmt: skip
    drop_rank_variables()
    assert {*environ} == {"PATH", "MLFLOW_TRACKING_URI", "OMP_NUM_THREADS", "RANKING"}


def test_a_loss_of_nan_is_a_divergence():
    trainer = SimpleNamespace(
        global_step=3, datamodule=None, checkpoint_callbacks=[], ckpt_path=None, loggers=[]
    )
    safeguards, module = Safeguards(), torch.nn.Linear(1, 1)
    safeguards._batch = (torch.zeros(1),)
    with pytest.raises(DivergedError):
        safeguards.on_before_backward(trainer, module, torch.tensor(float("nan")))
    module.weight.data.fill_(float("nan"))
    with pytest.raises(DivergedError):
        safeguards.on_save_checkpoint(trainer, module, {})


def test_waiting_for_a_run_that_does_not_end_kills_it(monkeypatch):
    monkeypatch.setattr(processes, "TIME_TO_END", 0.1)
    sent = []
    command = object.__new__(RunningCommand)
    process = SimpleNamespace(join=lambda timeout=None: None, exitcode=None)
    command._process = process
    monkeypatch.setattr(RunningCommand, "stop", lambda self, signum: sent.append(signum))
    command.wait()
    assert sent == [signal.SIGKILL]
    process.exitcode = 0
    command.wait()
    assert sent == [signal.SIGKILL], "it has ended by itself"
