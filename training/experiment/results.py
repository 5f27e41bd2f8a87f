"""results.jsonl, a line for every finished run of a grid: which of them are there, and one more."""

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from shortcut_gen.errors import ConfigError, DataError
from shortcut_gen.files import Lock, reason
from training.experiment.arms import KNOWN
from training.experiment.grid import GridRun
from training.run.trials import read_config

RESULTS = "results.jsonl"


@contextmanager
def claimed(out: Path) -> Iterator[None]:
    """Keeps a second grid out of the folder."""
    with ExitStack() as stack:
        try:
            out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DataError(f"{out} cannot be written into: {reason(error)}") from error
        busy = f"{out} is in use by another training.reproduce; another --out is needed"
        stack.enter_context(Lock(out / "lock", busy, DataError))
        yield


def lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every record of a file and how errors name its place. Raises DataError where one is no JSON object."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise DataError(f"{path} cannot be read: {reason(error)}; training.reproduce run writes it") from error
    except ValueError as error:
        raise DataError(f"{path} is not text; a results.jsonl of training.reproduce run is needed") from error
    for number, line in enumerate(text.splitlines(), start=1):
        place = f"{path}, line {number}"
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{place} is not a JSON object, perhaps cut short; remove the line") from error
        if not isinstance(record, dict):
            raise DataError(f"{place} is not a JSON object; a record of training.reproduce run is needed")
        yield place, record


def read(path: Path) -> list[dict[str, Any]]:
    """Every record of a grid. A last line that was cut off by a crash is removed. Raises DataError at any other damage,
    and at an arm that is not known."""
    if not path.exists():
        return []
    try:
        content = path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if whole != content:
            print(f"note: the last line of {path} was cut short and is removed; its run is scored again", flush=True)
            os.truncate(path, len(whole))
    except OSError as error:
        raise DataError(f"{path} cannot be read: {reason(error)}") from error
    records = []
    for place, record in lines(path):
        if record.get("arm") not in KNOWN:
            raise DataError(f"{place}: the arm {record.get('arm')!r} is not known; known are {', '.join(KNOWN)}")
        try:
            records.append(record | {"model": read_config(record["model"]).to_dict()})
        except (ValueError, KeyError, TypeError, ConfigError) as error:
            raise DataError(f"{place}: no record of a run ({error}); remove the line") from error
    return records


def finished(path: Path, runs: Sequence[GridRun]) -> set[str]:
    """Names of the folders of those runs that have a record with the same settings."""
    held = {json.dumps(record, sort_keys=True) for record in map(_identity, read(path))}
    return {run.folder.name for run in runs if json.dumps(run.identity(), sort_keys=True) in held}


def append(path: Path, record: dict[str, Any]) -> None:
    """Add a line in one write, on disk when this returns. Raises DataError."""
    line = (json.dumps(record) + "\n").encode()
    try:
        file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(file, line)
            os.fsync(file)
        finally:
            os.close(file)
    except OSError as error:
        raise DataError(f"{path} cannot be written: {reason(error)}") from error


IDENTITY = ("arm", "corpus", "seed", "model", "optimizer", "data", "budget", "precision", "split", "limit")
"""What says which run a record is of: the keys of `GridRun.identity`."""


def _identity(record: dict[str, Any]) -> dict[str, Any]:
    return {key: record.get(key) for key in IDENTITY}
