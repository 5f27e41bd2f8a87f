"""How the process keeps the memory of its activations."""

import ctypes
import sys

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4  # glibc's malloc.h


def keep_freed_memory() -> bool:
    """Tell glibc to keep what is freed; whether it was glibc and did.

    A step frees and allocates the same hundreds of MiB as the step before. Handed back to the system each time, they
    come again as pages to be cleared: 8 to 16% of a step of the paper's models on a CPU. For a process that trains and
    nothing else: what it took at its peak it has to its end.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return bool(mallopt(_MMAP_MAX, 0) and mallopt(_TRIM_THRESHOLD, 2**31 - 1) and mallopt(_TOP_PAD, 2**26))
