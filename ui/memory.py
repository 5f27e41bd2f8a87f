"""Memory that is not used any more goes back to the system.

glibc's allocator makes a heap for every few threads, eight for each processor, and keeps what is freed in one for what
that heap is asked for next. A server has dozens of threads, and each makes sound, pictures and answers of some hundred
kilobytes for a moment: every heap grows to the most that it ever held, with what lives long strewn among what is free.
After four minutes of 120 people as much was freed as was used. So there are few heaps here, and what is free in them is
given back when the process has grown. Other allocators are left as they are.
"""

import ctypes
import mmap
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any

HEAPS = 2
"""Of all threads; with one they wait for each other."""
LOOK_SECONDS = 2.0
"""Between two looks at how large the process is."""
GROWN_BYTES = 16 * 1024**2
"""By which it has grown when what is free is given back, which takes a tenth of a second for each half gigabyte."""
_ARENA_MAX = -8
"""`M_ARENA_MAX` of glibc's malloc.h."""
_STATM = Path("/proc/self/statm")


@lru_cache(1)
def _glibc() -> Any | None:
    """The C library, where it is glibc."""
    if not sys.platform.startswith("linux"):
        return None
    try:
        library = ctypes.CDLL(None)
    except OSError:
        return None
    return library if hasattr(library, "mallopt") and hasattr(library, "malloc_trim") else None  # others have neither


def few_heaps() -> bool:
    """Have all threads that begin from now on share a few heaps. Returns whether the allocator can do that."""
    library = _glibc()
    return library is not None and bool(library.mallopt(_ARENA_MAX, HEAPS))


def resident() -> int:
    """Bytes of this process that are in memory; 0 where the system does not say."""
    try:
        return int(_STATM.read_text(encoding="ascii").split()[1]) * mmap.PAGESIZE
    except (OSError, ValueError, IndexError):
        return 0


class GivingBack:
    """Is to be called now and then: where the process has grown, what is free goes back to the system."""

    def __init__(self) -> None:
        self._least = 0
        """Bytes that were in memory when it was smallest since."""

    def __call__(self) -> None:
        """A look. Other threads go on meanwhile, but for those that ask for memory just then."""
        library, now = _glibc(), resident()
        if library is None or not now:
            return
        if now - self._least > GROWN_BYTES:
            library.malloc_trim(0)
            now = self._least = resident()
        self._least = min(self._least, now)
