"""MIDI files to ids: `python -m benchmarks.prepare --source maestro-v3.0.0-midi.zip [--json FILE]`.

Notes per second, one core each, from the bytes of a file in memory: our reading and encoding as training.prepare does
it, our reading alone, miditok's MIDI-like tokenizer, and pretty_midi's parsing alone; each in a process of its own,
taking turns. Ours folds the sustain pedal into the ends of notes; neither of the others does.
"""

import io
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.measuring.timing import Figure, about, alternate, command, describe, progress, ratio, table
from benchmarks.measuring.workers import started
from shortcut_gen.errors import DataError, SettingsError
from shortcut_gen.media import MAX_MIDI_BYTES, parse_score
from training.corpus.archives import KINDS, open_files, read
from training.corpus.shards import write_json

SELF = "benchmarks.prepare"
ENGINES = {
    "ours": "reading and encoding",
    "ours, reading alone": "reading",
    "miditok": "reading and encoding",
    "pretty_midi": "reading",
}


def midi_files(source: Path, limit: int | None) -> list[bytes]:
    """The first MIDI files of a folder or zip, in order of their names."""
    files = open_files(source, KINDS)
    names = [name for name in sorted(files.names()) if name.lower().endswith((".mid", ".midi"))][:limit]
    if not names:
        raise DataError(f"{source} has no MIDI file; at least one is needed")
    return [read(files, name, MAX_MIDI_BYTES) for name in names]


def _ours(encode: bool) -> Callable[[bytes], int]:
    """Our own way of a file."""
    from shortcut_gen.modalities.piano import PianoTokenizer

    tokenizer = PianoTokenizer()
    if encode:
        return lambda data: len(tokenizer.encode(parse_score(data)))
    return lambda data: len(parse_score(data).notes)


def _miditok() -> Callable[[bytes], int]:
    """miditok's MIDI-like tokens, as fine in velocity as ours."""
    import miditok
    import symusic

    tokenizer = miditok.MIDILike(miditok.TokenizerConfig(num_velocities=32))
    return lambda data: sum(len(track) for track in tokenizer(symusic.Score.from_midi(data)))


def _pretty_midi() -> Callable[[bytes], int]:
    """pretty_midi's parsing."""
    import pretty_midi

    return lambda data: len(pretty_midi.PrettyMIDI(io.BytesIO(data)).instruments)


def worker(engine: str, source: str, limit: int | None, threads: int) -> Callable[..., dict[str, Any]]:
    """Goes through all files at a call."""
    makers = {"miditok": _miditok, "pretty_midi": _pretty_midi}
    take = makers[engine]() if engine in makers else _ours(engine == "ours")
    files = midi_files(Path(source), limit)

    def go(count: int | None = None) -> dict[str, Any]:
        began = time.perf_counter()
        made = sum(take(data) for data in files[:count])
        return {"seconds": time.perf_counter() - began, "made": made}

    return go


def main(
    source: Path,
    limit: int | None = 40,
    rounds: int = 3,
    engines: tuple[str, ...] = tuple(ENGINES),
    json: Path | None = None,
) -> None:
    """Measure, print and write.

    Args:
        source: MAESTRO's zip, or any zip or folder of MIDI files.
        limit: Files that are taken, the first in order of names; null for all.
        rounds: Times each goes through them, in turn with the others.
        engines: What is measured.
        json: File to write.
    """
    if unknown := sorted(set(engines) - set(ENGINES)):
        raise SettingsError(f"engines has {unknown[0]!r}; some of {'; '.join(ENGINES)} are needed")
    if rounds < 1 or (limit is not None and limit < 1):
        raise SettingsError(f"rounds is {rounds} and limit {limit}; whole numbers of at least 1 are needed")
    machine = about(("miditok", "symusic", "pretty_midi"))
    print(describe(machine), flush=True)
    files = midi_files(source, limit)
    notes = sum(len(parse_score(data).notes) for data in files)
    shared = {"source": str(source.resolve()), "limit": limit}
    wanted = {name: (f"{SELF}:worker", {"engine": name, **shared}) for name in engines}
    with started(wanted, 1, {"count": 1}) as workers:
        timed = {
            name: (lambda worker=worker: notes / float(worker.ask()["seconds"]))  # type: ignore[misc]
            for name, worker in workers.items()
        }
        speeds = alternate(timed, rounds, progress)
    print(f"\n{len(files)} files of {source.name}, {notes:,} notes, {rounds} rounds\n")
    rows = []
    cells = [["", "what", "notes/s", "ours is so many times as fast"]]
    for name, values in sorted(speeds.items(), key=lambda item: -Figure.of(item[1]).median):
        times = ratio(speeds["ours"], values) if "ours" in speeds and not name.startswith("ours") else None
        cells.append([name, ENGINES[name], Figure.of(values).text(), times.text(".2f") if times else ""])
        row = {"engine": name, "what": ENGINES[name], "notes_per_second": Figure.of(values).to_dict(1)}
        rows.append(row | {"ours_over_it": times.to_dict() if times else None})
    print(table(cells), flush=True)
    if json:
        write_json(json, {"machine": machine, "files": len(files), "notes": notes, "rounds": rounds, "rows": rows})


if __name__ == "__main__":
    sys.exit(command(main))
