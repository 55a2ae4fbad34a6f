"""Settings of glibc's allocator: memory that every update frees and allocates again is kept."""

import ctypes
import platform

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h
_NEVER, _LARGEST_MMAP_THRESHOLD = -1, 32 << 20


def _is_glibc() -> bool:
    return platform.libc_ver()[0] == "glibc"


def keep_freed_memory() -> bool:
    """Keep freed blocks of up to 32 MB in the process.

    By default glibc returns the activations and gradients of a convolutional network to the
    kernel after each update, and the next update has a page fault for each page. Larger blocks,
    such as a replay ring, are still returned when they are freed.

    Returns:
        Whether the settings were made: only glibc has them.
    """
    if not _is_glibc():
        return False
    libc = ctypes.CDLL(None)
    kept = libc.mallopt(_M_TRIM_THRESHOLD, _NEVER)
    return bool(kept and libc.mallopt(_M_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD))


def give_back_freed_memory() -> None:
    """Return free memory to the kernel, after a step that needed far more than an update."""
    if _is_glibc():
        ctypes.CDLL(None).malloc_trim(0)
