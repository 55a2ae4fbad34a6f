"""The memory that a process can use."""

import os
from collections.abc import Iterator
from pathlib import Path

import torch


def memory_of(device: torch.device, root: Path = Path("/")) -> int:
    """Total memory of a device in bytes; on the CPU the container's, if that is less.

    Args:
        device: A device of torch.
        root: Folder with Linux's `proc` and `sys`.
    """
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    host = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([host, *_cgroup_limits(root)])


def _cgroup_limits(root: Path) -> Iterator[int]:
    """Memory limits of this process's control groups, versions 1 and 2, and of those above."""
    groups = root / "proc/self/cgroup"
    for line in groups.read_text().splitlines() if groups.is_file() else ():
        _, controllers, path = line.split(":", 2)
        if controllers not in ("", "memory"):
            continue
        top = root / "sys/fs/cgroup" / controllers
        name = "memory.limit_in_bytes" if controllers else "memory.max"
        # In a container the path may be the host's. Then its own limit is at the top.
        for folder in {*(here := top / path.lstrip("/")).parents, here}:
            limit = folder / name
            if folder.is_relative_to(top) and limit.is_file():
                text = limit.read_text().strip()
                if text.isdigit():  # without a limit it is "max"
                    yield int(text)
