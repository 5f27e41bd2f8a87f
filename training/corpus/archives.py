"""Files of a folder, of a zip or tar archive, or alone: listed and opened in one way, nothing unpacked to disk.

What is hidden, such as macOS's side files, what is no regular file, such as a pipe or a link to nothing, and what has a
path that leads out of its archive is left out of every list, and named in the log.
"""

import io
import logging
import lzma
import os
import re
import tarfile
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, ClassVar, Protocol

from shortcut_gen.errors import DataError
from shortcut_gen.files import is_regular, open_regular, reason

ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".txz")
"""Names of files that are an archive, or a damaged one."""
KINDS = "a folder, or a zip, tar, tar.gz or tar.xz archive of it,"
"""What can be read, as errors say it."""
MAX_HELD_BYTES = 2**30
"""What is held in memory of a compressed archive, whose files cannot be reached one by one."""

log = logging.getLogger(__name__)

# A zip with a password raises RuntimeError, one packed by an unknown method its NotImplementedError.
BROKEN = (EOFError, RuntimeError, ValueError, tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError)
"""What reading a damaged archive can raise, beside OSError."""


class Files(Protocol):
    """Files by their path inside a folder or an archive. Picklable: each process opens its own."""

    path: Path
    """The folder, archive or file."""
    in_order: bool
    """Whether they are cheap to reach in their own order only."""

    def names(self) -> list[str]:
        """Every file's path, with forward slashes, in the order that they are best read in. Raises DataError."""
        ...

    def where(self, name: str) -> str:
        """A file as errors name it."""
        ...

    def open(self, name: str) -> IO[bytes]:
        """A stream of its bytes that can seek. Raises DataError."""
        ...


class Skipped:
    """Counts what is left out of a list, to be said in a line for each kind."""

    _KINDS: ClassVar = {
        "hidden": "hidden {}",
        "no regular": "no regular {}",
        "outside": "{} of a path that leads out of the archive",
    }

    def __init__(self, path: Path) -> None:
        self._path = path
        self._names: dict[str, list[str]] = defaultdict(list)

    def by_name(self, name: str) -> bool:
        """Whether a path is left out for its name, being hidden or leading outside; counted where it is."""
        if is_outside(name):
            self._names["outside"].append(name)
        elif is_hidden(name):
            self._names["hidden"].append(name)
        else:
            return False
        return True

    def irregular(self, name: str) -> None:
        """Counts what is no regular file."""
        self._names["no regular"].append(name)

    def say(self) -> None:
        """A line for each kind."""
        for kind, names in self._names.items():
            one = self._KINDS[kind]
            some = one.format("file") if len(names) == 1 else f"{len(names):,} {one.format('files')}, such as"
            log.warning("%s: left out %s %s", self._path, some, names[0])


def is_hidden(name: str) -> bool:
    """Whether a path, or a folder on it, begins with a dot, or is of macOS's making."""
    parts = name.split("/")
    return any(part.startswith(".") and part not in (".", "..") for part in parts) or "__MACOSX" in parts


def is_outside(name: str) -> bool:
    """Whether a path in an archive is absolute or goes up; nothing is unpacked, but such a name is nobody's piece."""
    return name.startswith("/") or ".." in name.split("/")


@contextmanager
def told(where: str) -> Iterator[None]:
    """Makes one line, a DataError, of whatever reading can raise."""
    try:
        yield
    except OSError as error:
        raise DataError(f"{where} cannot be read: {reason(error)}") from error
    except BROKEN as error:
        raise DataError(f"{where} is damaged or cannot be unpacked: {str(error) or 'it ends too soon'}") from error


class FolderFiles:
    """Those of a folder and the folders in it; links to folders are not followed."""

    in_order = False

    def __init__(self, path: Path) -> None:
        self.path = path

    def names(self) -> list[str]:
        """By name."""
        found: list[str] = []
        skipped = Skipped(self.path)

        def refuse(error: OSError) -> None:
            raise DataError(f"{error.filename} cannot be read: {reason(error)}") from error

        for folder, _, files in os.walk(self.path, onerror=refuse):
            for file in files:
                path = Path(folder) / file
                name = path.relative_to(self.path).as_posix()
                if skipped.by_name(name):
                    continue
                if is_regular(path):
                    found.append(name)
                else:
                    skipped.irregular(name)
        skipped.say()
        return sorted(found)

    def where(self, name: str) -> str:
        """Its path."""
        return str(self.path / name)

    def open(self, name: str) -> IO[bytes]:
        """The file."""
        with told(self.where(name)):
            return open_regular(self.path / name, DataError)


class FileAlone:
    """One file, whatever its name."""

    in_order = False

    def __init__(self, path: Path) -> None:
        self.path = path

    def names(self) -> list[str]:
        """Its own."""
        return [self.path.name]

    def where(self, name: str) -> str:
        """Its path."""
        return str(self.path)

    def open(self, name: str) -> IO[bytes]:
        """The file."""
        with told(str(self.path)):
            return open_regular(self.path, DataError)


class _Archive:
    """What archives share: an open handle that is not pickled."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._handle: Any = None

    def __del__(self) -> None:
        if getattr(self, "_handle", None) is not None:
            self._handle.close()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_handle": None}

    def where(self, name: str) -> str:
        """Its path inside, and the archive."""
        return f"{name} in {self.path}"


class ZipFiles(_Archive):
    """Those of a zip archive."""

    in_order = False

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        skipped = Skipped(path)
        names = [info.filename for info in self._zip.infolist() if info.filename and not info.is_dir()]
        self._names = [name for name in names if not skipped.by_name(name)]
        skipped.say()

    @property
    def _zip(self) -> zipfile.ZipFile:
        if self._handle is None:
            self._handle = zipfile.ZipFile(self.path)
        handle: zipfile.ZipFile = self._handle
        return handle

    def names(self) -> list[str]:
        """As they lie in the archive."""
        return self._names

    def open(self, name: str) -> IO[bytes]:
        """From the archive."""
        with told(self.where(name)):
            try:
                return self._zip.open(name)
            except KeyError:
                raise DataError(f"{self.path} has no {name}") from None


class TarFiles(_Archive):
    """Those of a tar archive, compressed or not; going back in a compressed one means reading it from its start."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        skipped = Skipped(path)
        self._members: dict[str, tarfile.TarInfo] = {}
        for member in self._tar:
            if member.isdir() or skipped.by_name(member.name):
                continue
            if member.isreg():
                self._members[member.name] = member
            else:
                skipped.irregular(member.name)
        skipped.say()
        self.in_order = not _is_plain_tar(path)

    @property
    def _tar(self) -> tarfile.TarFile:
        if self._handle is None:
            self._handle = tarfile.open(self.path)  # noqa: SIM115 (kept open)
        handle: tarfile.TarFile = self._handle
        return handle

    def names(self) -> list[str]:
        """As they lie in the archive."""
        return list(self._members)

    def open(self, name: str) -> IO[bytes]:
        """From the archive; its list of files is not read again."""
        if name not in self._members:
            raise DataError(f"{self.path} has no {name}")
        with told(self.where(name)):
            return self._tar.extractfile(self._members[name]) or io.BytesIO()  # None is for folders


class HeldFiles:
    """Some of an archive's files in memory, read in the archive's order once."""

    in_order = False

    def __init__(self, files: Files, wanted: Callable[[str], bool], most: int) -> None:
        """most: bytes of one file at most. Raises DataError."""
        self.path = files.path
        self._where = files.where
        self._held: dict[str, bytes] = {}
        total = 0
        for name in files.names():
            if wanted(name):
                self._held[name] = read(files, name, most)
                total += len(self._held[name])
                if total > MAX_HELD_BYTES:
                    raise DataError(
                        f"{self.path} holds too much for a compressed archive; unpack it and give the folder"
                    )

    def names(self) -> list[str]:
        """As they lay in the archive."""
        return list(self._held)

    def where(self, name: str) -> str:
        """Its path inside, and the archive."""
        return self._where(name)

    def open(self, name: str) -> IO[bytes]:
        """From memory."""
        if name not in self._held:
            raise DataError(f"{self.path} has no {name}")
        return io.BytesIO(self._held[name])


def _is_plain_tar(path: Path) -> bool:
    try:
        tarfile.open(path, "r:").close()
    except tarfile.TarError:
        return False
    return True


def open_files(path: Path, needed: str) -> Files:
    """The files at a path; `needed` says in errors what should be there. Raises DataError."""
    with told(str(path)):
        if path.is_dir():
            return FolderFiles(path)
        if not path.exists():
            raise DataError(f"{path} is not there; {needed} is needed")
        if not is_regular(path):
            raise DataError(f"{path} is no regular file; {needed} is needed")
        if zipfile.is_zipfile(path):
            return ZipFiles(path)
        if tarfile.is_tarfile(path):
            return TarFiles(path)
        if path.suffix.lower() in ARCHIVES:
            raise DataError(f"{path} is no archive or a damaged one; {needed} is needed")
        return FileAlone(path)


def name_of(path: Path) -> str:
    """What a corpus read from a folder or an archive is called: the name of either, without `.zip`, `.tar.gz`, ..."""
    name = path.resolve().name
    if path.is_dir():
        return name
    return re.sub(r"\.(zip|tgz|txz|tar(\.\w+)?)$", "", name, flags=re.IGNORECASE) or name


def read(files: Files, name: str, most: int) -> bytes:
    """A whole file of at most so many bytes. Raises DataError."""
    where = files.where(name)
    with files.open(name) as stream, told(where):
        data = stream.read(most + 1)
    if len(data) > most:
        raise DataError(f"{where} has more than {most:,} bytes; at most so many are read")
    return data
