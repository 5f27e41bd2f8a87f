"""The prompts of a batch: which files they are, and what each holds."""

import hashlib
import os
import re
import sys
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path

from shortcut_gen import media
from shortcut_gen.batch.models import Kind
from shortcut_gen.errors import MediaError, SettingsError
from shortcut_gen.files import is_regular, open_regular, reason
from shortcut_gen.media import Audio, Score

_GLANCE_SECONDS = 0.01  # of sound: enough to see that it can be read


def find_prompts(paths: Sequence[str], suffixes: Sequence[str], out: Path) -> list[Path]:
    """The files that paths name; of a folder those with a known suffix, at any depth, but none of the results.

    Raises SettingsError on a path that is not there, or a folder without a prompt.
    """
    found: list[Path] = []
    for text in paths:
        path = Path(text)
        if not path.is_dir():
            if not path.exists():
                raise SettingsError(f"{path}: no such file or folder")
            found.append(path)
            continue
        inside = sorted(_walk(path, tuple(suffixes), out.resolve()))
        if not inside:
            raise SettingsError(
                f"{path}: no {' or '.join(suffixes)} file in that folder (results in --out do not count)"
            )
        found += inside
    unique = {os.path.realpath(path): path for path in reversed(found)}
    return [path for path in found if unique[os.path.realpath(path)] is path]


def _walk(folder: Path, suffixes: tuple[str, ...], out: Path) -> Iterator[Path]:
    def refuse(error: OSError) -> None:
        raise SettingsError(f"{error.filename}: cannot be read: {reason(error)}") from error

    for top, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".") and (Path(top) / name).resolve() != out]
        if Path(top).resolve() != out:
            found = [Path(top) / n for n in names if n.lower().endswith(suffixes) and not n.startswith(".")]
            for path in found:
                if is_regular(path):
                    yield path
                else:
                    print(f"left out {path}: no regular file", file=sys.stderr)


def safe_name(stem: str) -> str:
    """A stem that is a plain file name everywhere, of at most 80 characters."""
    plain = unicodedata.normalize("NFKD", stem).encode("ascii", "ignore").decode()
    return re.sub(r"[^A-Za-z0-9_-]+", "_", plain)[:80].strip("_-") or "prompt"


def look(path: Path) -> tuple[Kind, str]:
    """What a prompt holds, by its first bytes, and the hash of its file. Raises MediaError on what is no prompt."""
    try:
        with open_regular(path) as file:
            midi = media.is_midi(file.read(12))
            file.seek(0)
            digest = hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
    except OSError as error:
        raise MediaError(f"{path} cannot be read: {reason(error)}") from error
    if midi:
        return Score, digest
    media.read(path, _GLANCE_SECONDS)
    return Audio, digest
