"""What the batch command has done: one line of JSON for each result, kept whole through kills and full disks."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from shortcut_gen.errors import MediaError
from shortcut_gen.files import open_regular, parse_json, reason, write_whole

MANIFEST = "manifest.jsonl"
MAX_MANIFEST_BYTES = 2**30
"""A longer one is refused: a hundred thousand results take 100 MB."""


class Manifest:
    """DIR/manifest.jsonl: one line for each result, one for each prompt that failed."""

    def __init__(self, folder: Path, has_file: Callable[[str], bool] | None = None) -> None:
        """has_file: whether a file of that name is there, if not in the folder. Raises MediaError."""
        self.path = folder / MANIFEST
        self._has_file = has_file or (lambda name: (folder / name).is_file())
        self._records: dict[str, dict[str, Any]] = {}
        text = self._read()
        lines = text.split("\n")[:-1] if text.endswith("\n") else text.split("\n") if text else []
        for line in lines:
            try:
                record = parse_json(line)
            except ValueError:
                continue  # cut short when an earlier run was killed
            if isinstance(record, dict):
                self._records[str(record.get("piece") or record.get("prompt"))] = record
        # A last line without its end would run into the next one.
        self._stale = len(self._records) != len(lines) or not text.endswith("\n" if text else "")

    def _read(self) -> str:
        try:
            with open_regular(self.path) as file:
                text = file.read(MAX_MANIFEST_BYTES + 1)
        except FileNotFoundError:
            return ""
        except OSError as error:
            raise MediaError(f"{self.path} cannot be read: {reason(error)}") from error
        if len(text) > MAX_MANIFEST_BYTES:
            raise MediaError(f"{self.path} has more than {MAX_MANIFEST_BYTES:,} bytes; another --out is needed")
        try:
            return text.decode()
        except UnicodeDecodeError as error:
            raise MediaError(f"{self.path} cannot be read: {error}") from error

    def has(self, piece: str, files: Iterable[str]) -> bool:
        """Whether a result is recorded and its files, by their keys in the record, are there."""
        record = self._records.get(piece, {})
        names = [record.get(key) for key in files]
        return bool(names) and all(isinstance(name, str) and self._has_file(name) for name in names)

    def seams(self) -> dict[str, float]:
        """Where the continuation begins in each MIDI file that is recorded, by its name, in seconds."""
        found = {}
        for record in self._records.values():
            name, figures = record.get("midi"), record.get("figures")
            seam = figures.get("seam_seconds") if isinstance(figures, dict) else None
            if isinstance(name, str) and isinstance(seam, int | float):
                found[name] = float(seam)
        return found

    def forget(self, keys: Iterable[str]) -> None:
        """Drop the lines of results about to be made again, and of prompts about to be tried again."""
        for key in keys:
            self._stale |= self._records.pop(key, None) is not None

    def tidy(self) -> None:
        """Rewrite the file if lines were dropped. Raises MediaError."""
        if self._stale:
            write_whole(self.path, "".join(json.dumps(record) + "\n" for record in self._records.values()).encode())
            self._stale = False

    def append(self, record: dict[str, Any]) -> None:
        """Add a line at once, so that a killed run has recorded what it finished. Raises MediaError."""
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")
        except OSError as error:
            raise MediaError(f"{self.path} cannot be written: {reason(error)}") from error
