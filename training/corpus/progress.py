"""A corpus in the making: whether a folder holds it, begun or complete, and how it is cleared away."""

from pathlib import Path
from typing import Any

from shortcut_gen.errors import DataError
from shortcut_gen.files import read_json
from training.corpus.plan import PROGRESS, Plan
from training.corpus.shards import MANIFEST, MAX_MANIFEST_BYTES


def is_complete(out: Path, plan: Plan, named: object) -> bool:
    """Whether the folder, which errors call `named`, holds all of this plan; raises DataError where it holds something
    else.
    """
    if not out.exists():
        return False
    if not out.is_dir():
        raise DataError(f"{named} is a file; a folder is needed")
    for stored, complete in ((out / MANIFEST, True), (out / PROGRESS / "plan.json", False)):
        if stored.exists():
            _compare(named, read(stored), plan)
            return complete
    if any(path.name != PROGRESS for path in out.iterdir()):
        raise DataError(f"{named} holds other files; a new or empty folder is needed")
    return False


def _compare(named: object, stored: dict[str, Any], plan: Plan) -> None:
    for key, what in (
        ("format", "format"),
        ("corpus", "corpus"),
        ("tokenizer", "tokenizer"),
        ("vocab_size", "vocabulary"),
        ("codec", "codec, by hash"),
        ("licence", "licence"),
        ("source_sha256", "content, by hash"),
        ("plan_sha256", "split or layout, by hash"),
    ):
        if stored.get(key) != plan.head.get(key):
            was, now = (_short(value) for value in (stored.get(key), plan.head.get(key)))
            raise DataError(f"{named} holds another corpus ({what}: {was}, not {now}); choose another folder")


def _short(value: Any) -> str:
    """A value of the manifest in a few words."""
    if isinstance(value, dict):
        return f"{value.get('name')} with {value.get('codebooks')} codebooks, {str(value.get('sha256'))[:12]}"
    return str(value)[:40]


def read(path: Path) -> dict[str, Any]:
    """The object in a JSON file of a corpus. Raises DataError."""
    values = read_json(path, DataError, most=MAX_MANIFEST_BYTES)
    if isinstance(values, dict):
        return values
    raise DataError(f"{path} is damaged; remove its folder or choose another one")


def clear_progress(out: Path) -> None:
    """Take away what is known of a corpus in the making."""
    for path in (out / PROGRESS).iterdir():
        path.unlink()
    (out / PROGRESS).rmdir()


def clear(out: Path, plan: Plan) -> None:
    """Take away all that was written, and nothing else."""
    for shard in plan.shards:
        (out / shard.file).unlink(missing_ok=True)
    clear_progress(out)
    for folder in (*(out / split for split in plan.splits), out):
        if not any(folder.iterdir()):
            folder.rmdir()


def summary(manifest: dict[str, Any]) -> str:
    """A manifest in a line."""
    parts = []
    for name, split in manifest["splits"].items():
        pieces = sum(len(shard["pieces"]) for shard in split["shards"])
        notes = f", {split['notes']:,} notes" if split["notes"] else ""
        hours = f", {split['seconds'] / 3600:.1f} h" if split["seconds"] else ""
        parts.append(f"{name} {pieces:,} pieces, {split['tokens']:,} tokens{notes}{hours}")
    skipped = len(manifest["skipped"])
    return "; ".join(parts) + (f"; {skipped} left out" if skipped else "")
