"""What training.prepare will write, decided before anything is written."""

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from training.corpus.encoding import Source
from training.corpus.shards import FORMAT

PROGRESS = ".progress"
"""Folder of what is done so far, inside the corpus folder; gone once the manifest is there."""


@dataclass(frozen=True)
class PlannedShard:
    """A shard still to be written."""

    split: str
    number: int
    names: tuple[str, ...]

    @property
    def file(self) -> str:
        """Its path in the corpus folder."""
        return f"{self.split}/shard-{self.number:05}.npy"

    @property
    def record(self) -> str:
        """The path of what is known of it once it is done."""
        return f"{PROGRESS}/{self.split}-{self.number:05}.json"


@dataclass(frozen=True)
class Plan:
    """The same source and settings give the same plan."""

    head: dict[str, Any]
    """What the manifest begins with."""
    shards: tuple[PlannedShard, ...]
    splits: tuple[str, ...]

    @classmethod
    def of(cls, source: Source, pieces_per_shard: int) -> "Plan":
        """The plan of a source. Raises DataError where the source is not all there."""
        splits = source.splits()
        head = {
            "format": FORMAT,
            "corpus": source.corpus,
            "source": source.path.name,
            "source_sha256": source.digest(),
            "tokenizer": source.tokenizer,
            "vocab_size": source.vocab_size,
            "licence": source.licence,
        }
        if source.codec is not None:
            head["codec"] = source.codec
        shards = tuple(
            PlannedShard(split, number, tuple(names_of_one))
            for split, names in splits.items()
            for number, names_of_one in enumerate(source.shards(names, pieces_per_shard))
        )
        layout = hashlib.sha256()
        for part in json.JSONEncoder().iterencode([(shard.file, shard.names) for shard in shards]):
            layout.update(part.encode("utf-8", "surrogateescape"))
        head["plan_sha256"] = layout.hexdigest()
        return cls(head, shards, tuple(splits))
