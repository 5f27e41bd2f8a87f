"""Places that are named by URL, such as s3://bucket/piano: read and written through fsspec, which is imported for them
alone. A path is a path as ever.

Nothing is appended to and nothing locked there, as S3 can do neither: a file appears whole, and the last writer wins.
"""

import contextlib
import hashlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, Self

from shortcut_gen.errors import ShortcutGenError
from shortcut_gen.files import reason

CACHE = "SHORTCUT_GEN_CACHE"
"""Variable with the folder that what is fetched is kept in; shortcut-gen in the user's folder for caches if not set."""
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://[^/].*|file:///.+")
_STAMPS = ("ETag", "etag", "md5", "md5Hash", "LastModified", "last_modified", "mtime", "updated", "created")
"""What stores call that which changes with an object's content."""


class Url(str):
    """A folder's address, SCHEME://..., without a slash at its end. Raises ValueError on what is none."""

    __slots__ = ()

    def __new__(cls, text: str) -> Self:  # noqa: D102 (the class says it)
        if not is_url(text):
            raise ValueError(f"{text!r} is no URL; SCHEME://NAME is needed")
        return super().__new__(cls, text.rstrip("/"))

    @property
    def name(self) -> str:
        """What stands behind its last slash."""
        return self.rpartition("/")[2]

    @property
    def parent(self) -> "Url | None":
        """The folder around it; None where there is none."""
        above = self.rpartition("/")[0]
        return Url(above) if is_url(above) else None

    def __truediv__(self, name: str) -> "Url":
        return Url(f"{self}/{name}")


Place = Url | Path


def is_url(name: object) -> bool:
    """Whether a name is a URL and no path."""
    return isinstance(name, str) and _URL.fullmatch(name) is not None


class _Place:
    """What `place` is: no function, as the help of a command shows it as an option's type."""

    def __call__(self, name: str | os.PathLike[str]) -> Place:
        return Url(name) if isinstance(name, str) and is_url(name) else Path(name)

    def __repr__(self) -> str:
        return "path or URL"


place = _Place()
"""A path, or a URL where the name is one."""


def cache_folder() -> Path:
    """The folder that what is fetched is kept in; nothing is ever removed from it."""
    if named := os.environ.get(CACHE):
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "shortcut-gen"


def cached(url: Url, *versions: object) -> Path:
    """The folder in the cache of a version of what a URL holds; not made."""
    text = json.dumps([str(url), *versions], sort_keys=True, default=str)
    return cache_folder() / f"{PurePosixPath(url).name[:60]}-{hashlib.sha256(text.encode()).hexdigest()[:20]}"


class Store:
    """A folder by URL. Every method raises `error`, in one line, where the store refuses or cannot be reached.

    Credentials and the like are the store's own affair: of S3 AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL, ~/.aws and so on.
    """

    def __init__(self, url: Url, error: type[ShortcutGenError]) -> None:
        self.url, self._error = url, error
        with self._told():
            self._system, root = _open(url)
            self._root = str(root).rstrip("/")
            self._system.invalidate_cache()

    def info(self, name: str) -> dict[str, Any] | None:
        """Size of a file in bytes and the stamps of its content that the store has; None where there is none."""
        with self._told():
            try:
                about = self._system.info(self._at(name))
            except FileNotFoundError:
                return None
        if about.get("type") == "directory":
            return None
        stamps = {key: str(about[key]) for key in _STAMPS if about.get(key) is not None}
        return {"size": about.get("size"), **stamps}

    def names(self, folder: str = "") -> dict[str, int]:
        """The files right in a folder, by their names with their sizes; none where there is no such folder.

        Folders in it have the size -1. Raises `error` where there is no such bucket.
        """
        path = self._at(folder) if folder else self._root
        with self._told():
            try:
                found = self._system.ls(path, detail=True, refresh=True)
            except FileNotFoundError:
                self._see_bucket()
                return {}
        sizes = {
            str(one["name"]).rstrip("/").rpartition("/")[2]: -1 if one["type"] == "directory" else int(one["size"] or 0)
            for one in found
            if str(one["name"]).strip("/") != path.strip("/")
        }
        return {name: size for name, size in sizes.items() if name}

    def read(self, name: str, most: int) -> bytes | None:
        """The content of a file; None where there is none. Raises `error` where it has more than `most` bytes."""
        about = self.info(name)
        if about is None:
            return None
        if (about["size"] or 0) > most:
            raise self._error(f"{self.url}/{name} has {about['size']:,} bytes; at most {most:,} are read")
        with self._told(name):
            content: bytes = self._system.cat_file(self._at(name))
        return content

    def download(self, name: str, path: Path, check: Callable[[Path], None] = lambda _: None) -> None:
        """Copy a file here, whole or not at all. `check` sees it before it has its name, and may raise."""
        part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with self._told(name):
                self._system.get_file(self._at(name), str(part))
            check(part)
            part.replace(path)
        except OSError as refusal:
            raise self._error(f"{path} cannot be written: {reason(refusal)}") from refusal
        finally:
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)

    def upload(self, path: Path, name: str) -> None:
        """Copy a file there, whole or not at all, over what was there."""
        with self._told(name):
            to = self._at(name)
            if "file" in _protocols(self._system):  # which alone has folders to make, and shows a file as it grows
                self._system.makedirs(to.rpartition("/")[0], exist_ok=True)
                part = f"{to}.{secrets.token_hex(4)}.part"
                self._system.put_file(str(path), part)
                self._system.mv(part, to)
            else:
                self._system.put_file(str(path), to)

    def remove(self, name: str) -> None:
        """Remove a file."""
        with self._told(name):
            self._system.rm_file(self._at(name))

    def remove_folder(self, name: str) -> None:
        """Remove an empty folder, in stores that have such."""
        with contextlib.suppress(Exception):
            if "file" in _protocols(self._system):
                self._system.rmdir(self._at(name))

    def _at(self, name: str) -> str:
        return f"{self._root}/{name}"

    def _see_bucket(self) -> None:
        """Raises FileNotFoundError where not even the bucket is there; what is in it need not be."""
        bucket = self._root.strip("/").partition("/")[0]
        if "s3" in _protocols(self._system) and not self._system.exists(bucket):
            raise FileNotFoundError(f"there is no bucket {bucket}, or it may not be seen")

    @contextmanager
    def _told(self, name: str = "") -> Iterator[None]:
        """What goes wrong between here and the store, in one line. Each store raises errors of its own package."""
        where = f"{self.url}/{name}" if name else str(self.url)
        try:
            yield
        except ShortcutGenError:
            raise
        except ImportError as error:
            raise self._error(f"{where} needs a package that is not installed: {_wanted(self.url, error)}") from error
        except PermissionError as error:
            raise self._error(f"{where}: permission denied: {_said(error)}") from error
        except FileNotFoundError as error:
            raise self._error(f"{where}: not found: {_said(error)}") from error
        except Exception as error:
            raise self._error(f"{where}: {_said(error)}") from error


def fetch(url: Url, files: Iterable[tuple[Store, str, str]], error: type[ShortcutGenError]) -> Path:
    """The folder in the cache of some files of a URL, copied where that version of them is not there yet.

    files: the store, the name in it, and the path in the folder of each; those that are not there are left out.
    """
    there = [(store, name, to, about) for store, name, to in files if (about := store.info(name)) is not None]
    folder = cached(url, *([to, about] for _, _, to, about in there))
    if folder.is_dir():
        return folder
    part = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.part")
    try:
        for store, name, to, _ in there:
            store.download(name, part / to)
        part.mkdir(parents=True, exist_ok=True)
        try:
            part.rename(folder)
        except OSError:
            if not folder.is_dir():  # else another process was first, with the same files
                raise
    except OSError as refusal:
        raise error(f"{folder} cannot be written: {reason(refusal)}") from refusal
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return folder


def _open(url: Url) -> tuple[Any, str]:
    try:
        import fsspec
    except ImportError as error:
        raise ImportError("fsspec") from error
    # An object of its own: no listing that another one has kept is seen.
    system, path = fsspec.core.url_to_fs(url, skip_instance_cache=True)
    return system, path


def _protocols(system: Any) -> tuple[str, ...]:
    named = system.protocol
    return (named,) if isinstance(named, str) else tuple(named)


def _wanted(url: Url, error: ImportError) -> str:
    if str(error) == "fsspec":
        return "fsspec; pip install 'shortcut-gen[remote]'"
    if url.startswith(("s3://", "s3a://")):
        return "s3fs; pip install s3fs (docs/cluster.md)"
    return _said(error)


def _said(error: Exception) -> str:
    said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return said.strip() or type(error).__name__
