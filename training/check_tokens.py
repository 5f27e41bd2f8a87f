"""What piano tokens lose of a corpus: python -m training.check_tokens --source ZIP_OR_FOLDER.

Reads every MIDI file, encodes and decodes it, and compares the notes one by one. Exits 1 if a note was lost.
"""

import argparse
import os
import sys
import zipfile
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from shortcut_gen.errors import DataError, MediaError, ShortcutGenError
from shortcut_gen.media import Score, parse_score, read_score
from shortcut_gen.modalities.piano import PianoTokenizer, velocity_bin

_TOLERANCE = 1e-9  # of a time in seconds, for rounding in float64


@dataclass(kw_only=True)
class Losses:
    """Totals over performances; errors in seconds."""

    performances: int = 0
    unreadable: int = 0
    notes: int = 0
    lost: int = 0
    added: int = 0
    worst_onset: float = 0.0
    worst_end: float = 0.0
    late_onsets: int = 0
    """Onsets off by more than half a tick."""
    late_ends: int = 0
    velocity_outside_bin: int = 0
    instant: int = 0
    """Notes that begin and end in one tick: kept, without length."""
    struck_twice_in_a_tick: int = 0
    tokens: int = 0
    ungrammatical: int = 0
    """Ids the grammar forbids, the limit on a note's length aside."""
    longer_than_limit: int = 0
    """Notes longer than the tokenizer's max_note_seconds, which it would end there when it generates."""
    seconds: float = 0.0

    def __iadd__(self, other: "Losses") -> "Losses":
        for field in fields(self):
            mine, its = getattr(self, field.name), getattr(other, field.name)
            setattr(self, field.name, max(mine, its) if field.name.startswith("worst") else mine + its)
        return self


def _columns(score: Score) -> NDArray[np.float64]:
    """(N, 4): pitch, start, end, velocity, in order of pitch, then start, then end."""
    table = np.array([(note.pitch, note.start, note.end, note.velocity) for note in score.notes], np.float64)
    return table[np.lexsort((table[:, 2], table[:, 1], table[:, 0]))]


def compare(score: Score) -> Losses:
    """What encoding and decoding a score loses. Notes are matched by pitch and order of onset."""
    tokenizer = PianoTokenizer()
    ids = tokenizer.encode(score)
    before, after = _columns(score), _columns(tokenizer.decode(ids))
    losses = Losses(performances=1, notes=len(before), tokens=len(ids), seconds=score.duration)
    losses.ungrammatical = _ungrammatical(ids)
    losses.longer_than_limit = int((before[:, 2] - before[:, 1] > tokenizer.max_note_seconds).sum())
    for pitch in np.union1d(before[:, 0], after[:, 0]):
        old, new = before[before[:, 0] == pitch], after[after[:, 0] == pitch]
        losses.lost += max(len(old) - len(new), 0)
        losses.added += max(len(new) - len(old), 0)
        if len(old) != len(new):
            continue  # counted already; which note is which cannot be told
        onset, end = np.abs(new[:, 1:3] - old[:, 1:3]).T
        losses.worst_onset = max(losses.worst_onset, float(onset.max()))
        losses.worst_end = max(losses.worst_end, float(end.max()))
        losses.late_onsets += int((onset > 0.005 + _TOLERANCE).sum())
        losses.late_ends += int((end > 0.005 + _TOLERANCE).sum())
        losses.instant += int((new[:, 1] == new[:, 2]).sum())
        losses.struck_twice_in_a_tick += int((np.diff(new[:, 1]) == 0).sum())
        pairs = zip(old[:, 3], new[:, 3], strict=True)
        losses.velocity_outside_bin += sum(velocity_bin(int(one)) != velocity_bin(int(two)) for one, two in pairs)
    return losses


def _ungrammatical(ids: list[int]) -> int:
    grammar = PianoTokenizer(max_note_seconds=1e6, max_sounding=128).grammar()
    count = 0
    for token in ids:
        count += not grammar.allowed().numpy()[token]
        grammar.advance(token)
    return count


def _sources(source: Path) -> list[str]:
    """Names of the MIDI files in a zip or below a folder."""
    try:
        if source.is_dir():
            names = [str(path.relative_to(source)) for path in source.rglob("*")]
        else:
            with zipfile.ZipFile(source) as archive:
                names = archive.namelist()
    except (OSError, zipfile.BadZipFile) as error:
        raise DataError(f"{source} is neither a folder nor a zip that can be read: {error}") from error
    names = sorted(name for name in names if name.lower().endswith((".mid", ".midi")))
    if not names:
        raise DataError(f"{source} holds no MIDI files (.mid or .midi)")
    return names


def _check_file(source: Path, name: str) -> tuple[Losses, str]:
    """The losses of one file, and why it could not be read ("" if it could)."""
    try:
        if source.is_dir():
            score = read_score(source / name)
        else:
            with zipfile.ZipFile(source) as archive:
                score = parse_score(archive.read(name), name)
    except (MediaError, OSError, zipfile.BadZipFile) as error:
        return Losses(unreadable=1), str(error)
    return compare(score), ""


def check(source: Path, workers: int) -> Losses:
    """Every MIDI file of a zip or folder, on `workers` processes, with a progress bar."""
    names = _sources(source)
    total = Losses()

    def gather(results: Iterable[tuple[Losses, str]]) -> Iterator[str]:
        nonlocal total
        for losses, reason in tqdm(results, total=len(names), unit="file", desc="check"):
            total += losses
            if reason:
                yield reason

    with ProcessPoolExecutor(workers) as pool:
        for reason in gather(pool.map(partial(_check_file, source), names, chunksize=4)):
            tqdm.write(f"unreadable: {reason}", file=sys.stderr)
    return total


def report(losses: Losses) -> str:
    """The totals, a line each."""
    rows = [
        ("performances", f"{losses.performances:,} ({losses.seconds / 3600:.1f} h)"),
        ("unreadable files", f"{losses.unreadable:,}"),
        ("notes", f"{losses.notes:,}"),
        ("notes lost", f"{losses.lost:,}"),
        ("notes added", f"{losses.added:,}"),
        ("worst onset error", f"{losses.worst_onset * 1000:.3f} ms ({losses.late_onsets:,} above 5 ms)"),
        ("worst end error", f"{losses.worst_end * 1000:.3f} ms ({losses.late_ends:,} above 5 ms)"),
        ("velocity outside its bin", f"{losses.velocity_outside_bin:,}"),
        ("notes within one tick", f"{losses.instant:,} (kept, without length)"),
        ("struck twice in one tick", f"{losses.struck_twice_in_a_tick:,} (kept)"),
        ("ids outside the grammar", f"{losses.ungrammatical:,}"),
        ("notes above max_note_seconds", f"{losses.longer_than_limit:,}"),
        ("tokens", f"{losses.tokens:,}"),
        ("tokens per note", f"{losses.tokens / max(losses.notes, 1):.3f}"),
        ("tokens per second", f"{losses.tokens / max(losses.seconds, 1e-9):.2f}"),
    ]
    return "\n".join(f"{name:<30}{value}" for name, value in rows)


def main(arguments: list[str] | None = None) -> int:
    """Print what is lost; 1 if a note was, 2 if nothing could be checked."""
    parser = argparse.ArgumentParser(prog="python -m training.check_tokens", description=(__doc__ or "").strip())
    parser.add_argument("--source", type=Path, required=True, help="zip or folder of MIDI files, such as MAESTRO's")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes (default: one a core)")
    settings = parser.parse_args(arguments)
    try:
        if settings.workers < 1:
            raise DataError(f"workers is {settings.workers}; a whole number of at least 1 is needed")
        losses = check(settings.source, settings.workers)
    except ShortcutGenError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(report(losses))
    if not losses.performances:
        print("error: no file could be read", file=sys.stderr)
        return 2
    return 1 if losses.lost else 0


if __name__ == "__main__":
    sys.exit(main())
