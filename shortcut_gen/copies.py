"""Is it copying? `python -m shortcut_gen.copies out/ --checkpoint checkpoints/piano`.

For each MIDI file the longest run of notes that a performance of the training data has too, in whatever key and tempo,
where, and beside it what real performances of other works come to. Of a file that the batch command made, its folder's
manifest says where the continuation begins, and only that is looked at.
"""

import dataclasses
import json
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jsonargparse import ArgumentError, ArgumentParser, set_parsing_settings

from shortcut_gen import shipped
from shortcut_gen.batch.manifest import Manifest
from shortcut_gen.copying import Copying, Run, open_copying, told
from shortcut_gen.errors import MediaError, SettingsError, ShortcutGenError
from shortcut_gen.files import is_regular, write_whole
from shortcut_gen.media import read_score
from shortcut_gen.modalities.piano import PianoTokenizer


@dataclass(frozen=True, kw_only=True)
class CopiesSettings:
    """How to look."""

    checkpoint: Path | None = None
    """Checkpoint folder whose training data to look in; checkpoints/piano if not given."""
    start_seconds: float | None = None
    """Look at what is struck from there on in every file; if not given, from where a batch's manifest says that the
    continuation begins, and at all of a file that no manifest knows."""
    json: Path | None = None
    """File to write the figures to."""

    def __post_init__(self) -> None:
        if self.start_seconds is not None and not 0 <= self.start_seconds < math.inf:
            raise SettingsError(f"start_seconds is {self.start_seconds}; a number of at least 0 is needed")


def find(given: Sequence[str]) -> list[Path]:
    """The files that paths name; of a folder its MIDI files, at any depth. Raises SettingsError."""
    found: list[Path] = []
    for text in given:
        path = Path(text)
        if path.is_dir():
            inside = sorted(p for p in path.rglob("*") if p.suffix.lower() in PianoTokenizer.suffixes and is_regular(p))
            if not inside:
                raise SettingsError(f"{path}: no {' or '.join(PianoTokenizer.suffixes)} file in that folder")
            found += inside
        elif not path.exists():
            raise SettingsError(f"{path}: no such file or folder")
        else:
            found.append(path)
    return list(dict.fromkeys(found))


class Search:
    """Looks through files."""

    def __init__(self, index: Copying, settings: CopiesSettings) -> None:
        self._index, self._settings = index, settings
        self._seams: dict[Path, dict[str, float]] = {}

    def run(self, path: Path) -> Run:
        """The longest run of a file. Raises MediaError."""
        score, start = read_score(path), self._start(path)
        try:
            return self._index.longest(score, start)
        except MediaError as error:
            raise MediaError(f"{path}: {error}") from error

    def _start(self, path: Path) -> float:
        if self._settings.start_seconds is not None:
            return self._settings.start_seconds
        if path.parent not in self._seams:
            self._seams[path.parent] = Manifest(path.parent).seams()
        return self._seams[path.parent].get(path.name, 0.0)


def summary(runs: Sequence[Run]) -> dict[str, Any]:
    """Of several files: how long their runs are, and how many are longer than those of 19 in 20 real excerpts."""
    lengths = np.sort([run.notes for run in runs])
    values: dict[str, Any] = {
        "files": len(runs),
        "median": int(lengths[(len(runs) - 1) // 2]),
        "high": int(lengths[math.ceil(0.95 * len(runs)) - 1]),
    }
    real = [(run.notes, run.real) for run in runs if run.real is not None]
    if real:
        values["real_median"] = float(np.median([each.median for _, each in real]))
        values["real_high"] = float(np.median([each.high for _, each in real]))
        values["above_real_high"] = sum(notes > each.high for notes, each in real)
    return values


def in_words(figures: dict[str, Any]) -> str:
    """The summary in a line."""
    count = figures["files"]
    text = f"{count} files: {figures['median']} notes in the median, {figures['high']} at most in 95% of them"
    if "above_real_high" in figures:
        text += (
            f"; real performances of other works: {figures['real_median']:g} and {figures['real_high']:g}; "
            f"{figures['above_real_high']} of {count} have a longer run than 95% of those"
        )
    return text


def copies(given: Sequence[str], settings: CopiesSettings) -> int:
    """Look through files, print a line for each and one for all. Returns how many could not be read."""
    paths = find(given)
    index = open_copying(settings.checkpoint or shipped.checkpoints() / "piano")
    search, runs, records, failed = Search(index, settings), [], [], 0
    for path in paths:
        try:
            run = search.run(path)
        except MediaError as error:
            print(f"failed: {error}", file=sys.stderr)
            records.append({"file": str(path), "error": str(error)})
            failed += 1
            continue
        print(f"{path}: {told(run)}", flush=True)
        runs.append(run)
        values = {name: value for name, value in dataclasses.asdict(run).items() if name != "places"}
        records.append({"file": str(path)} | values)
    figures = summary(runs) if runs else {"files": 0}
    if len(runs) > 1:
        print(in_words(figures))
    if settings.json:
        about = {"corpus": index.corpus, "summary": figures, "files": records}
        write_whole(settings.json, (json.dumps(about, indent=1) + "\n").encode())
    return failed


def _parser() -> ArgumentParser:
    parser = ArgumentParser(prog="python -m shortcut_gen.copies", description=__doc__, exit_on_error=False)
    parser.add_argument("files", nargs="+", help="MIDI files, or folders of them such as one of the batch command")
    parser.add_class_arguments(CopiesSettings)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command. Returns 0, 1 if a file could not be read, 2 if it could not start or go on."""
    set_parsing_settings(docstring_parse_attribute_docstrings=True)
    try:
        values = _parser().parse_args(None if arguments is None else list(arguments)).as_dict()
        files = values.pop("files")
        return 1 if copies(files, CopiesSettings(**values)) else 0
    except (ShortcutGenError, ArgumentError) as error:
        print("error:", " ".join(str(error).split()), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
