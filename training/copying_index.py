"""Index the training performances, to look for copies of them: `python -m training.copying_index checkpoints/NAME`.

It goes into the checkpoint's folder, for `shortcut_gen.copies` and whoever plays the model. With it goes what real
music comes to: the longest run of notes that excerpts of the test split share with performances of other works.
"""

import csv
import io
import re
import sys
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jsonargparse import ArgumentParser
from tqdm import tqdm

from shortcut_gen.checkpoint import read_info
from shortcut_gen.copying import INDEX, Copying, Line, Performance, write_copying
from shortcut_gen.errors import DataError, SettingsError
from shortcut_gen.modalities.piano import PianoTokenizer
from training.corpus.scores import MaestroSource
from training.corpus.shards import Corpus, Split, spread
from training.scoring.lines import line_of_ids
from training.support.command_line import add_checkpoint, run

LENGTHS = (50, 100, 200, 400, 800, 1600)
"""Of the real excerpts, in notes."""
_CATALOGUE = re.compile(r"\b(op|bwv|k|kv|d|s|hob|woo|l|hwv|rv|b)\W{0,2}((?:[ivx]+\W)?\d+)")


@dataclass(frozen=True, kw_only=True)
class IndexSettings:
    """What is indexed, and against what."""

    data: Path = Path("data/maestro")
    """Prepared corpus; its training split is indexed, its test split is the real music."""
    source: Path | None = None
    """MAESTRO's zip or folder, which names composers and titles; without it a performance is known by its file, and
    other performances of the same work are not left out."""
    excerpts: int = 4
    """Excerpts of each length from each test performance at most, spread over it."""

    def __post_init__(self) -> None:
        if not 1 <= self.excerpts <= 1000:
            raise SettingsError(f"excerpts is {self.excerpts}; a whole number from 1 to 1000 is needed")


def works(source: Path) -> dict[str, tuple[str, str]]:
    """Composer and title of each of MAESTRO's files. Raises DataError."""
    table = io.StringIO(MaestroSource(source).table, newline="")
    try:
        return {
            row["midi_filename"]: (row["canonical_composer"], row["canonical_title"]) for row in csv.DictReader(table)
        }
    except KeyError as error:
        raise DataError(f"{source}: its table has no column {error}") from error


def performances(split: Split, names: dict[str, tuple[str, str]] | None) -> list[Performance]:
    """The performances of a split. Raises DataError on one that the names lack."""
    out = []
    for piece in split.pieces:
        if names is not None and piece.name not in names:
            raise DataError(f"the corpus has {piece.name}, which is not in the table of the source")
        composer, title = names[piece.name] if names is not None else ("", "")
        out.append(Performance(name=piece.name, composer=composer, title=title, notes=piece.notes))
    return out


def same_work(one: Performance, other: Performance) -> bool:
    """Whether two may be of one work, or of parts of it: one composer, and one title or number in a catalogue."""
    if _plain(one.composer) != _plain(other.composer):
        return False
    title, others = _plain(one.title), _plain(other.title)
    numbers = set(_CATALOGUE.findall(title)) & set(_CATALOGUE.findall(others))
    return bool(numbers) or re.sub(r"\W", "", title) == re.sub(r"\W", "", others)


def _plain(text: str) -> str:
    return unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()


def real_runs(
    index: Copying, lines: Sequence[Line], given: Sequence[Performance], excerpts: int
) -> dict[int, dict[int, int]]:
    """By length of excerpt, how many have which longest run in performances of other works."""
    counts: dict[int, Counter[int]] = {length: Counter() for length in LENGTHS}
    for found, performance in zip(tqdm(lines, desc="real music", disable=None), given, strict=True):
        known = [k for k, other in enumerate(index.performances) if performance.title and same_work(performance, other)]
        for length in LENGTHS:
            places = len(found.pitch) // length
            for place in spread(places, excerpts):
                part = slice(place * length, (place + 1) * length)
                piece = Line(found.pitch[part], found.tick[part], np.arange(length))
                counts[length][index.longest_of(piece, without=known).notes] += 1
    return {length: dict(count) for length, count in counts.items() if count}


def build(checkpoint: Path, settings: IndexSettings) -> None:
    """Index the training split of the corpus and write it into the checkpoint's folder."""
    info, corpus = read_info(checkpoint), Corpus.open(settings.data)
    if info.tokenizer != corpus.tokenizer or corpus.tokenizer != PianoTokenizer.name:
        raise SettingsError(f"{checkpoint} and {settings.data} are no model of piano and its corpus; both are needed")
    names = works(settings.source) if settings.source else None
    train = corpus.split("train")
    lines = [line_of_ids(ids) for _, ids in train]
    about = {"corpus": corpus.name, "source_sha256": corpus.source_sha256, "licence": corpus.licence}
    known = [performance for performance in performances(train, names) if performance.notes]
    index = Copying.of([found for found in lines if len(found.pitch)], known, **about)
    test = corpus.split("test")
    index.real = real_runs(index, [line_of_ids(ids) for _, ids in test], performances(test, names), settings.excerpts)
    write_copying(checkpoint, index)
    size = (checkpoint / INDEX).stat().st_size
    print(f"{checkpoint / INDEX}: {len(known):,} performances, {len(index.steps):,} notes, {size / 1e6:.2f} MB")
    print("longest run that training performances of other works have too, in real performances")
    print(f"{'notes looked at':>16}{'excerpts':>10}{'median':>8}{'95%':>6}{'99%':>6}{'longest':>9}")
    for length, counts in index.real.items():
        runs = np.repeat(sorted(counts), [counts[run] for run in sorted(counts)])
        at = np.quantile(runs, (0.5, 0.95, 0.99), method="inverted_cdf")
        print(f"{length:>16,}{len(runs):>10,}{at[0]:>8}{at[1]:>6}{at[2]:>6}{runs[-1]:>9}")


def _parser() -> ArgumentParser:
    parser = ArgumentParser(prog="python -m training.copying_index", description=__doc__, exit_on_error=False)
    add_checkpoint(parser)
    parser.add_class_arguments(IndexSettings)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""

    def do(values: dict[str, Any]) -> None:
        build(values.pop("checkpoint"), IndexSettings(**values))

    return run(_parser, do, arguments)


if __name__ == "__main__":
    sys.exit(main())
