"""docs/reproduction.jsonl: the records that the repository keeps, so that grid and report go on anywhere.

A line for each run, shorter than `run` writes it: figures rounded, the curve by columns. Further lines have the speeds
measured apart and what training.attention_maps found out.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from shortcut_gen.errors import DataError
from shortcut_gen.files import write_whole
from training.experiment import results

KEPT = Path("docs/reproduction.jsonl")
DIGITS = {"loss": 5, "accuracy": 5, "nll": 5, "seconds": 1}
"""Decimals that are kept of a figure."""
COLUMNS = ("step", "tokens", "seconds", "loss", "accuracy")
"""Of a curve."""
SPEEDS_KEY, ATTENTION_KEY = "speeds", "attention"
OTHERS = {SPEEDS_KEY: ("corpus", "base", "precision"), ATTENTION_KEY: ("checkpoint", "corpus")}
"""Keys of the lines that are no run's, and what says which of its kind a line is."""


def compact(record: dict[str, Any]) -> dict[str, Any]:
    """A run's record as it is kept."""
    made = {key: _rounded(key, value) for key, value in record.items()}
    curve = record.get("curve")
    if isinstance(curve, list) and all(isinstance(point, dict) for point in curve):
        made["curve"] = {
            key: [_rounded(key, point[key]) for point in curve]
            for key in COLUMNS
            if all(key in point for point in curve)
        }
    return made


def expanded(record: dict[str, Any]) -> dict[str, Any]:
    """A kept record as `run` writes it, with its rounded figures; any other as it is."""
    curve = record.get("curve")
    if not isinstance(curve, dict) or not all(isinstance(column, list) for column in curve.values()):
        return record
    points = [dict(zip(curve, values, strict=False)) for values in zip(*curve.values(), strict=False)]
    return record | {"curve": points}


def keep(out: Path, records: Sequence[dict[str, Any]], others: Sequence[dict[str, Any]] = ()) -> int:
    """Add runs, and lines of another kind, to a file of kept records; of two of one run the later counts.

    Lines are sorted, so that two files that hold the same are the same. Returns how many runs it holds then. Raises
    DataError where the file cannot be read or written.
    """
    lines: dict[str, dict[str, Any]] = {}
    before = [record for _, record in results.lines(out)] if out.exists() else []
    for record in [*before, *map(compact, records), *others]:
        other = next((key for key in OTHERS if key in record), None)
        place = [other, *(record.get(key) for key in OTHERS[other])] if other else results.identity(record)
        lines[json.dumps([other or "", *_order(record), place], sort_keys=True)] = record
    text = "".join(json.dumps(lines[key], separators=(",", ":")) + "\n" for key in sorted(lines))
    write_whole(out, text.encode(), DataError)
    return sum(not any(key in record for key in OTHERS) for record in lines.values())


def lines_of(path: Path, kind: str) -> list[dict[str, Any]]:
    """The lines of one of the OTHERS; none where there is no such file. Raises DataError where it cannot be read."""
    return [record for _, record in results.lines(path) if kind in record] if path.exists() else []


def _order(record: dict[str, Any]) -> list[Any]:
    """Runs lie by corpus, tokens, arm and seed."""
    return [record.get("corpus", ""), f"{record.get('tokens', 0):012}", record.get("arm", ""), record.get("seed", 0)]


def _rounded(key: str, value: Any) -> Any:
    return round(value, DIGITS[key]) if key in DIGITS and isinstance(value, float) else value
