"""Where a server keeps its files while it runs: a folder of its own, bounded in age and size, gone with the server.

A server that was killed could not remove it. So each holds a lock on a file in its folder, which the system lets go
whatever ends the process, and one that starts removes the folders of its own user whose lock nobody holds.
"""

import contextlib
import logging
import math
import os
import shutil
import stat
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from shortcut_gen.errors import SettingsError, ShortcutGenError
from shortcut_gen.files import Lock

try:
    import fcntl
except ImportError:  # Windows: nothing tells a live server's folder from a dead one's, so none is removed
    fcntl = None  # type: ignore[assignment]

log = logging.getLogger(__name__)

PREFIX = "shortcut-gen-"
LOCK = "server.lock"
TIDY_SECONDS = 60.0
"""Between two looks at what is kept."""
TEMPORARY_SECONDS = 3600.0
"""Of a file that was begun and is not needed any more, such as an upload that was cut."""
CUT_SECONDS = 300.0
"""After which an upload that grows no more has broken off: `ui.operate` waits for none so long."""


def claim() -> tuple[Path, Lock]:
    """A new folder, for this user alone, and the lock that says that its server lives. Raises SettingsError."""
    problem = ""
    for _ in range(5):
        try:
            folder = Path(tempfile.mkdtemp(prefix=PREFIX))
        except OSError as error:
            raise SettingsError(
                f"{tempfile.gettempdir()} cannot be written ({error.strerror}); set TMPDIR to a folder that can be"
            ) from error
        try:
            return folder, Lock(folder / LOCK, f"{folder} is another server's", SettingsError)
        except SettingsError as error:  # one that starts at the same moment took it for a dead one's
            shutil.rmtree(folder, ignore_errors=True)
            problem = str(error)
    raise SettingsError(problem)


def remove_dead(within: Path | None = None) -> int:
    """Remove the folders of servers that were killed. Returns how many there were.

    A folder is one of those where it has our name and a lock file that nobody holds, and is this user's own, no link.
    """
    if fcntl is None:
        return 0
    removed = 0
    for folder in Path(within or tempfile.gettempdir()).glob(f"{PREFIX}*"):
        try:
            about, lock = folder.lstat(), (folder / LOCK).lstat()
        except OSError:  # no lock: a server that begins right now, or none of ours
            continue
        if not (stat.S_ISDIR(about.st_mode) and stat.S_ISREG(lock.st_mode)):
            continue
        if not about.st_uid == lock.st_uid == os.getuid():
            continue
        try:
            held = Lock(folder / LOCK, "it lives", SettingsError)
        except ShortcutGenError:
            continue
        shutil.rmtree(folder, ignore_errors=True)
        held.release()
        removed += not folder.exists()
    return removed


def tidy(folder: Path, seconds: float) -> int:
    """Remove files that have not changed for so long, and folders that are long empty. Returns the bytes that stay."""
    total, now = 0, time.time()
    for path in sorted(folder.rglob("*"), reverse=True):  # what is in a folder before the folder
        with contextlib.suppress(OSError):  # gone meanwhile, or not empty
            about = path.lstat()
            old = now - about.st_ctime > seconds
            if stat.S_ISDIR(about.st_mode):
                if old and now - about.st_mtime > seconds:
                    path.rmdir()
            elif old:
                path.unlink()
            elif stat.S_ISREG(about.st_mode):
                total += about.st_size
    return total


def remove_cut(uploads: Path, seconds: float = CUT_SECONDS) -> None:
    """Remove what came of uploads that broke off: Gradio writes them beside the folders of those that came whole."""
    for path in uploads.glob("tmp*"):
        with contextlib.suppress(OSError):
            about = path.lstat()
            if stat.S_ISREG(about.st_mode) and time.time() - about.st_mtime > seconds:
                path.unlink()


def size(folder: Path) -> int:
    """Bytes of the files in a folder."""
    return tidy(folder, math.inf)


class Tidying:
    """Has what is kept looked over now and then, in a thread."""

    def __init__(self, tidy: Callable[[], None], every: float = TIDY_SECONDS) -> None:
        self._tidy, self._every = tidy, every
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._work, name="tidying", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """No more of it."""
        self._over.set()
        self._thread.join(5)

    def _work(self) -> None:
        while not self._over.wait(self._every):
            try:
                self._tidy()
            except Exception as error:  # such as a full disk: the next look may do better
                log.error("tidying failed", exc_info=error)
