"""Several prepared corpora as one."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from shortcut_gen.errors import DataError
from shortcut_gen.places import Url, is_url
from training.corpus.remote import open_at
from training.corpus.shards import Corpus, Split


@dataclass(frozen=True)
class JoinedCorpus:
    """Corpora of one tokenizer and one codec, read one behind the other; what a `Corpus` tells, it tells of all."""

    corpora: tuple[Corpus, ...]

    @property
    def folder(self) -> str:
        """The folders, as errors name them."""
        return " + ".join(str(corpus.folder) for corpus in self.corpora)

    def verify(self, most: int | None = None) -> None:
        """Check the hashes of the shards of each; see `Corpus.verify`. Raises DataError."""
        for corpus in self.corpora:
            corpus.verify(most)

    def split(self, name: str) -> Split:
        """The pieces of a split, of all that have one of that name. Raises DataError where none has."""
        splits = [corpus.split(name) for corpus in self.corpora if name in corpus.manifest["splits"]]
        if not splits:
            known = ", ".join(dict.fromkeys(name for corpus in self.corpora for name in corpus.manifest["splits"]))
            raise DataError(f"{self.folder} has no split {name!r}; it has {known}")
        return Split(self.folder, tuple(place for split in splits for place in split.places))

    @property
    def name(self) -> str:
        """Such as librispeech + speechocean762."""
        return " + ".join(corpus.name for corpus in self.corpora)

    @property
    def tokenizer(self) -> str:
        """Name of the tokenizer their ids are of."""
        return self.corpora[0].tokenizer

    @property
    def vocab_size(self) -> int:
        """Size of that tokenizer's vocabulary."""
        return self.corpora[0].vocab_size

    @property
    def codec(self) -> dict[str, Any] | None:
        """Settings of the audio codec their ids were made with, where they are sound."""
        return self.corpora[0].codec

    @property
    def licence(self) -> str:
        """Every licence there is among them."""
        return " and ".join(dict.fromkeys(corpus.licence for corpus in self.corpora))

    @property
    def source_sha256(self) -> str:
        """The hashes of what they were made from."""
        return ", ".join(corpus.source_sha256 for corpus in self.corpora)


def open_corpus(folders: str | os.PathLike[str] | Sequence[str | os.PathLike[str]]) -> Corpus | JoinedCorpus:
    """A prepared corpus, or several joined; each may be named by URL (`remote.open_at`). Raises DataError."""
    if isinstance(folders, str | os.PathLike):
        return _open(folders)
    corpora = tuple(_open(folder) for folder in folders)
    if not corpora:
        raise DataError("no corpus is named; the folder of at least one is needed")
    first = corpora[0]
    for other in corpora[1:]:
        if (other.tokenizer, other.vocab_size, other.codec) != (first.tokenizer, first.vocab_size, first.codec):
            raise DataError(
                f"{other.folder} holds {describe_ids(other.tokenizer, other.codec)} and {first.folder} "
                f"{describe_ids(first.tokenizer, first.codec)}; the same are needed to join"
            )
        if any(corpus.folder.resolve() == other.folder.resolve() for corpus in corpora if corpus is not other):
            raise DataError(f"{other.folder} is named twice; once is enough")
    return first if len(corpora) == 1 else JoinedCorpus(corpora)


def _open(folder: str | os.PathLike[str]) -> Corpus:
    if isinstance(folder, str) and is_url(folder):
        return open_at(Url(folder))
    return Corpus.open(folder)


def describe_ids(tokenizer: str, codec: dict[str, Any] | None) -> str:
    """What ids are, for errors: "speech ids of codec-16khz (0123456789ab), 4 codebooks"."""
    if not codec:
        return f"{tokenizer} ids"
    return (
        f"{tokenizer} ids of {codec.get('name')} ({codec.get('sha256', '')[:12]}), {codec.get('codebooks')} codebooks"
    )
