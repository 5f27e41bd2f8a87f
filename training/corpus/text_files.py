"""Texts read in blocks: whole files, their lines, or stretches of them."""

from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import IO

from shortcut_gen.errors import DataError
from training.corpus.archives import Files, told

BLOCK_BYTES = 1 << 20
"""Bytes that are held of a file at once."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """A part of a file, in bytes."""

    file: str
    start: int
    size: int


def contents(files: Files, names: Iterable[str]) -> Iterator[tuple[str, Iterator[bytes]]]:
    """Each file and its content, block by block; what is not taken of a file before the next one is lost."""
    for name in names:
        with closing(files.open(name)) as stream:
            yield name, _blocks(stream, files.where(name))


def _blocks(stream: IO[bytes], where: str) -> Iterator[bytes]:
    while True:
        with told(where):
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


def read_stretches(files: Files, stretches: Iterable[Stretch]) -> Iterator[bytes]:
    """The bytes of each stretch. Those that lie one behind the other in a file take one reading of it."""
    stream: IO[bytes] | None = None
    current = ""
    try:
        for stretch in stretches:
            with told(files.where(stretch.file)):
                if stream is None or stretch.file != current or stretch.start < stream.tell():
                    if stream is not None:
                        stream.close()
                    stream, current = files.open(stretch.file), stretch.file
                stream.seek(stretch.start)
                data = stream.read(stretch.size)
            if len(data) < stretch.size:
                raise DataError(f"{files.where(stretch.file)} was longer before: it changed while it was read")
            yield data
    finally:
        if stream is not None:
            stream.close()
