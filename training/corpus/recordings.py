"""Recordings in a folder, a tar archive or a compressed one: found, hashed and opened without unpacking anything."""

import hashlib
import io
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import BinaryIO, ClassVar, Protocol

import soundfile

from shortcut_gen.errors import DataError, MediaError
from shortcut_gen.files import SizedStream, is_regular, open_regular, reason
from shortcut_gen.media.sound import length
from training.corpus.archives import KINDS, FolderFiles, Skipped, ZipFiles, is_hidden, is_outside, read, told
from training.corpus.shards import spread

SUFFIXES = (*(f".{name.lower()}" for name in soundfile.available_formats() if name != "RAW"), ".opus", ".oga", ".aif")
"""Names of files that soundfile may be able to read."""
MAX_STREAMED_BYTES = 128 * 1024 * 1024
"""Recordings of a compressed archive are held in memory: a larger one wants unpacking."""
MAX_PIECE_BYTES = 256 * 1024 * 1024
"""So are all those of a piece at once."""
HELD_BYTES = 32 * 1024 * 1024
"""Recordings of the pieces that come next, held where an archive mixes pieces."""

_BROKEN = (OSError, EOFError, tarfile.TarError, zlib.error, lzma.LZMAError, ValueError)


@dataclass(frozen=True, slots=True)
class Blob:
    """A file's bytes: a file, a part of one, or what is in memory. Picklable, and small unless it holds the bytes."""

    name: str
    """Path inside the folder or archive."""
    path: Path
    """The folder or archive."""
    offset: int | None = None
    """Where it begins in the archive, in bytes."""
    size: int = 0
    data: bytes | None = None

    def open(self) -> BinaryIO:
        """A stream of the bytes that can seek. Raises OSError."""
        if self.data is not None:
            return io.BytesIO(self.data)
        if self.offset is None:
            return open_regular(self.path / self.name, DataError)
        return io.BufferedReader(_Part(self.path.open("rb"), self.offset, self.size))


class _Part(SizedStream):
    """A part of a file as a file of its own."""

    def __init__(self, file: BinaryIO, offset: int, size: int) -> None:
        self._file, self._offset, self._size = file, offset, size

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # any buffer, in io's own words
        self._file.seek(self._offset + self._at)
        wanted = max(min(len(buffer), self._size - self._at), 0)
        data = self._file.read(wanted)
        if len(data) < wanted:
            raise OSError("the archive ends too soon; it may be cut short")
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)

    def close(self) -> None:
        self._file.close()
        super().close()


class Recordings(Protocol):
    """The sound files of a corpus."""

    @property
    def path(self) -> Path:
        """The folder or archive."""
        ...

    in_order: ClassVar[bool]
    """Whether they can be read in their own order only."""

    def scan(self) -> Iterator[Blob]:
        """Every sound file with what opens it now; in the order that reading them in is cheapest. Raises DataError."""
        ...

    def fetch(self, pieces: Sequence[tuple[Blob, ...]]) -> Iterator[tuple[Blob, ...]]:
        """The files of each piece, as scan found them, ready to be opened in another process. Raises DataError."""
        ...


def is_recording(name: str) -> bool:
    """Whether a file's name says that it is sound; hidden files are not, nor paths that lead outside."""
    return name.lower().endswith(SUFFIXES) and not is_hidden(name) and not is_outside(name)


@dataclass(frozen=True)
class FolderRecordings:
    """Those of a folder and the folders in it."""

    path: Path
    in_order: ClassVar[bool] = False

    def scan(self) -> Iterator[Blob]:
        """By name."""
        for name in FolderFiles(self.path).names():
            if is_recording(name):
                yield Blob(name, self.path)

    def fetch(self, pieces: Sequence[tuple[Blob, ...]]) -> Iterator[tuple[Blob, ...]]:
        """As they are."""
        return iter(pieces)


@dataclass(frozen=True)
class TarRecordings:
    """Those of a tar archive, read where they lie."""

    path: Path
    in_order: ClassVar[bool] = False

    def scan(self) -> Iterator[Blob]:
        """By their place in the archive."""
        with _opened(self.path, "r:") as archive:
            for member in _members(archive, Skipped(self.path)):
                yield Blob(member.name, self.path, member.offset_data, member.size)

    def fetch(self, pieces: Sequence[tuple[Blob, ...]]) -> Iterator[tuple[Blob, ...]]:
        """As they are."""
        return iter(pieces)


@dataclass(frozen=True)
class CompressedRecordings:
    """Those of a compressed tar archive (gz, bz2, xz), which is read from its start to its end, again and again."""

    path: Path
    in_order: ClassVar[bool] = True

    def scan(self) -> Iterator[Blob]:
        """By their place in the archive, with their bytes."""
        yield from self._again(Skipped(self.path))

    def _again(self, skipped: Skipped | None) -> Iterator[Blob]:
        with _opened(self.path, "r|*") as archive:
            for member in _members(archive, skipped):
                yield self._blob(archive, member)

    def _blob(self, archive: tarfile.TarFile, member: tarfile.TarInfo) -> Blob:
        if member.size > MAX_STREAMED_BYTES:
            raise DataError(
                f"{member.name} in {self.path} has {member.size:,} bytes, too many for a compressed archive; "
                "unpack it and give the folder"
            )
        stream = archive.extractfile(member)
        assert stream is not None  # a regular file
        return Blob(member.name, self.path, size=member.size, data=stream.read())

    def fetch(self, pieces: Sequence[tuple[Blob, ...]]) -> Iterator[tuple[Blob, ...]]:
        """With their bytes. One reading of the archive serves pieces that are asked for in its order."""
        held: dict[str, Blob] = {}
        reading: Iterator[Blob] = iter(())
        for number, piece in enumerate(pieces):
            if (size := sum(blob.size for blob in piece)) > MAX_PIECE_BYTES:
                raise DataError(
                    f"{piece[0].name} in {self.path} belongs to a piece of {size:,} bytes, too many for a compressed "
                    "archive; unpack it and give the folder"
                )
            missing = {blob.name for blob in piece} - held.keys()
            wanted = _soon(pieces, number) if missing else set()
            turns = 0
            while missing:
                blob = next(reading, None)
                if blob is None:
                    turns += 1
                    if turns > 2:
                        raise DataError(f"{self.path} has no {min(missing)} any more: it changed while it was read")
                    reading = self._again(None)
                elif blob.name in wanted:
                    held.setdefault(blob.name, blob)
                    missing.discard(blob.name)
            yield tuple(held.pop(blob.name) for blob in piece)


@dataclass(frozen=True)
class ZipRecordings:
    """Those of a zip archive."""

    path: Path
    in_order: ClassVar[bool] = False

    def scan(self) -> Iterator[Blob]:
        """By their place in the archive, with their bytes."""
        for name in self._files.names():
            if is_recording(name):
                yield self._blob(name)

    @cached_property
    def _files(self) -> ZipFiles:
        """Listed once: what is left out of the list is said then."""
        with told(str(self.path)):
            return ZipFiles(self.path)

    def _blob(self, name: str) -> Blob:
        data = read(self._files, name, MAX_STREAMED_BYTES)
        return Blob(name, self.path, size=len(data), data=data)

    def fetch(self, pieces: Sequence[tuple[Blob, ...]]) -> Iterator[tuple[Blob, ...]]:
        """With their bytes."""
        for piece in pieces:
            yield tuple(self._blob(blob.name) for blob in piece)


def _soon(pieces: Sequence[tuple[Blob, ...]], number: int) -> set[str]:
    """Names of a piece's files and of those of the next pieces, as many as may be held."""
    names: set[str] = set()
    size = 0
    for piece in pieces[number:]:
        size += sum(blob.size for blob in piece)
        if names and size > HELD_BYTES:
            break
        names.update(blob.name for blob in piece)
    return names


def _members(archive: tarfile.TarFile, skipped: Skipped | None) -> Iterator[tarfile.TarInfo]:
    """The sound files of an archive; unlike tarfile's own iteration it keeps none of them."""
    while (member := archive.next()) is not None:
        archive.members.clear()  # type: ignore[attr-defined]  # there in every version
        if not member.name.lower().endswith(SUFFIXES):
            continue
        if member.isreg() and is_recording(member.name):
            yield member
        elif skipped and not skipped.by_name(member.name) and not member.isdir():
            skipped.irregular(member.name)
    if skipped:
        skipped.say()


@contextmanager
def _opened(path: Path, mode: str) -> Iterator[tarfile.TarFile]:
    try:
        with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
            yield archive
    except _BROKEN as error:
        why = reason(error) if isinstance(error, OSError) else str(error) or "it ends too soon"
        raise DataError(f"{path} cannot be read to its end, it may be damaged or cut short: {why}") from error


def open_recordings(path: Path) -> Recordings:
    """The recordings of a folder, or of a tar or zip archive. Raises DataError."""
    try:
        if path.is_dir():
            return FolderRecordings(path)
        if not is_regular(path):
            raise DataError(f"{path} is {'no regular file' if path.exists() else 'not there'}; {KINDS} is needed")
        if zipfile.is_zipfile(path):
            return ZipRecordings(path)
        for mode, kind in (("r:", TarRecordings), ("r|*", CompressedRecordings)):
            try:
                tarfile.open(path, mode).close()  # type: ignore[call-overload]
                return kind(path)
            except (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError):
                continue
    except OSError as error:
        raise DataError(f"{path} cannot be read: {reason(error)}") from error
    raise DataError(f"{path} is neither a folder nor an archive that can be read; {KINDS} is needed")


def find(folder: Path, limit: int | None = None) -> list[Path]:
    """Sound files of a folder by name, at most `limit` of them, evenly spread. Raises DataError."""
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; a folder of recordings is needed")
    found = [folder / name for name in FolderFiles(folder).names() if is_recording(name)]
    if not found:
        raise DataError(f"{folder}: no recording there; a folder of sound files is needed")
    return [found[index] for index in spread(len(found), limit)]


@dataclass(frozen=True, slots=True)
class Scanned:
    """A recording and what one reading of it told."""

    blob: Blob
    """Without its bytes."""
    seconds: float
    """Length; 0 where it cannot be read."""
    sha256: bytes
    wrong: str
    """Why it cannot be read, or not to its end, without its name; "" where it can, as far as its header tells."""


def scanned(blob: Blob) -> Scanned:
    """Read a recording's bytes once. Raises DataError where the file itself cannot be read."""
    try:
        with blob.open() as stream:
            digest = hashlib.file_digest(stream, "sha256").digest()  # type: ignore[arg-type]  # needs no mode
            size = stream.seek(0, io.SEEK_END)
            stream.seek(0)
            seconds, wrong = _length(stream)
    except OSError as error:
        raise DataError(f"{blob.name} in {blob.path} cannot be read: {reason(error)}") from error
    return Scanned(replace(blob, data=None, size=size), seconds, digest, wrong)


def _length(stream: BinaryIO) -> tuple[float, str]:
    """Seconds and what is wrong."""
    try:
        seconds, cut = length(stream)
    except MediaError as error:
        return 0.0, str(error)
    return seconds, f"is {cut}" if cut else ""
