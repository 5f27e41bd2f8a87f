"""What the server holds for each open page: the last run of every tab, with a flag to stop it and its results."""

import atexit
import secrets
import shutil
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from ui.live import LiveSound

KEEP_RUNS = 24
"""Runs whose results are kept, over all pages; the oldest goes first. One holds some 10 to 100 MB of sound."""
GRACE_SECONDS = 600.0
"""How long the results of a closed page stay: a laptop that slept comes back to them."""


@dataclass
class Run:
    """One click on Continue. Nothing in it is shared with another page or run."""

    folder: Path
    """Its results. The name is also the token by which the page asks for the sound while it is made."""
    older: list[Path]
    """Folders of earlier runs that the page still shows, until this one draws something."""
    stop: threading.Event = field(default_factory=threading.Event)
    sound: LiveSound = field(default_factory=LiveSound)
    closed_at: float | None = None


class Sessions:
    """The last run of every tab of every open page of one server, by the session hash that Gradio gives a page."""

    def __init__(self) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="shortcut-gen-"))
        self.results = self.root / "results"
        self.uploads = self.root / "uploads"
        self.results.mkdir()
        self.uploads.mkdir()
        self._runs: dict[tuple[str, str], Run] = {}
        self._lock = threading.Lock()
        atexit.register(self.clear)

    def start_run(self, page: str, tab: str = "") -> Run:
        """A tab of a page begins a run; the one before it is stopped. Its results stay until `forget_older`."""
        key = (page, tab)
        with self._lock:
            self._sweep(keep=key)
            before = self._runs.pop(key, None)
            if before is not None:
                before.stop.set()
            # An unguessable name: whoever has not been given the address of a file cannot ask for it.
            run = Run(self.results / secrets.token_hex(16), [] if before is None else [before.folder, *before.older])
            run.folder.mkdir(parents=True)
            self._runs[key] = run  # last in the order, so the oldest is first to go
            return run

    def live(self, token: str) -> LiveSound | None:
        """The sound of the run of that token, as long as it is kept."""
        with self._lock:
            return next((run.sound for run in self._runs.values() if run.folder.name == token), None)

    def forget_older(self, run: Run) -> None:
        """The run has something to show in place of what the page showed before."""
        with self._lock:
            while run.older:
                shutil.rmtree(run.older.pop(), ignore_errors=True)

    def stop(self, page: str, tab: str = "") -> None:
        """The tab's run is to end and keep what it has."""
        with self._lock:
            if run := self._runs.get((page, tab)):
                run.stop.set()

    def stop_all(self) -> None:
        """Every run is to end: the server does."""
        with self._lock:
            for run in self._runs.values():
                run.stop.set()
                run.sound.close()

    def close(self, page: str) -> None:
        """The page was closed: its runs end, their results go a while later."""
        with self._lock:
            for key, run in self._runs.items():
                if key[0] == page:
                    run.stop.set()
                    run.closed_at = time.monotonic()

    def clear(self) -> None:
        """Everything goes; the server ends."""
        with self._lock:
            for key in list(self._runs):
                self._discard(key)
            shutil.rmtree(self.root, ignore_errors=True)
        atexit.unregister(self.clear)

    def _sweep(self, keep: tuple[str, str]) -> None:
        now = time.monotonic()
        over = len(self._runs) + (keep not in self._runs) - KEEP_RUNS
        for place, (key, run) in enumerate(list(self._runs.items())):
            late = run.closed_at is not None and now - run.closed_at > GRACE_SECONDS
            if key != keep and (place < over or late):
                self._discard(key)

    def _discard(self, key: tuple[str, str]) -> None:
        if run := self._runs.pop(key, None):
            run.stop.set()
            run.sound.close()
            for folder in (run.folder, *run.older):
                shutil.rmtree(folder, ignore_errors=True)
