import os

import pytest
import torch

from rl_lightning.runtime.memory import memory_of

HOST = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
SYS = "sys/fs/cgroup"


@pytest.mark.parametrize(
    ("groups", "limits", "expected"),
    [
        (None, {}, HOST),
        ("0::/", {f"{SYS}/memory.max": "max"}, HOST),
        ("0::/", {f"{SYS}/memory.max": "2000000"}, 2_000_000),
        ("0::/a/b", {f"{SYS}/a/memory.max": "9000", f"{SYS}/a/b/memory.max": "max"}, 9000),
        ("0::/of/host", {f"{SYS}/memory.max": "7000"}, 7000),
        (
            "5:cpu:/x\n4:memory:/docker/a\n0::/",
            {f"{SYS}/memory/docker/a/memory.limit_in_bytes": "5000"},
            5000,
        ),
        ("4:memory:/", {f"{SYS}/memory/memory.limit_in_bytes": f"{2**63 - 4096}"}, HOST),
    ],
)
def test_memory_is_the_containers(tmp_path, groups, limits, expected):
    if groups is not None:
        (tmp_path / "proc/self").mkdir(parents=True)
        (tmp_path / "proc/self/cgroup").write_text(groups)
    for name, limit in limits.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"{limit}\n")
    assert memory_of(torch.device("cpu"), tmp_path) == expected
