"""What errors of Lightning and torch mean."""

import multiprocessing
import os
import socket

import pytest
import torch
from lightning import Trainer
from torch import distributed as dist

from rl_lightning.lightning_adapter.errors import is_lost_connection, refuses_settings
from small_module import SmallModule
from trainers import quiet


def error_of(function, *arguments, **options):
    with pytest.raises(Exception) as caught:  # noqa: PT011
        function(*arguments, **options)
    return caught.value


def test_lightnings_own_error_refuses_settings():
    assert refuses_settings(error_of(Trainer, accelerator="abacus"))
    module = SmallModule()
    of_call = error_of(quiet(limit_train_batches=0.1, max_epochs=1).fit, module, module.loader(2))
    assert refuses_settings(of_call)


def test_torchs_error_about_an_argument_of_an_optimizer_refuses_settings():
    weights = [torch.zeros(1, requires_grad=True)]
    assert refuses_settings(error_of(torch.optim.Adam, weights, lr=-1))


def test_an_error_in_a_module_or_in_a_wrong_call_does_not():
    class Wrong(SmallModule):
        def training_step(self, batch, batch_idx):
            raise ValueError("of the module")

    module = Wrong()
    assert not refuses_settings(error_of(quiet(max_epochs=1).fit, module, module.loader()))
    assert not refuses_settings(error_of(Trainer, unknown_flag=1))
    assert not refuses_settings(ValueError("never raised"))


def lose_a_rank(rank, port, connection):
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": f"{port}"}
    dist.init_process_group("gloo", rank=rank, world_size=2)
    dist.barrier()
    if rank == 1:
        os._exit(0)
    try:
        for _ in range(100):
            dist.all_reduce(torch.ones(1))
    except RuntimeError as error:
        connection.send(is_lost_connection(error))
    os._exit(0)


def test_gloo_says_that_the_other_process_has_ended():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    here, there = multiprocessing.Pipe()
    start = multiprocessing.get_context("fork").Process
    ranks = [start(target=lose_a_rank, args=(rank, port, there)) for rank in (0, 1)]
    for each in ranks:
        each.start()
    assert here.poll(60)
    assert here.recv()
    for each in ranks:
        each.join()
    assert not is_lost_connection(RuntimeError("the joystick is unplugged"))
