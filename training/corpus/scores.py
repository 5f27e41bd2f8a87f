"""Where a corpus comes from: which pieces there are, the split each belongs to, and how one is read."""

import csv
import hashlib
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from shortcut_gen.errors import DataError, SettingsError, ShortcutGenError
from shortcut_gen.media import MAX_MIDI_BYTES, Score, parse_score
from shortcut_gen.modalities.piano import VOCAB_SIZE
from training.corpus.archives import KINDS, FileAlone, Files, HeldFiles, open_files, read
from training.corpus.encoding import Encoder, Splits
from training.corpus.shards import SPLITS


def _digest(contents: Iterable[tuple[str, str]]) -> str:
    total = hashlib.sha256()
    for name, digest in contents:
        total.update(f"{digest}  {name}\n".encode("utf-8", "surrogateescape"))
    return total.hexdigest()


class ScoreSource:
    """What sources of scores share: each piece is a job of its own."""

    SUFFIXES = (".mid", ".midi", ".rmi", ".kar")
    """Names of MIDI files."""
    needed: ClassVar[str]
    """What errors ask for."""
    tokenizer = "piano"
    vocab_size = VOCAB_SIZE
    codec: dict[str, Any] | None = None

    def __init__(self, path: Path) -> None:
        self.path = path
        self._files: Files = open_files(path, self.needed)
        if isinstance(self._files, FileAlone):
            raise DataError(f"{path} is no archive or a damaged one; {self.needed} is needed")
        if self._files.in_order:
            self._files = HeldFiles(self._files, self._is_wanted, MAX_MIDI_BYTES)

    def _is_wanted(self, name: str) -> bool:
        return name.lower().endswith((*self.SUFFIXES, ".csv"))

    def _read(self, name: str) -> bytes:
        return read(self._files, name, MAX_MIDI_BYTES)

    def _sha256(self, name: str) -> str:
        return hashlib.sha256(self._read(name)).hexdigest()

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
    needed = "the official zip, or the unpacked folder,"
    TABLE = "maestro-v3.0.0.csv"

    def __init__(self, path: Path) -> None:
        super().__init__(path)
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
        where = self._files.where(self._table)
        splits: Splits = {split: [] for split in SPLITS}
        try:
            for row in csv.DictReader(io.StringIO(self.table, newline=""), strict=True):
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

    @property
    def table(self) -> str:
        """The text of its csv."""
        return self._read(self._table).decode("utf-8-sig")

    def splits(self) -> Splits:
        """MAESTRO's own split."""
        return self._splits

    def digest(self) -> str:
        """The same for the zip and for the folder it unpacks to."""
        pieces = sorted(name for names in self._splits.values() for name in names)
        named = [(self.TABLE, self._table), *((name, self._root + name) for name in pieces)]
        return _digest((name, self._sha256(path)) for name, path in named)

    def load(self, name: str) -> Score:
        """One performance."""
        return parse_score(self._read(self._root + name), name)


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
    """Anyone's own MIDI files: every .mid, .midi, .rmi and .kar under a folder (or in an archive), split by piece.

    A file that cannot be read is left out, and the manifest says so.
    """

    strict = False
    needed = f"{KINDS} with MIDI files"

    def __init__(self, path: Path, *, corpus: str, licence: str, seed: int, validation: float, test: float) -> None:
        check_shares(validation, test)
        self.corpus, self.licence = corpus, licence
        super().__init__(path)
        self._names = sorted(name for name in self._files.names() if name.lower().endswith(self.SUFFIXES))
        if not self._names:
            raise DataError(f"{path} has no MIDI file ({', '.join(self.SUFFIXES)}); at least one is needed")
        self._hashes = {name: self._hash(name) for name in self._names}
        self._splits = assign_splits(
            self._hashes, seed=seed, validation=validation, test=test, readable=self._is_readable
        )

    def _hash(self, name: str) -> str:
        try:
            return self._sha256(name)
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
        return parse_score(self._read(name), name)
