"""Rank variables: which of them are refused, and what a child process gets."""

import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from rl_lightning.runtime.launchers import (
    LauncherError,
    check_ranks,
    launch_of,
    without_rank_variables,
)

TORCHRUN = {"TORCHELASTIC_RUN_ID": "none", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29400"}
SRUN = {"SLURM_JOB_ID": "5", "SLURM_JOB_NAME": "train", "SLURM_NTASKS_PER_NODE": "2"}


def torchrun(rank, world_size):
    return TORCHRUN | {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world_size}


def srun(rank, world_size):
    return SRUN | {"SLURM_PROCID": rank, "SLURM_LOCALID": rank, "SLURM_NTASKS": world_size}


def trainer(rank, world_size):
    return SimpleNamespace(global_rank=rank, local_rank=rank, world_size=world_size)


@pytest.mark.parametrize("launch", [torchrun, srun])
def test_equal_ranks_are_accepted_and_others_refused(launch):
    check_ranks(trainer(1, 2), launch("1", "2"))
    check_ranks(trainer(0, 1), launch("0", "1"))
    with pytest.raises(LauncherError, match=r"has started 2 processes.*is 1: give --trainer"):
        check_ranks(trainer(0, 1), launch("1", "2"))
    with pytest.raises(LauncherError, match="is rank 1"):
        check_ranks(trainer(0, 2), launch("1", "2"))


@pytest.mark.parametrize(
    ("environ", "says"),
    [
        ({"RANK": "x", "LOCAL_RANK": "0", "WORLD_SIZE": "2"}, "RANK is 'x'"),
        ({"RANK": "1", "LOCAL_RANK": "0"}, "WORLD_SIZE is not set"),
        ({"RANK": "1", "WORLD_SIZE": "2"}, "LOCAL_RANK is not set"),
        ({"RANK": "-1", "LOCAL_RANK": "0", "WORLD_SIZE": "2"}, "RANK is '-1'"),
        ({"RANK": "3", "LOCAL_RANK": "0", "WORLD_SIZE": "2"}, "RANK is 3 and WORLD_SIZE is 2"),
        ({"LOCAL_RANK": ""}, "LOCAL_RANK is ''"),
        (SRUN | {"SLURM_PROCID": "1", "SLURM_LOCALID": "1"}, "SLURM_NTASKS is not set"),
    ],
)
def test_contradictions_are_refused(environ, says):
    with pytest.raises(LauncherError, match=says):
        launch_of(environ)


def test_an_interactive_slurm_job_is_one_process():
    assert launch_of(srun("0", "4") | {"SLURM_JOB_NAME": "bash"}) is None
    assert launch_of({}) is None


def test_a_child_gets_no_rank():
    kept = {"PATH": "/bin", "SLURM_JOB_ID": "5", "MLFLOW_TRACKING_URI": "u", "MY_RANK": "1"}
    for launch in (torchrun, srun):
        cleaned = without_rank_variables(kept | launch("1", "2"))
        assert launch_of(cleaned) is None
        assert {*kept} <= {*cleaned} <= {*kept, *SRUN} - {"SLURM_NTASKS_PER_NODE"}


@pytest.mark.parametrize(("launch", "rank"), [(torchrun, "1"), (srun, "0")])
def test_a_process_without_devices_is_refused_in_one_line_on_every_rank(
    launch, rank, working_folder
):
    command = [sys.executable, "-m", "rl_lightning", "fit", "--config", "a2c/cartpole"]
    environ = without_rank_variables(os.environ) | launch(rank, "2")
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=120)
    errors = [line for line in done.stderr.splitlines() if "rl_lightning: error:" in line]
    assert (done.returncode, len(errors)) == (2, 1), done.stderr
    assert "has started 2 processes" in errors[0]
    assert "Traceback" not in done.stderr
    assert not [*working_folder.iterdir()]
