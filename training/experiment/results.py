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
    return [_checked(place, record) for place, record in lines(path)]


def kept(path: Path) -> list[dict[str, Any]]:
    """Every run of a file that the repository keeps, which is only read. Raises DataError at any damage."""
    if not path.exists():
        return []
    return [_checked(place, record) for place, record in lines(path) if "arm" in record]


def _checked(place: str, record: dict[str, Any]) -> dict[str, Any]:
    """A record with the fields of a model that came after it was made. Raises DataError."""
    if record.get("arm") not in KNOWN:
        raise DataError(f"{place}: the arm {record.get('arm')!r} is not known; known are {', '.join(KNOWN)}")
    try:
        models = {key: read_config(record[key]).to_dict() for key in ("model", "base") if key in record}
        return record | {"model": models.pop("model")} | models
    except (ValueError, KeyError, TypeError, AttributeError, ConfigError) as error:
        raise DataError(f"{place}: no record of a run ({error}); remove the line") from error


def finished(records: Sequence[dict[str, Any]], runs: Sequence[GridRun]) -> set[str]:
    """Names of the folders of those runs that have a record with the same settings, as `read` or `kept` found it."""
    held = {json.dumps(identity(record), sort_keys=True) for record in records}
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


IDENTITY = ("arm", "corpus", "seed", "model", "base", "optimizer", "data", "budget", "precision", "split", "limit")
"""What says which run a record is of: the keys of `GridRun.identity`."""


def identity(record: dict[str, Any]) -> dict[str, Any]:
    """The part of a record that says which run it is of."""
    return {key: record.get(key) for key in IDENTITY}
