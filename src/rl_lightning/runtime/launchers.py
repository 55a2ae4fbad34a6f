"""What the environment variables of launchers (torchrun, SLURM's srun, …) say about ranks.

It imports nothing but the standard library, because Lightning reads the variables when it is
imported.
"""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from rl_lightning.runtime.errors import ConfigurationError

if TYPE_CHECKING:
    from lightning import Trainer

_RANK_VARIABLES = re.compile(
    r"(GLOBAL_|LOCAL_|GROUP_|ROLE_|NODE_)?RANK|(LOCAL_|GROUP_|ROLE_)?WORLD_SIZE|ROLE_NAME"
    r"|MASTER_(ADDR|PORT)|TORCHELASTIC_\w+"
    r"|SLURM_(PROCID|LOCALID|NODEID|NPROCS|NTASKS\w*|TASKS_PER_NODE|GTIDS|STEP_?\w+)"
    r"|JSM_NAMESPACE_\w+|OMPI_COMM_WORLD_\w+|PMI_\w+|PMIX_\w+|MPI_LOCAL\w+"
)
# Lightning does not take the tasks of such a SLURM job for ranks.
_INTERACTIVE_JOBS = ("bash", "interactive")


class LauncherError(ConfigurationError):
    """The variables of a launcher contradict each other or the Trainer.

    Every process prints it, because a process with the variable RANK=1 may be the only one.
    """


class Launch(NamedTuple):
    """This process, as its launcher sees it. None is not known."""

    launcher: str
    rank: int | None
    local_rank: int | None
    world_size: int | None


def without_rank_variables(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment without the variables that say which rank of a run a process is.

    A process that starts other runs, such as a study, gives them this environment. Otherwise each
    of them would take itself for that rank.
    """
    return {key: value for key, value in environ.items() if not _RANK_VARIABLES.fullmatch(key)}


def launch_of(environ: Mapping[str, str]) -> Launch | None:
    """Read rank and number of processes from environment variables.

    Returns:
        None if no launcher has set any.

    Raises:
        LauncherError: If a number is missing, is not a number or is out of range.
    """
    # The order is Lightning's. torchrun may run inside SLURM, and Lightning sets LOCAL_RANK alone
    # for the processes that it starts itself.
    keys: tuple[str | None, str, str | None]
    if "RANK" in environ:
        elastic = "TORCHELASTIC_RUN_ID" in environ
        launcher = "torchrun" if elastic else "a launcher (RANK, WORLD_SIZE)"
        keys = ("RANK", "LOCAL_RANK", "WORLD_SIZE")
    elif "LOCAL_RANK" in environ:
        launcher = "a launcher (LOCAL_RANK)"
        keys = (None, "LOCAL_RANK", "WORLD_SIZE" if "WORLD_SIZE" in environ else None)
    elif "SLURM_PROCID" in environ and environ.get("SLURM_JOB_NAME") not in _INTERACTIVE_JOBS:
        launcher, keys = "SLURM", ("SLURM_PROCID", "SLURM_LOCALID", "SLURM_NTASKS")
    elif "JSM_NAMESPACE_RANK" in environ:
        keys = ("JSM_NAMESPACE_RANK", "JSM_NAMESPACE_LOCAL_RANK", "JSM_NAMESPACE_SIZE")
        launcher = "LSF"
    else:
        return None
    launch = Launch(launcher, *(None if key is None else _number(environ, key) for key in keys))
    if launch.rank is not None and launch.rank >= (launch.world_size or 0):
        raise LauncherError(
            f"{keys[0]} is {launch.rank} and {keys[2]} is {launch.world_size}, and ranks count "
            f"from 0: start the processes with torchrun, or unset {keys[0]}"
        )
    return launch


def _number(environ: Mapping[str, str], key: str) -> int:
    text = environ.get(key)
    if text is None or not re.fullmatch(r"[0-9]{1,9}", text):
        given = "not set" if text is None else f"{text!r}, which is not a number of at least 0"
        raise LauncherError(
            f"the environment variable {key} is {given}, although other variables say that this "
            "process is one of several: start it with torchrun or srun, or unset the variables of "
            "ranks (RANK, LOCAL_RANK, SLURM_PROCID)"
        )
    return int(text)


def check_ranks(trainer: "Trainer", environ: Mapping[str, str]) -> None:
    """Compare the processes that a launcher has started with those that a Trainer expects.

    Raises:
        LauncherError: If rank or number differ.
    """
    launch = launch_of(environ)
    if launch is None:
        return
    if launch.world_size not in (None, trainer.world_size):
        raise LauncherError(
            f"{launch.launcher} has started {launch.world_size} processes, and trainer.devices × "
            f"trainer.num_nodes is {trainer.world_size}: give --trainer.devices (processes on each "
            "machine), --trainer.num_nodes (machines) and --trainer.strategy ddp, or start one "
            "process"
        )
    ours = (launch.rank, launch.local_rank)
    theirs = (trainer.global_rank, trainer.local_rank)
    if any(one not in (None, other) for one, other in zip(ours, theirs, strict=True)):
        raise LauncherError(
            f"{launch.launcher} says that this process is rank {ours[0]} (local {ours[1]}), and "
            f"the Trainer says rank {theirs[0]} (local {theirs[1]}): start the processes with "
            "torchrun or srun, or unset RANK, LOCAL_RANK and WORLD_SIZE"
        )
