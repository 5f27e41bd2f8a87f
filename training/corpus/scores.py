"""Where a corpus comes from: which pieces there are, the split each belongs to, and how one is read."""

import csv
import hashlib
import io
import os
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from shortcut_gen.errors import DataError, SettingsError, ShortcutGenError
from shortcut_gen.media import MAX_MIDI_BYTES, Score, parse_score
from shortcut_gen.modalities.piano import VOCAB_SIZE
from training.corpus.encoding import Encoder, Splits
from training.corpus.shards import SPLITS


class Files(Protocol):
    """Files of a folder or an archive, by their path inside it."""

    @property
    def path(self) -> Path:
        """The folder or archive."""
        ...

    def names(self) -> list[str]:
        """Every file's path, with forward slashes, sorted."""
        ...

    def read(self, name: str) -> bytes:
        """A file's content. Raises DataError."""
        ...


def _reason(error: Exception) -> str:
    return (error.strerror or type(error).__name__).lower() if isinstance(error, OSError) else str(error)


@dataclass(frozen=True)
class FolderFiles:
    """The files of a folder and the folders in it; links to folders are not followed."""

    path: Path

    def names(self) -> list[str]:
        """Every file's path inside the folder."""
        found: list[str] = []

        def refuse(error: OSError) -> None:
            raise DataError(f"{error.filename} cannot be read: {_reason(error)}") from error

        for folder, _, files in os.walk(self.path, onerror=refuse):
            found += [(Path(folder) / file).relative_to(self.path).as_posix() for file in files]
        return sorted(found)

    def read(self, name: str) -> bytes:
        """A file's content."""
        path = self.path / name
        try:
            if not path.is_file():
                raise DataError(f"{path} is no file")
            if path.stat().st_size > MAX_MIDI_BYTES:
                raise DataError(f"{path} has {path.stat().st_size:,} bytes; at most {MAX_MIDI_BYTES:,} are read")
            return path.read_bytes()
        except OSError as error:
            raise DataError(f"{path} cannot be read: {_reason(error)}") from error


class ZipFiles:
    """The files of a zip archive, read in memory: nothing is ever unpacked to disk."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._zip = zipfile.ZipFile(path)
        except zipfile.BadZipFile as error:
            raise DataError(f"{path} is no zip archive or a damaged one ({error})") from error
        except OSError as error:
            raise DataError(f"{path} cannot be read: {_reason(error)}") from error

    def __reduce__(self) -> tuple[type["ZipFiles"], tuple[Path]]:
        return ZipFiles, (self.path,)  # each process opens its own

    def names(self) -> list[str]:
        """Every member's path."""
        return sorted(info.filename for info in self._zip.infolist() if not info.is_dir())

    def read(self, name: str) -> bytes:
        """A member's content."""
        try:
            info = self._zip.getinfo(name)
            if info.file_size > MAX_MIDI_BYTES:
                raise DataError(
                    f"{name} in {self.path} has {info.file_size:,} bytes; at most {MAX_MIDI_BYTES:,} are read"
                )
            return self._zip.read(info)
        except KeyError:
            raise DataError(f"{self.path} has no {name}") from None
        except (OSError, zipfile.BadZipFile, RuntimeError, NotImplementedError, EOFError) as error:
            raise DataError(f"{name} in {self.path} cannot be read: {_reason(error)}") from error
        except Exception as error:  # zlib.error and lzma's have no common base
            raise DataError(f"{name} in {self.path} is damaged: {error}") from error


def open_files(path: Path) -> Files:
    """The files of a folder, or of a zip archive. Raises DataError."""
    try:
        if not path.exists():
            raise DataError(f"{path} is not there; the official zip or the unpacked folder is needed")
        return FolderFiles(path) if path.is_dir() else ZipFiles(path)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {_reason(error)}") from error


def _digest(contents: Iterable[tuple[str, str]]) -> str:
    total = hashlib.sha256()
    for name, digest in contents:
        total.update(f"{digest}  {name}\n".encode("utf-8", "surrogateescape"))
    return total.hexdigest()


def _sha256(files: Files, name: str) -> str:
    return hashlib.sha256(files.read(name)).hexdigest()


class ScoreSource:
    """What sources of scores share: each piece is a job of its own."""

    tokenizer = "piano"
    vocab_size = VOCAB_SIZE
    codec: dict[str, Any] | None = None

    def shards(self, names: Sequence[str], pieces: int) -> list[Sequence[str]]:
        """So many pieces in each."""
        return [names[start : start + pieces] for start in range(0, len(names), pieces)]

    def jobs(self, names: Sequence[str]) -> Sequence[str]:
        """The names."""
        return names

    def coder(self) -> Encoder:
        """Reads from this source and encodes."""
        return Encoder(self)

    def load(self, name: str) -> Score:
        """One performance."""
        raise NotImplementedError


class MaestroSource(ScoreSource):
    """MAESTRO v3.0.0 as published: the MIDI zip (or the audio one) or its unpacked folder, split by its own csv."""

    corpus = "maestro-v3.0.0"
    licence = "CC BY-NC-SA 4.0"
    strict = True
    TABLE = "maestro-v3.0.0.csv"

    def __init__(self, path: Path) -> None:
        self.path = path
        self._files = open_files(path)
        names = set(self._files.names())
        tables = sorted((name for name in names if name.split("/")[-1] == self.TABLE), key=len)
        if not tables:
            raise DataError(f"{path} has no {self.TABLE}; MAESTRO's official zip or its unpacked folder is needed")
        self._table = tables[0]
        self._root = self._table.removesuffix(self.TABLE)
        self._splits = self._read_table()
        missing = sorted(name for split in self._splits.values() for name in split if self._root + name not in names)
        if missing:
            more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
            raise DataError(
                f"{path} has no {missing[0]}{more}, which {self.TABLE} names; the whole of MAESTRO is needed"
            )

    def _read_table(self) -> Splits:
        where = f"{self._table} in {self._files.path}"
        splits: Splits = {split: [] for split in SPLITS}
        try:
            text = self._files.read(self._table).decode("utf-8-sig")
            for row in csv.DictReader(io.StringIO(text, newline=""), strict=True):
                if row["split"] not in splits:
                    raise DataError(f"{where} puts {row['midi_filename']} in {row['split']!r}, which is no split")
                splits[row["split"]].append(row["midi_filename"])
        except KeyError as error:
            raise DataError(f"{where} has no column {error}") from None
        except (UnicodeDecodeError, csv.Error) as error:
            raise DataError(f"{where} is no csv table ({error})") from error
        names = [name for split in splits.values() for name in split]
        if not names or not all(names) or len(set(names)) < len(names):
            raise DataError(f"{where} names no file, or one twice; the official table is needed")
        return {split: sorted(names) for split, names in splits.items()}

    def splits(self) -> Splits:
        """MAESTRO's own split."""
        return self._splits

    def digest(self) -> str:
        """The same for the zip and for the folder it unpacks to."""
        pieces = sorted(name for names in self._splits.values() for name in names)
        named = [(self.TABLE, self._table), *((name, self._root + name) for name in pieces)]
        return _digest((name, _sha256(self._files, path)) for name, path in named)

    def load(self, name: str) -> Score:
        """One performance."""
        return parse_score(self._files.read(self._root + name), name)


def check_shares(validation: float, test: float) -> None:
    """Raises SettingsError where so much cannot be held out."""
    if not (0 <= validation < 1 and 0 <= test < 1 and validation + test < 1):
        raise SettingsError(
            f"validation is {validation} and test {test}; shares of at least 0 and together below 1 are needed"
        )


def assign_splits(
    hashes: Mapping[str, str],
    *,
    seed: int,
    validation: float,
    test: float,
    readable: Callable[[str], bool] = lambda name: True,
) -> Splits:
    """Each file to exactly one split, by the hash of its content, so that copies stay together.

    The seed chooses, on every machine alike, and file names play no part. Of three contents or more, each split that
    has a share gets at least one. Files that cannot be read are held out last, so that no split is left empty.
    """
    name_of = {content: name for name, content in hashes.items()}
    contents = sorted(name_of, key=lambda content: hashlib.sha256(f"{seed} {content}".encode()).digest())
    least = 1 if len(contents) >= 3 else 0
    seats = []
    for split, share in (("validation", validation), ("test", test)):
        seats += [split] * (max(round(share * len(contents)), least) if share else 0)
    seats = seats[: len(contents) - 1]  # something must be left to train on
    held_out: dict[str, str] = {}
    for content in contents:
        if len(held_out) < len(seats) and readable(name_of[content]):
            held_out[content] = seats[len(held_out)]
    if held_out and not any(content not in held_out and readable(name_of[content]) for content in reversed(contents)):
        held_out.popitem()
    split_of = {content: held_out.get(content, "train") for content in contents}
    return {split: [name for name, content in hashes.items() if split_of[content] == split] for split in SPLITS}


class MidiFolderSource(ScoreSource):
    """Anyone's own MIDI files: every .mid, .midi, .rmi and .kar under a folder (or in a zip), split by piece.

    A file that cannot be read is left out, and the manifest says so.
    """

    strict = False
    SUFFIXES = (".mid", ".midi", ".rmi", ".kar")

    def __init__(self, path: Path, *, corpus: str, licence: str, seed: int, validation: float, test: float) -> None:
        check_shares(validation, test)
        self.corpus, self.path, self.licence = corpus, path, licence
        self._files = open_files(path)
        names = [name for name in self._files.names() if name.lower().endswith(self.SUFFIXES)]
        self._names = [name for name in names if not name.split("/")[-1].startswith("._")]  # macOS's side files
        if not self._names:
            raise DataError(f"{path} has no MIDI file ({', '.join(self.SUFFIXES)}); at least one is needed")
        self._hashes = {name: self._hash(name) for name in self._names}
        self._splits = assign_splits(
            self._hashes, seed=seed, validation=validation, test=test, readable=self._is_readable
        )

    def _hash(self, name: str) -> str:
        try:
            return _sha256(self._files, name)
        except DataError:
            return hashlib.sha256(f"unreadable {name}".encode("utf-8", "surrogateescape")).hexdigest()

    def _is_readable(self, name: str) -> bool:
        try:
            return bool(self.load(name).notes)
        except ShortcutGenError:
            return False

    def splits(self) -> Splits:
        """The split by seed."""
        return self._splits

    def digest(self) -> str:
        """Of every MIDI file, readable or not."""
        return _digest((name, self._hashes[name]) for name in self._names)

    def load(self, name: str) -> Score:
        """One file."""
        return parse_score(self._files.read(name), name)
