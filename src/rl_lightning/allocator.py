"""glibc's allocator, told to keep what learning frees and asks for again at every update."""

import ctypes
import platform

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h
_NEVER, _LARGEST_MMAP_THRESHOLD = -1, 32 << 20


def _is_glibc() -> bool:
    return platform.libc_ver()[0] == "glibc"


def keep_freed_memory() -> bool:
    """Let blocks of up to 32 MB be used again, in place of pages fresh from the kernel.

    By default glibc gives the activations and gradients of a convolutional network back after each
    update, and each new page of the next is a page fault. What is larger, such as a replay ring, is
    still given back when it is freed. Returns whether this process runs on glibc; elsewhere
    nothing is changed.
    """
    if not _is_glibc():
        return False
    libc = ctypes.CDLL(None)
    kept = libc.mallopt(_M_TRIM_THRESHOLD, _NEVER)
    return bool(kept and libc.mallopt(_M_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD))


def give_back_freed_memory() -> None:
    """Return to the kernel what is free now, after something that took far more than an update."""
    if _is_glibc():
        ctypes.CDLL(None).malloc_trim(0)
