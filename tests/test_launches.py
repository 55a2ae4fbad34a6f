"""Real launches by torchrun: two processes of one machine, and two machines of one process."""

import socket
import subprocess
import sys

import pytest
import torch

import small_runs

FIT = [
    *("-m", "rl_lightning", "fit", "--config", str(small_runs.CONFIGS / "a2c/cartpole.yaml")),
    *(*small_runs.EXPERIMENTS["a2c/cartpole"].split(), *small_runs.COMMON.split()),
    *("--trainer.max_epochs", "1", "--trainer.strategy", "ddp"),
]


@pytest.mark.slow
@pytest.mark.parametrize("machines", [1, 2])
def test_torchrun_starts_two_processes(machines, working_folder, store):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node"]
    torchrun += [str(2 // machines), "--nnodes", str(machines), "--master_addr", "127.0.0.1"]
    torchrun += ["--master_port", str(port), "--node_rank"]
    flags = ["--trainer.devices", str(2 // machines), "--trainer.num_nodes", str(machines)]
    started = [
        subprocess.Popen([*torchrun, str(node), *FIT, *flags], text=True, stdout=subprocess.PIPE)
        for node in range(machines)
    ]
    printed = [process.communicate(timeout=240)[0] for process in started]
    assert [process.returncode for process in started] == [0] * machines
    assert "".join(printed).count("Next: ") == 1
    (last,) = working_folder.glob("runs/*/*/checkpoints/last.ckpt")
    assert len(torch.load(last, weights_only=True)["learner"]["ranks"]) == 2
