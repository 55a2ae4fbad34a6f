import platform
import subprocess
import sys

import pytest

_FAULTS = """
import ctypes, resource, sys
from rl_lightning.runtime.allocator import return_freed_memory, keep_freed_memory

if sys.argv[1] != "default":
    assert keep_freed_memory()
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]
libc.memset.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
def update():
    blocks = [libc.malloc(4 << 20) for _ in range(20)]
    for block in blocks:
        libc.memset(block, 0, 4 << 20)
    for block in blocks:
        libc.free(block)
    if sys.argv[1] == "given back":
        return_freed_memory()
for _ in range(10):
    update()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    update()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults(mode: str) -> int:
    """Page faults of ten updates that each use and free 20 blocks of 4 MB, in a new process."""
    command = [sys.executable, "-c", _FAULTS, mode]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="tells glibc alone")
@pytest.mark.parametrize("mode", ["default", "given back"])
def test_an_update_reuses_the_pages_of_the_last_unless_they_were_returned(mode: str) -> None:
    assert 100 * page_faults("kept") < page_faults(mode)
