"""A file that one process at a time may hold."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from shortcut_gen.errors import DataError


@contextmanager
def locked(path: Path, busy: str) -> Iterator[None]:
    """Hold the file; a killed process leaves it free.

    Raises DataError, which says `busy`, where another process holds it, and OSError.
    """
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DataError(busy) from None
        yield
