"""Settings of glibc's memory allocator, which save time in every update."""

import ctypes
import platform

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h
_NEVER, _LARGEST_MMAP_THRESHOLD = -1, 32 << 20


def _is_glibc() -> bool:
    return platform.libc_ver()[0] == "glibc"


def keep_freed_memory() -> bool:
    """Keep freed blocks of up to 32 MB in the process for the next update.

    By default glibc returns the memory of a convolutional network's activations and gradients to
    the kernel after each update, and the next update has a page fault for each page. Larger blocks,
    such as a replay ring, are still returned when they are freed.

    Returns:
        Whether the settings were made. It is False with other C libraries than glibc.
    """
    if not _is_glibc():
        return False
    libc = ctypes.CDLL(None)
    kept = libc.mallopt(_M_TRIM_THRESHOLD, _NEVER)
    return bool(kept and libc.mallopt(_M_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD))


def return_freed_memory() -> None:
    """Return free memory to the kernel, after a step that needed far more than an update."""
    if _is_glibc():
        ctypes.CDLL(None).malloc_trim(0)
