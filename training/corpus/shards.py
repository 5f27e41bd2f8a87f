"""Corpora on disk: DATA/NAME/manifest.json and memory-mapped shards of ids, read piece by piece.

A shard is a one-dimensional uint16 .npy file of whole pieces, one behind the other.
"""

import hashlib
import io
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tokenize import TokenError
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from shortcut_gen.errors import DataError
from shortcut_gen.files import is_regular, read_json, reason, write_whole

FORMAT = 1
SPLITS = ("train", "validation", "test")
MANIFEST = "manifest.json"
MAX_MANIFEST_BYTES = 2**30
"""A longer manifest is refused: LibriSpeech's 960 h take a few MB."""
DTYPE = np.dtype("<u2")
IGNORED = -100
"""Target of a position that has none, such as padding behind a short piece; torch's cross entropy leaves it out."""


@dataclass(frozen=True, kw_only=True)
class Piece:
    """One performance, book or recording; crops never cross from one to the next."""

    name: str
    """Name in its source."""
    offset: int
    """Where it begins in its shard, in tokens."""
    tokens: int
    notes: int = 0
    """Notes it has, where it has notes."""
    seconds: float = 0.0
    """How long it lasts, where it has a length in time."""


def whole(value: Any) -> bool:
    """Whether a value is a whole number that a count can be."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53


@dataclass(frozen=True, kw_only=True)
class Shard:
    """A file of pieces."""

    file: str
    """Path inside the corpus folder."""
    sha256: str
    """Hash of the whole file."""
    tokens: int
    pieces: tuple[Piece, ...]

    @property
    def file_bytes(self) -> int:
        """Size of the file where it is whole."""
        return self.tokens * DTYPE.itemsize + shard_header_bytes()

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Shard":
        """A shard as to_dict wrote it. Raises TypeError or ValueError on anything else."""
        shard = cls(**{**values, "pieces": tuple(Piece(**piece) for piece in values["pieces"])})
        texts = [shard.file, shard.sha256, *(piece.name for piece in shard.pieces)]
        counts = [shard.tokens, *(n for piece in shard.pieces for n in (piece.offset, piece.tokens, piece.notes))]
        if not all(isinstance(text, str) for text in texts) or not all(whole(count) for count in counts):
            raise ValueError(f"{shard.file!r} has a value of another type than needed")
        if not all(isinstance(piece.seconds, int | float) for piece in shard.pieces):
            raise ValueError(f"{shard.file} has a length that is no number")
        return shard

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


class ShardWriter:
    """Writes one shard piece by piece in constant memory, whole or not at all. Use in a `with` block, then close()."""

    def __init__(self, folder: Path, file: str) -> None:
        self._folder, self._file = folder, file
        self._path = folder / file
        self._part = self._path.with_name(f".{self._path.name}.part")
        self._pieces: list[Piece] = []
        self._tokens = 0
        self._stream: BinaryIO | None = None

    def __enter__(self) -> "ShardWriter":
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._stream = self._part.open("wb")
        self._header()
        return self

    def _header(self) -> None:
        # numpy pads this header so that it keeps its length whatever the number of tokens is.
        assert self._stream is not None
        values = {"descr": DTYPE.str, "fortran_order": False, "shape": (self._tokens,)}
        np.lib.format.write_array_header_1_0(self._stream, values)

    def add(self, name: str, ids: NDArray[np.uint16], *, notes: int = 0, seconds: float = 0.0) -> None:
        """Append a piece."""
        assert self._stream is not None
        self._stream.write(ids.astype(DTYPE, copy=False).tobytes())
        seconds = round(seconds, 3)
        self._pieces.append(Piece(name=name, offset=self._tokens, tokens=len(ids), notes=notes, seconds=seconds))
        self._tokens += len(ids)

    def close(self) -> Shard:
        """Put the finished file in its place."""
        assert self._stream is not None
        self._stream.seek(0)
        self._header()
        self._stream.flush()
        os.fsync(self._stream.fileno())
        self._stream.close()
        digest = file_sha256(self._part)
        self._part.replace(self._path)
        return Shard(file=self._file, sha256=digest, tokens=self._tokens, pieces=tuple(self._pieces))

    def __exit__(self, *_: object) -> None:
        if self._stream is not None:
            try:
                self._stream.close()
            finally:
                self._part.unlink(missing_ok=True)  # already gone after close()


def spread(count: int, limit: int | None) -> list[int]:
    """Up to `limit` of `count` places, at even distances."""
    if limit is None or limit >= count:
        return list(range(count))
    return [(2 * k + 1) * count // (2 * limit) for k in range(limit)]


def file_sha256(path: Path) -> str:
    """Hash of a file, read in blocks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_json(path: Path, values: dict[str, Any]) -> None:
    """Write a JSON file, whole or not at all. Raises DataError.

    A name that is no UTF-8 on its disk is kept as Python has it: os.fsencode of what is read again gives its bytes.
    """
    text = json.dumps(values, indent=1, ensure_ascii=False) + "\n"
    try:
        data = text.encode()
    except UnicodeEncodeError:
        data = (json.dumps(values, indent=1) + "\n").encode()
    write_whole(path, data, DataError)


@dataclass(frozen=True)
class Split(Sequence[tuple[str, NDArray[np.uint16]]]):
    """The pieces of a split as (name, ids); ids is a view of a memory-mapped shard, opened at first use."""

    folder: str
    """Folder of its corpus, or folders, as errors name them."""
    places: tuple[tuple[Path, Shard], ...]
    """Each shard and the corpus folder it lies in."""
    _maps: dict[int, NDArray[np.uint16]] = field(default_factory=dict, compare=False, repr=False)

    def __post_init__(self) -> None:
        index = [(number, piece) for number, shard in enumerate(self.shards) for piece in shard.pieces]
        object.__setattr__(self, "_index", index)

    _index: list[tuple[int, Piece]] = field(init=False, compare=False, repr=False)

    @property
    def shards(self) -> tuple[Shard, ...]:
        """The shards, in order."""
        return tuple(shard for _, shard in self.places)

    @property
    def pieces(self) -> tuple[Piece, ...]:
        """What the manifest says of each piece, in order."""
        return tuple(piece for _, piece in self._index)

    @property
    def tokens(self) -> int:
        """Tokens in all."""
        return sum(shard.tokens for shard in self.shards)

    @property
    def notes(self) -> int:
        """Notes in all."""
        return sum(piece.notes for piece in self.pieces)

    @property
    def seconds(self) -> float:
        """Length of all pieces together."""
        return sum(piece.seconds for piece in self.pieces)

    def __len__(self) -> int:
        return len(self._index)

    def __getitem__(self, index: int) -> tuple[str, NDArray[np.uint16]]:  # type: ignore[override]  # no slices
        number, piece = self._index[index]
        if number not in self._maps:
            self._maps[number] = _map(*self.places[number])
        return piece.name, self._maps[number][piece.offset : piece.offset + piece.tokens]

    def __iter__(self) -> Iterator[tuple[str, NDArray[np.uint16]]]:
        return (self[index] for index in range(len(self)))

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_maps": {}}  # a memory map would be pickled as a copy of the file


def _map(folder: Path, shard: Shard) -> NDArray[np.uint16]:
    path = folder / shard.file
    try:
        # Not np.load, which takes a zip for an array too.
        if shard.tokens:
            ids: NDArray[np.uint16] = np.lib.format.open_memmap(path, mode="r")
        else:  # of which there is no map
            with path.open("rb") as file:
                ids = np.lib.format.read_array(file, allow_pickle=False)
    except (OSError, ValueError, EOFError, SyntaxError, TypeError, TokenError) as error:  # a header is read as Python
        raise DataError(f"{path} cannot be read ({error}); prepare the corpus again") from error
    if ids.dtype != DTYPE or ids.shape != (shard.tokens,):
        needed = f"({shard.tokens},) uint16"
        raise DataError(f"{path} holds {ids.shape} {ids.dtype}, its manifest says {needed}; prepare the corpus again")
    return ids


def shard_header_bytes() -> int:
    """Length of the header that `ShardWriter` writes."""
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": DTYPE.str, "fortran_order": False, "shape": (0,)})
    return len(stream.getvalue())


def _check_head(manifest: dict[str, Any]) -> None:
    """Raises TypeError or ValueError where a manifest's own values are of other types than written."""
    for key in ("corpus", "tokenizer", "licence"):
        if not isinstance(manifest[key], str):
            raise TypeError(f"{key} is no text")
    if not whole(manifest["vocab_size"]) or not 1 <= manifest["vocab_size"] <= np.iinfo(DTYPE).max + 1:
        raise ValueError(f"vocab_size is {manifest['vocab_size']!r}")
    if not isinstance(manifest["splits"], dict):
        raise TypeError("splits is no object")
    if not isinstance(manifest.get("codec"), dict | None):
        raise TypeError("codec is no object")


@dataclass(frozen=True)
class Corpus:
    """A prepared corpus."""

    folder: Path
    manifest: dict[str, Any]

    @classmethod
    def open(cls, folder: str | os.PathLike[str]) -> "Corpus":
        """Read the manifest and check that every shard it names is there. Raises DataError."""
        folder = Path(folder)
        path = folder / MANIFEST
        try:
            manifest = read_json(path, DataError, most=MAX_MANIFEST_BYTES)
            if manifest["format"] != FORMAT:
                raise DataError(f"{path} is of format {manifest['format']}; format {FORMAT} is needed")
            corpus = cls(folder, manifest)
            _check_head(manifest)
            for name in manifest["splits"]:
                corpus._check(corpus.split(name))
        except FileNotFoundError:
            raise DataError(f"{folder} is no prepared corpus: it has no {MANIFEST}; see training.prepare") from None
        except OSError as error:
            raise DataError(f"{path} cannot be read: {reason(error)}") from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(f"{path} is damaged ({error}); prepare the corpus again") from error
        return corpus

    def _check(self, split: Split) -> None:
        for shard in split.shards:
            path = self.folder / shard.file
            if Path(shard.file).is_absolute() or ".." in Path(shard.file).parts:
                raise DataError(f"{self.folder / MANIFEST} names {shard.file}, which is outside the corpus folder")
            needed = shard.file_bytes
            if not is_regular(path) or path.stat().st_size < needed:
                raise DataError(f"{path} is missing or cut short; prepare the corpus again")
            if path.stat().st_size != needed:
                raise DataError(f"{path} is longer than its manifest says; prepare the corpus again")
            end = 0
            for piece in shard.pieces:
                if piece.offset != end or piece.tokens < 0:
                    raise DataError(f"{self.folder / MANIFEST} is damaged (pieces of {shard.file} do not join)")
                end += piece.tokens
            if end != shard.tokens:
                raise DataError(f"{self.folder / MANIFEST} is damaged ({shard.file} has {end} tokens in pieces)")

    def split(self, name: str) -> Split:
        """The pieces of a split. Raises DataError where there is none of that name."""
        try:
            stored = self.manifest["splits"][name]
        except KeyError:
            known = ", ".join(self.manifest["splits"])
            raise DataError(f"{self.folder} has no split {name!r}; it has {known}") from None
        return Split(str(self.folder), tuple((self.folder, Shard.from_dict(shard)) for shard in stored["shards"]))

    @property
    def name(self) -> str:
        """Name of the corpus, such as maestro-v3.0.0."""
        return str(self.manifest["corpus"])

    @property
    def tokenizer(self) -> str:
        """Name of the tokenizer its ids are of."""
        return str(self.manifest["tokenizer"])

    @property
    def vocab_size(self) -> int:
        """Size of that tokenizer's vocabulary."""
        return int(self.manifest["vocab_size"])

    @property
    def licence(self) -> str:
        """Licence of the recordings or texts."""
        return str(self.manifest["licence"])

    @property
    def codec(self) -> dict[str, Any] | None:
        """Settings of the audio codec its ids were made with, where it is sound."""
        return self.manifest.get("codec")

    @property
    def source_sha256(self) -> str:
        """Hash of what it was made from; "" where none is known."""
        return str(self.manifest.get("source_sha256", ""))

    def verify(self, most: int | None = None) -> None:
        """Check the hash of every shard; not at all where they have more than `most` bytes together, as reading them
        then takes a while. Raises DataError at the first that differs.
        """
        bytes_in_all = DTYPE.itemsize * sum(self.split(name).tokens for name in self.manifest["splits"])
        if most is not None and bytes_in_all > most:
            return
        for name in self.manifest["splits"]:
            for shard in self.split(name).shards:
                path = self.folder / shard.file
                try:
                    digest = file_sha256(path)
                except OSError as error:
                    raise DataError(f"{path} cannot be read: {reason(error)}") from error
                if digest != shard.sha256:
                    raise DataError(f"{path} is damaged (its hash differs); prepare the corpus again")
