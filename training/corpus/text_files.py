"""Texts in a folder, in a zip or tar archive, or in a file alone: read in blocks, nothing is unpacked."""

import io
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

from shortcut_gen.errors import DataError
from shortcut_gen.files import reason
from training.corpus.scores import FolderFiles

BLOCK_BYTES = 1 << 20
"""Bytes that are held of a file at once."""
ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".txz")
"""Names of files that are an archive, or a damaged one."""

Opener = Callable[[str], IO[bytes]]
"""From a file's name to a stream of its bytes that can seek."""

# A zip with a password raises RuntimeError, one packed by an unknown method its NotImplementedError.
_BROKEN = (EOFError, RuntimeError, tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError)


@dataclass(frozen=True, slots=True)
class Stretch:
    """A part of a file, in bytes."""

    file: str
    start: int
    size: int


class TextFiles(Protocol):
    """Files by their path inside a folder or an archive."""

    @property
    def path(self) -> Path:
        """The folder, archive or file."""
        ...

    def names(self) -> list[str]:
        """Every file's path, with forward slashes, in the order that they are best read in."""
        ...

    def where(self, name: str) -> str:
        """A file as errors name it."""
        ...

    def opened(self) -> AbstractContextManager[Opener]:
        """What opens the files, as long as it is open itself."""
        ...


@dataclass(frozen=True)
class FolderTexts:
    """The files of a folder and the folders in it."""

    path: Path

    def where(self, name: str) -> str:
        """Its path."""
        return str(self.path / name)

    def names(self) -> list[str]:
        """By name."""
        return FolderFiles(self.path).names()

    @contextmanager
    def opened(self) -> Iterator[Opener]:
        """Each on its own."""
        yield lambda name: (self.path / name).open("rb")


@dataclass(frozen=True)
class FileText:
    """A file alone."""

    path: Path

    def where(self, name: str) -> str:
        """Its path."""
        return str(self.path)

    def names(self) -> list[str]:
        """Its own."""
        return [self.path.name]

    @contextmanager
    def opened(self) -> Iterator[Opener]:
        """The file, whatever the name."""
        yield lambda name: self.path.open("rb")


class _Archive:
    """What archives share."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def where(self, name: str) -> str:
        """Its path inside, and the archive."""
        return f"{name} in {self.path}"


class ZipTexts(_Archive):
    """The files of a zip archive."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        with zipfile.ZipFile(path) as archive:
            self._names = [info.filename for info in archive.infolist() if not info.is_dir()]

    def names(self) -> list[str]:
        """As they lie in the archive."""
        return self._names

    @contextmanager
    def opened(self) -> Iterator[Opener]:
        """From the archive."""
        with zipfile.ZipFile(self.path) as archive:
            yield archive.open


class TarTexts(_Archive):
    """The files of a tar archive, compressed or not; going back in a compressed one means reading it from its start."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        with tarfile.open(path) as archive:
            self._members = {member.name: member for member in archive if member.isreg()}

    def names(self) -> list[str]:
        """As they lie in the archive."""
        return list(self._members)

    @contextmanager
    def opened(self) -> Iterator[Opener]:
        """From the archive; its list of files is not read again."""
        with tarfile.open(self.path) as archive:
            yield lambda name: archive.extractfile(self._members[name]) or io.BytesIO()  # None is for folders


def open_texts(path: Path, needed: str) -> TextFiles:
    """The texts at a path; `needed` says in errors what should be there. Raises DataError."""
    with _told(str(path)):
        if path.is_dir():
            return FolderTexts(path)
        if not path.exists():
            raise DataError(f"{path} is not there; {needed} is needed")
        if zipfile.is_zipfile(path):
            return ZipTexts(path)
        if tarfile.is_tarfile(path):
            return TarTexts(path)
        if path.suffix.lower() in ARCHIVES:
            raise DataError(f"{path} is no archive or a damaged one; {needed} is needed")
        return FileText(path)


@contextmanager
def _told(where: str) -> Iterator[None]:
    """Makes one line of whatever reading can raise."""
    try:
        yield
    except OSError as error:
        raise DataError(f"{where} cannot be read: {reason(error)}") from error
    except _BROKEN as error:
        raise DataError(f"{where} is damaged or cannot be unpacked: {str(error) or 'it ends too soon'}") from error


def contents(files: TextFiles, names: Iterable[str]) -> Iterator[tuple[str, Iterator[bytes]]]:
    """Each file and its content, block by block; what is not taken of a file before the next one is lost."""
    with files.opened() as open_file:
        for name in names:
            where = files.where(name)
            with _told(where):
                stream = open_file(name)
            with closing(stream):
                yield name, _blocks(stream, where)


def _blocks(stream: IO[bytes], where: str) -> Iterator[bytes]:
    while True:
        with _told(where):
            block = stream.read(BLOCK_BYTES)
        if not block:
            return
        yield block


def lines(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """The lines of a text that comes in blocks, each with its end."""
    rest = b""
    for block in blocks:
        *whole, rest = (rest + block).split(b"\n")
        for line in whole:
            yield line + b"\n"
    if rest:
        yield rest


def read_stretches(files: TextFiles, stretches: Iterable[Stretch]) -> Iterator[bytes]:
    """The bytes of each stretch. Those that lie one behind the other in a file take one reading of it."""
    stream: IO[bytes] | None = None
    current = ""
    with files.opened() as open_file:
        try:
            for stretch in stretches:
                with _told(files.where(stretch.file)):
                    if stream is None or stretch.file != current or stretch.start < stream.tell():
                        if stream is not None:
                            stream.close()
                        stream, current = open_file(stretch.file), stretch.file
                    stream.seek(stretch.start)
                    data = stream.read(stretch.size)
                if len(data) < stretch.size:
                    raise DataError(f"{files.where(stretch.file)} was longer before: it changed while it was read")
                yield data
        finally:
            if stream is not None:
                stream.close()
