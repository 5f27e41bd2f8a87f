"""The server's files: uploads, results and what libraries write in passing, in one folder; and the sound of prompts."""

import secrets
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from shortcut_gen.errors import SettingsError
from ui.results import Result, address
from ui.storage import claim, remove_cut, size, tidy
from ui.text import refusals

READINGS_AT_ONCE = 2
"""Files that are read and drawn at a time, over all pages."""
READING_WAIT = 8.0
"""Seconds that a file waits for its turn; then the page says that the server is busy."""
KEEP_PROMPTS = 32
"""Prompts whose sound is kept to be played, over all pages; one holds some 30 MB at most."""


class Folders:
    """Of one server, in a folder of its own that goes with it."""

    def __init__(self) -> None:
        self.root, self._lives = claim()
        self.results, self.uploads, self.temporary = (self.root / name for name in ("results", "uploads", "temporary"))
        for folder in (self.results, self.uploads, self.temporary):
            folder.mkdir()
        self._readings = threading.BoundedSemaphore(READINGS_AT_ONCE)

    def stored(self) -> dict[str, int]:
        """Bytes that are kept, by what they are."""
        return {folder.name: size(folder) for folder in (self.results, self.uploads, self.temporary)}

    def tidy(self, upload_seconds: float, temporary_seconds: float) -> None:
        """Uploads and what libraries left go once they are older, and what cut uploads left."""
        tidy(self.uploads, upload_seconds)
        remove_cut(self.uploads)
        tidy(self.temporary, temporary_seconds)

    def is_upload(self, path: str | Path) -> bool:
        """Whether a path is that of an upload that is there."""
        try:
            there = Path(path).resolve()
            return there.is_relative_to(self.uploads.resolve()) and there.is_file()
        except (OSError, RuntimeError, ValueError):
            return False

    @contextmanager
    def reading(self) -> Iterator[None]:
        """A turn to read a file. Raises SettingsError where others take too long."""
        if not self._readings.acquire(timeout=READING_WAIT):
            raise SettingsError(refusals.BUSY_FILES)
        try:
            yield
        finally:
            self._readings.release()

    def clear(self) -> None:
        """Everything goes; the server ends."""
        shutil.rmtree(self.root, ignore_errors=True)
        self._lives.release()


class Prompts:
    """The sound of the prompts that pages show, each made when it is first asked for."""

    def __init__(self, folder: Path) -> None:
        """folder: where each has one of its own."""
        self._folder = folder
        self._held: dict[tuple[str, str], tuple[str, str, Result]] = {}
        """The source of each, its token, its sound."""
        self._lock = threading.Lock()

    def keep(self, page: str, tab: str, source: str, name: str, write: Callable[[Path], None]) -> str:
        """Where the page finds the sound of its prompt, made when first asked for; that of the one before it goes.

        source: what tells prompts apart. name: of the file.
        """
        key = (page, tab)
        with self._lock:
            before = self._held.pop(key, None)
            if before is None or before[0] != source:
                old = [] if before is None else [before]
                while len(self._held) >= KEEP_PROMPTS:
                    old.append(self._held.pop(next(iter(self._held))))
                for _, token, _ in old:
                    shutil.rmtree(self._folder / token, ignore_errors=True)
                folder = self._folder / secrets.token_hex(16)
                folder.mkdir(parents=True)
                before = source, folder.name, Result(folder / name, write)
            self._held[key] = before
            return address(before[1], name)

    def find(self, token: str, name: str) -> Result | None:
        """A prompt's file, by its token."""
        with self._lock:
            found = (held for _, kept, held in self._held.values() if kept == token and held.name == name)
            return next(found, None)
