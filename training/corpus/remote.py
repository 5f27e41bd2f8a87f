"""Corpora by URL: read from a copy in the cache, written shard by shard, the manifest last."""

import contextlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from hashlib import sha256
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any

from shortcut_gen.errors import DataError
from shortcut_gen.files import Lock, parse_json, reason, write_whole
from shortcut_gen.places import Store, Url, cached
from training.corpus.plan import PROGRESS, PlannedShard
from training.corpus.shards import (
    FORMAT,
    MANIFEST,
    MAX_MANIFEST_BYTES,
    Corpus,
    Shard,
    file_sha256,
)

_PLAN = f"{PROGRESS}/plan.json"


def open_at(url: Url) -> Corpus:
    """The corpus at a URL, all of it copied into the cache where it is not there yet, each shard checked by its hash.

    A copy belongs to the manifest's content; what is cut off goes on with the shards that lack. Raises DataError.
    """
    store = Store(url, DataError)
    content = store.read(MANIFEST, MAX_MANIFEST_BYTES)
    if content is None:
        store.names()  # says so where the bucket is not there
        raise DataError(f"{url} is no prepared corpus: it has no {MANIFEST}; see training.prepare")
    folder = cached(url, sha256(content).hexdigest())
    shards = _shards(url, content)
    if not (folder / MANIFEST).is_file() or any(_lacks(folder, shard) for shard in shards):
        with _alone(folder):
            for shard in shards:
                if _lacks(folder, shard):
                    store.download(shard.file, folder / shard.file, partial(_check, url, shard))
            write_whole(folder / MANIFEST, content, DataError)
    return Corpus.open(folder)


def _shards(url: Url, content: bytes) -> list[Shard]:
    """The shards that a manifest names, by paths that lie inside the folder."""
    where = f"{url}/{MANIFEST}"
    try:
        manifest = parse_json(content)
        if manifest["format"] != FORMAT:
            raise DataError(f"{where} is of format {manifest['format']}; format {FORMAT} is needed")
        shards = [Shard.from_dict(shard) for split in manifest["splits"].values() for shard in split["shards"]]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{where} is damaged ({error}); prepare the corpus again") from error
    for shard in shards:
        path = PurePosixPath(shard.file)
        if Path(shard.file).is_absolute() or path.is_absolute() or ".." in path.parts or "\\" in shard.file:
            raise DataError(f"{where} names {shard.file}, which is outside the corpus folder")
    return shards


def _lacks(folder: Path, shard: Shard) -> bool:
    path = folder / shard.file
    return not path.is_file() or path.stat().st_size != shard.file_bytes


def _check(url: Url, shard: Shard, path: Path) -> None:
    if file_sha256(path) != shard.sha256:
        raise DataError(f"{url}/{shard.file} is damaged (its hash differs); prepare the corpus again")


class _TakenError(DataError):
    """Another process fills the folder."""


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Waits until no other process of this machine, such as another rank of the same training, fills the folder."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{folder} cannot be made: {reason(error)}") from error
    busy = f"{folder} is being filled by another process"
    while True:
        try:
            lock = Lock(folder / ".lock", busy, _TakenError)
            break
        except _TakenError as error:
            if str(error) != busy:
                raise
            time.sleep(0.2)
    with lock:
        yield


class Upload:
    """A corpus that is written here, in a folder that is emptied as it is filled, and goes to a URL.

    What is done is recorded at the URL, so it can go on from any machine. Two preparations of one URL at once are not
    kept apart.
    """

    def __init__(self, url: Url, folder: Path) -> None:
        """Takes over what an earlier preparation recorded. Raises DataError."""
        self.url, self.folder = url, folder
        self._store = Store(url, DataError)
        self._sizes: dict[str, dict[str, int]] = {}
        self._records = set(self._store.names(PROGRESS))
        begun = [*([MANIFEST] if self._store.info(MANIFEST) else []), *(f"{PROGRESS}/{one}" for one in self._records)]
        if not {MANIFEST, _PLAN} & set(begun) and self._store.names():
            raise DataError(f"{url} holds other files; a new or empty folder is needed")
        for name in begun:
            self._store.download(name, folder / name)

    def begun(self) -> None:
        """Put the plan there, before minutes go into what could not be kept."""
        if "plan.json" not in self._records:
            self._store.upload(self.folder / _PLAN, _PLAN)

    def has(self, shard: PlannedShard, record: dict[str, Any]) -> bool:
        """Whether the file of a recorded shard is there, whole."""
        if shard.split not in self._sizes:
            self._sizes[shard.split] = self._store.names(shard.split)
        try:
            whole = Shard.from_dict(record["shard"]).file_bytes
        except (ValueError, KeyError, TypeError):
            return False
        return self._sizes[shard.split].get(PurePosixPath(shard.file).name) == whole

    def put(self, shard: PlannedShard) -> None:
        """Send a finished shard, then its record, and free its place here."""
        self._store.upload(self.folder / shard.file, shard.file)
        self._store.upload(self.folder / shard.record, shard.record)
        (self.folder / shard.file).unlink()

    def finish(self, plan_shards: tuple[PlannedShard, ...]) -> None:
        """Send the manifest, then take the progress away."""
        self._store.upload(self.folder / MANIFEST, MANIFEST)
        self.clear(plan_shards, files=False)

    def clear(self, plan_shards: tuple[PlannedShard, ...], *, files: bool) -> None:
        """Take away the progress and, if asked, the shards."""
        names = [shard.file for shard in plan_shards] if files else []
        for name in [*names, *(f"{PROGRESS}/{one}" for one in self._store.names(PROGRESS))]:
            with contextlib.suppress(DataError):
                self._store.remove(name)
        for folder in (PROGRESS, *({shard.split for shard in plan_shards} if files else ())):
            self._store.remove_folder(folder)


@contextmanager
def uploading(url: Url) -> Iterator[Upload]:
    """A folder for the time being, and what sends it to a URL. Raises DataError."""
    with TemporaryDirectory(prefix="shortcut-gen-") as folder:
        yield Upload(url, Path(folder))
