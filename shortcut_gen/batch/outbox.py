"""Results that go to a URL: each is made in a folder here, sent, and removed; the manifest is sent now and then."""

import contextlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from shortcut_gen.batch.manifest import MANIFEST, MAX_MANIFEST_BYTES
from shortcut_gen.errors import MediaError, ShortcutGenError
from shortcut_gen.places import Store, Url

EVERY_SECONDS = 10.0
"""Between two sendings of the manifest, which goes as a whole: S3 cannot append. A killed run makes again what it had
made since the last."""


class Outbox:
    """A folder of results at a URL, and the one here that they are made in. There is no lock at a URL."""

    def __init__(self, url: Url, folder: Path) -> None:
        """Takes over the manifest of earlier runs. Raises MediaError."""
        self._store, self._folder = Store(url, MediaError), folder
        self._there = self._store.names()
        if MANIFEST in self._there:
            if self._there[MANIFEST] > MAX_MANIFEST_BYTES:
                raise MediaError(
                    f"{url}/{MANIFEST} has more than {MAX_MANIFEST_BYTES:,} bytes; another --out is needed"
                )
            self._store.download(MANIFEST, folder / MANIFEST)
        self._sent = time.monotonic()

    def has(self, name: str) -> bool:
        """Whether a file was there when the run began."""
        return self._there.get(name, -1) >= 0

    def send(self, record: dict[str, Any]) -> None:
        """Send the files of a record, before it is noted, and free their place here. Raises MediaError."""
        for name in (record.get("midi"), record.get("wav")):
            if name:
                self._store.upload(self._folder / name, name)
                (self._folder / name).unlink()

    def send_manifest(self, at_once: bool = False) -> None:
        """Send the manifest, if it is time. Raises MediaError."""
        if at_once or time.monotonic() - self._sent >= EVERY_SECONDS:
            path = self._folder / MANIFEST
            if not path.exists():
                path.touch()
            self._store.upload(path, MANIFEST)
            self._sent = time.monotonic()


@contextmanager
def outbox(url: Url) -> Iterator[tuple[Outbox, Path]]:
    """What sends results to a URL, and the folder to make them in, for the time being. Raises MediaError."""
    with TemporaryDirectory(prefix="shortcut-gen-") as name:
        yield Outbox(url, Path(name)), Path(name)


@contextmanager
def manifest_sent(box: Outbox | None) -> Iterator[None]:
    """Sends the manifest first, which shows that files can be kept there, and at the end, however that comes."""
    if box is None:
        yield
        return
    box.send_manifest(at_once=True)
    try:
        yield
    except BaseException:
        with contextlib.suppress(ShortcutGenError):  # the first error is the one to tell
            box.send_manifest(at_once=True)
        raise
    box.send_manifest(at_once=True)
