"""Corpora of text: text8, WikiText-103, and a folder or archive of novels."""

import hashlib
import itertools
import posixpath
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from tqdm import tqdm

from shortcut_gen.errors import DataError, ShortcutGenError
from shortcut_gen.modalities import get_tokenizer
from shortcut_gen.modalities.text import TextTokenizer, reduce
from training.corpus.archives import FileAlone, open_files
from training.corpus.encoding import Encoded, Failed, Splits, check_vocabulary
from training.corpus.scores import assign_splits, check_shares
from training.corpus.shards import DTYPE, SPLITS
from training.corpus.text_files import Stretch, contents, lines, read_stretches

SHARD_BYTES = 16_000_000
"""Text of a shard, about: seconds of work, which is what a killed preparation loses at most."""


@dataclass(frozen=True)
class Passage:
    """A piece to encode."""

    name: str
    data: bytes
    """UTF-8."""


def as_it_is(text: str) -> str:
    """The text."""
    return text


def with_newlines(text: str) -> str:
    """The text with one kind of line end."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


class TextCoder:
    """Encodes passages."""

    ahead = 8

    def __init__(self, tokenizer: str, clean: Callable[[str], str], begins: bool) -> None:
        """clean: what is done to a text first, a function that can be pickled; begins: whether a piece is a text from
        its start, before which then stands what every text begins with, so that its first id can be predicted, too.
        """
        self._name, self._clean, self._begins = tokenizer, clean, begins

    @cached_property
    def _tokenizer(self) -> TextTokenizer:
        tokenizer = get_tokenizer(self._name)
        check_vocabulary(self._name, tokenizer.vocab_size)
        return tokenizer  # type: ignore[return-value]  # those of text

    def __call__(self, job: Passage) -> list[Encoded | Failed]:
        """The passage."""
        try:
            ids = self._tokenizer.encode_array(self._clean(job.data.decode("utf-8-sig")))
        except UnicodeDecodeError as error:
            return [Failed(job.name, f"{job.name} is no UTF-8 text, from byte {error.start:,} on")]
        except ShortcutGenError as error:
            return [Failed(job.name, f"{job.name}: {error}")]
        if self._begins:
            ids = np.concatenate([np.asarray(self._tokenizer.start(0.0), DTYPE), ids])
        return [Encoded(job.name, ids, notes=0, seconds=0.0)]


class TextSource:
    """What sources of text share. Every piece is found, and every file hashed, when it is made."""

    corpus: str
    licence: str
    tokenizer: str
    codec: dict[str, Any] | None = None
    strict = True
    needed: ClassVar[str]
    """What errors ask for."""

    def __init__(self, path: Path, *, clean: Callable[[str], str] = as_it_is, begins: bool = True) -> None:
        self.path = path
        self._files = open_files(path, self.needed)
        self._coder = TextCoder(self.tokenizer, clean, begins)
        tokenizer = get_tokenizer(self.tokenizer)
        tokenizer.encode("a")  # a package that is missing is named before hundreds of megabytes are read
        self.vocab_size = tokenizer.vocab_size
        self._hashes: dict[str, str] = {}
        with tqdm(desc=f"{path.name}: looking", unit="B", unit_scale=True, leave=False, disable=None) as bar:
            self._bar = bar
            pieces = self._find()
        self._splits: Splits = {split: list(pieces[split]) for split in SPLITS}
        self._stretches = {name: stretch for split in SPLITS for name, stretch in pieces[split].items()}

    def _find(self) -> dict[str, dict[str, Stretch]]:
        """The pieces of each split by name, all of them there; notes the hash of every file. Raises DataError."""
        raise NotImplementedError

    def _read(self, names: Iterable[str]) -> Iterator[tuple[str, Iterator[bytes]]]:
        """Each file and its blocks; once all are taken, its hash is noted."""
        for name, blocks in contents(self._files, names):
            yield name, self._hashed(name, blocks)

    def _hashed(self, name: str, blocks: Iterable[bytes]) -> Iterator[bytes]:
        digest = hashlib.sha256()
        for block in blocks:
            digest.update(block)
            self._bar.update(len(block))
            yield block
        self._hashes[name] = digest.hexdigest()

    def splits(self) -> Splits:
        """The pieces of each split."""
        return self._splits

    def digest(self) -> str:
        """Of every file's content and its name without folders: the same for an archive and what it unpacks to."""
        total = hashlib.sha256()
        for name, digest in sorted((name.rpartition("/")[2], digest) for name, digest in self._hashes.items()):
            total.update(f"{digest}  {name}\n".encode("utf-8", "surrogateescape"))
        return total.hexdigest()

    def shards(self, names: Sequence[str], pieces: int) -> list[Sequence[str]]:
        """So much text in each, however many pieces that is."""
        before = itertools.accumulate((self._stretches[name].size for name in names), initial=0)
        parts = itertools.groupby(zip(names, before, strict=False), lambda place: place[1] // SHARD_BYTES)
        return [[name for name, _ in part] for _, part in parts]

    def jobs(self, names: Sequence[str]) -> Iterator[Passage]:
        """Each piece with its text, read when it is its turn."""
        texts = read_stretches(self._files, (self._stretches[name] for name in names))
        return map(Passage, names, texts)

    def coder(self) -> TextCoder:
        """Encodes the passages."""
        return self._coder


class Text8Source(TextSource):
    """text8 as published: the file, the zip it comes in, or a folder with it. Split 90, 5 and 5 as is usual.

    A split is one text, cut into pieces of a million characters.
    """

    corpus = "text8"
    licence = "GFDL (text of Wikipedia, 2006)"
    tokenizer = "characters"
    needed = "the official file text8, or text8.zip,"
    CHARACTERS: ClassVar = 100_000_000
    PIECE: ClassVar = 1_000_000
    _SHARES: ClassVar = {"train": (0, 90), "validation": (90, 95), "test": (95, 100)}
    _OTHERS = re.compile(rb"[^ a-z]")

    def __init__(self, path: Path) -> None:
        super().__init__(path, begins=False)

    def _find(self) -> dict[str, dict[str, Stretch]]:
        found = self._files.names()
        if not isinstance(self._files, FileAlone):
            found = [name for name in found if name.rpartition("/")[2] == "text8"]
        if len(found) != 1:
            raise DataError(f"{self.path} has {'no' if not found else 'more than one'} text8; {self.needed} is needed")
        for name, blocks in self._read(found):
            self._check(self._files.where(name), blocks)
        self._hashes = {"text8": self._hashes[found[0]]}
        return {
            split: self._pieces(found[0], *(share * self.CHARACTERS // 100 for share in shares))
            for split, shares in self._SHARES.items()
        }

    def _check(self, where: str, blocks: Iterable[bytes]) -> None:
        count = 0
        for block in blocks:
            if other := self._OTHERS.search(block):
                raise DataError(
                    f"{where} holds {other[0].decode('latin-1')!r} at character {count + other.start():,}; "
                    "text8 has a space and a to z alone"
                )
            count += len(block)
        if count != self.CHARACTERS:
            raise DataError(f"{where} has {count:,} characters; text8 has exactly {self.CHARACTERS:,}")

    def _pieces(self, file: str, start: int, end: int) -> dict[str, Stretch]:
        """A split cut into pieces, named by their place as Python writes it."""
        cuts = [*range(start, end, self.PIECE), end]
        return {f"text8[{low}:{high}]": Stretch(file, low, high - low) for low, high in itertools.pairwise(cuts)}


class WikiTextSource(TextSource):
    """WikiText-103 as published, raw or as tokens: the zip or its unpacked folder, with its own split.

    A piece is an article. The text is taken as it is, with its <unk> and @-@.
    """

    licence = "CC BY-SA"
    tokenizer = "gpt2"
    needed = "the official zip of WikiText-103, or its unpacked folder,"
    KINDS: ClassVar = {"raw": "wikitext-103-raw", "tokens": "wikitext-103"}
    LINES: ClassVar = {"train": 1_801_350, "validation": 3_760, "test": 4_358}
    """Of the published files, raw and tokens alike. With the words, the counts of arXiv 1609.07843, table 1."""
    _FILES: ClassVar = {"train": "train", "validation": "valid", "test": "test"}
    # " = Title = "; a section has two signs or more at each side.
    _HEADING = re.compile(rb" = (?!= )(.*\S) =\s*$")

    def __init__(self, path: Path) -> None:
        super().__init__(path)

    def _find(self) -> dict[str, dict[str, Stretch]]:
        files = self._choose()
        found: dict[str, dict[str, Stretch]] = {}
        for split, (name, blocks) in zip(files, self._read(files.values()), strict=True):
            found[split] = self._articles(split, name, blocks)
        return found

    def _choose(self) -> dict[str, str]:
        """The file of each split."""
        by_base: dict[str, list[str]] = {}
        for name in self._files.names():
            by_base.setdefault(name.rpartition("/")[2], []).append(name)
        wanted = {kind: [f"wiki.{part}.{kind}" for part in self._FILES.values()] for kind in self.KINDS}
        there = [kind for kind, bases in wanted.items() if any(base in by_base for base in bases)]
        if not there:
            raise DataError(f"{self.path} has no wiki.train.raw or wiki.train.tokens; {self.needed} is needed")
        if len(there) > 1:
            raise DataError(f"{self.path} has both raw files and tokens; a zip or folder of one of them is needed")
        self.corpus = self.KINDS[there[0]]
        for base in wanted[there[0]]:
            if len(names := by_base.get(base, [])) != 1:
                raise DataError(f"{self.path} has {len(names) or 'no'} {base}; {self.needed} is needed")
        return {split: by_base[base][0] for split, base in zip(self._FILES, wanted[there[0]], strict=True)}

    def _articles(self, split: str, name: str, blocks: Iterable[bytes]) -> dict[str, Stretch]:
        """The articles of a file, by number and title: each from its heading, which stands between empty lines, to
        the next one's. Raises DataError where it is not the published file."""
        starts: list[tuple[int, str]] = []
        heading: tuple[int, str] | None = None
        after_empty, size, count = True, 0, 0
        for line in lines(blocks):
            empty = line.isspace()
            if heading and empty:
                starts.append(heading)
            title = self._HEADING.match(line) if after_empty else None
            heading = (size, title[1].decode("utf-8", "replace")) if title else None
            after_empty, size, count = empty, size + len(line), count + 1
        where = self._files.where(name)
        if count != self.LINES[split]:
            raise DataError(f"{where} has {count:,} lines; WikiText-103's has {self.LINES[split]:,}")
        if not starts:
            raise DataError(f"{where} has no article's heading such as ' = Title = '; {self.needed} is needed")
        ends = [start for start, _ in starts[1:]] + [size]
        starts[0] = (0, starts[0][1])
        return {
            f"{split}/{number:05} {title}": Stretch(name, start, end - start)
            for number, ((start, title), end) in enumerate(zip(starts, ends, strict=True))
        }


class NovelsSource(TextSource):
    """Novels, or other texts: every .txt of a folder or of a tar or zip archive, split by text.

    As characters, a text is reduced to text8's alphabet. The same content is never in two splits.
    """

    corpus = "novels"
    licence = "out of copyright"
    needed = "a folder or an archive of .txt files"
    TOKENS: ClassVar = {"characters": "characters", "bpe": "gpt2"}

    def __init__(self, path: Path, *, tokens: str, seed: int, validation: float, test: float) -> None:
        """tokens: a key of TOKENS; validation and test: shares of the texts."""
        check_shares(validation, test)
        self.tokenizer = self.TOKENS[tokens]
        self._seed, self._shares = seed, (validation, test)
        super().__init__(path, clean=reduce if tokens == "characters" else with_newlines)

    def _find(self) -> dict[str, dict[str, Stretch]]:
        names = [name for name in self._files.names() if name.lower().endswith(".txt")]
        if not names:
            raise DataError(f"{self.path} has no .txt file; {self.needed} is needed")
        sizes = {name: sum(map(len, blocks)) for name, blocks in self._read(names)}
        # Without the folder all of them lie in, so that an archive and what it unpacks to give the same pieces.
        root = posixpath.commonpath([posixpath.dirname(f"/{name}") for name in names])
        short = {name: posixpath.relpath(f"/{name}", root) for name in sorted(names)}
        hashes = {name: self._hashes[name] for name in short}
        validation, test = self._shares
        splits = assign_splits(hashes, seed=self._seed, validation=validation, test=test)
        return {
            split: {short[name]: Stretch(name, 0, sizes[name]) for name in of_split}
            for split, of_split in splits.items()
        }
