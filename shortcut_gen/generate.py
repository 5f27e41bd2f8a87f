"""Batch generation: `python -m shortcut_gen.generate PROMPT... --out DIR`.

For each variation of each prompt a MIDI file and a WAV file, or for speech a WAV file alone, and one line in
DIR/manifest.jsonl. A file's name holds a hash of all that decides its sound (prompt, settings, checkpoint), so a run
never overwrites the result of another, and the same command run again does only what is missing.
"""

import contextlib
import hashlib
import json
import os
import re
import sys
import unicodedata
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from shortcut_gen import media
from shortcut_gen.batch.manifest import Manifest
from shortcut_gen.batch.models import Kind, Model, Models
from shortcut_gen.batch.settings import BatchSettings, arguments
from shortcut_gen.errors import MediaError, PromptError, SettingsError, ShortcutGenError
from shortcut_gen.files import Lock, is_regular, open_regular, reason
from shortcut_gen.media import Audio, Score
from shortcut_gen.media.render import renderer_name
from shortcut_gen.pipeline import Continuation, Prompt

LOCK = ".lock"
"""A file in the folder of results while they are made."""


@dataclass(frozen=True, kw_only=True)
class Piece:
    """One result to make: a variation of a prompt, or of nothing (`path` None)."""

    path: Path | None
    sha256: str | None
    """Of the prompt's file."""
    name: str
    """Stem of its files, with a hash of all that decides its sound; and what the manifest calls it."""
    variation: int
    model: Model


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


def _safe(stem: str) -> str:
    """A stem that is a plain file name everywhere, of at most 80 characters."""
    plain = unicodedata.normalize("NFKD", stem).encode("ascii", "ignore").decode()
    return re.sub(r"[^A-Za-z0-9_-]+", "_", plain)[:80].strip("_-") or "prompt"


def _make_folder(folder: Path) -> None:
    """Make it and see that files can be made in it, before minutes go into music that could not be kept."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MediaError(f"{folder} cannot be made: {reason(error)}") from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise MediaError(f"{folder} cannot be written to: permission denied")


class Batch:
    """One run of the command."""

    def __init__(self, settings: BatchSettings) -> None:
        self.settings = settings
        self.models = Models(settings.checkpoint, settings.device, settings.engine, settings.precision)
        self.done = self.skipped = self.failed = 0
        self._manifest: Manifest  # read once the folder is ours, as whoever held it before has left it
        self._prompts: dict[Path, Prompt | None] = {}  # those of the last chunk; None for a bad one

    def run(self, given: Sequence[str]) -> None:
        """Make what is missing. Raises SettingsError, CheckpointError, CodecError, MediaError.

        Nothing is written before prompts, settings and models have been looked at.
        """
        out = self.settings.out
        with contextlib.ExitStack() as held:
            if out.is_dir():
                held.enter_context(self._lock())
            self._manifest = Manifest(out)
            paths = find_prompts(given, self.models.suffixes, out)
            todo, errors = self._plan(paths)
            for model in {id(piece.model): piece.model for piece in todo}.values():
                _ = model.pipeline
            if not out.is_dir():
                held.enter_context(self._lock())
            self._run(paths, todo, errors)

    def _lock(self) -> Lock:
        """Keeps a second run of the command out of the folder."""
        out = self.settings.out
        _make_folder(out)
        return Lock(
            out / LOCK,
            f"{out} is in use by another run of this command; wait for it, or name another --out",
            MediaError,
        )

    def _run(self, paths: Sequence[Path], todo: list[Piece], errors: list[dict[str, Any]]) -> None:
        self._manifest.forget([str(path) for path in paths] + [piece.name for piece in todo])
        self._manifest.tidy()
        for error in errors:
            self._fail(error)
        self._make(todo)

    def _make(self, todo: Sequence[Piece]) -> None:
        total = sum(self._length(piece) for piece in todo)
        worker = ThreadPoolExecutor(1)
        keeping: list[Future[None]] = []
        with tqdm(total=round(total), unit="s", disable=None) as bar:
            try:
                for chunk in self._chunks(todo):
                    made = self._generate(chunk, bar)
                    _ = [future.result() for future in keeping]
                    # Rendering and writing go on beside the next chunk: the renderer lets other threads run.
                    keeping = [worker.submit(self._keep, piece, continuation) for piece, continuation in made]
                _ = [future.result() for future in keeping]
            finally:
                worker.shutdown(cancel_futures=True)

    def _chunks(self, todo: Sequence[Piece]) -> Iterator[list[Piece]]:
        """Pieces to generate together: of one model, at most so many."""
        size = self.settings.batch_size
        for _, group in groupby(todo, key=lambda piece: id(piece.model)):
            pieces = list(group)
            yield from (pieces[start : start + size] for start in range(0, len(pieces), size))

    def _plan(self, paths: Sequence[Path]) -> tuple[list[Piece], list[dict[str, Any]]]:
        """The pieces to make, model by model, and records of unreadable prompts; counts what is there already."""
        pieces: dict[str, Piece] = {}
        errors: list[dict[str, Any]] = []
        for path in paths:
            digest = None
            try:
                kind, digest = _look(path)
            except MediaError as error:
                errors.append({"prompt": str(path), "sha256": digest, "error": str(error)})
                continue
            model = self.models.of(kind)
            for variation in range(self.settings.variations):
                piece = self._piece(path, digest, variation, model)
                pieces[piece.name] = piece
        for variation in range(self.settings.from_scratch):
            piece = self._piece(None, None, variation, self.models.of(Score))
            pieces[piece.name] = piece
        wanted = [
            p for p in pieces.values() if self.settings.overwrite or not self._manifest.has(p.name, self._files(p))
        ]
        self.skipped = len(pieces) - len(wanted)
        order = {key: place for place, key in enumerate(dict.fromkeys(id(piece.model) for piece in wanted))}
        return sorted(wanted, key=lambda piece: order[id(piece.model)]), errors

    def _files(self, piece: Piece) -> tuple[str, ...]:
        """The kinds of files that a result has, as the manifest calls them."""
        if piece.model.kind is Audio:
            return ("wav",)
        return ("midi",) if self.settings.midi_only else ("midi", "wav")

    def _length(self, piece: Piece) -> float:
        """Seconds to make."""
        return self.settings.params(piece.model.usual).seconds or 0.0

    def _piece(self, path: Path | None, digest: str | None, variation: int, model: Model) -> Piece:
        decides = [digest, self.settings.seed, self.settings.recorded(model.usual), model.sha256]
        decides += [model.precision] if model.precision != "f32" else []
        key = hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:8]
        stem = _safe(path.stem) if path else "scratch"
        return Piece(path=path, sha256=digest, name=f"{stem}-{key}-v{variation}", variation=variation, model=model)

    def _prompt(self, piece: Piece) -> Prompt | None:
        """The prompt of a piece, read once however many variations it has; None, recorded once, if it is bad."""
        if piece.path is None:
            return Prompt.empty()
        if piece.path not in self._prompts:
            self._prompts = {path: prompt for path, prompt in self._prompts.items() if prompt is None}
            try:
                prompt = Prompt.from_file(piece.path, self.settings.prompt_seconds)
                piece.model.pipeline.encode(prompt)
                self._prompts[piece.path] = prompt
            except (MediaError, PromptError) as error:
                self._prompts[piece.path] = None
                self._fail({"prompt": str(piece.path), "sha256": piece.sha256, "error": str(error)})
        return self._prompts[piece.path]

    def _generate(self, pieces: Sequence[Piece], bar: tqdm) -> list[tuple[Piece, Continuation]]:
        """Continue some pieces of one model side by side; those with a bad prompt are left out."""
        before, model = bar.n, pieces[0].model
        length = self._length(pieces[0])
        given = [(piece, self._prompt(piece)) for piece in pieces]
        rows = [(piece, prompt) for piece, prompt in given if prompt is not None]
        made: tuple[Continuation, ...] = ()
        if rows:
            params = self.settings.params(pieces[0].model.usual)
            for progress in model.pipeline.stream_rows([(prompt, p.variation) for p, prompt in rows], params):
                made = progress.continuations
                seconds = sum(model.tokenizer.seconds(continuation.ids) for continuation in made)
                bar.update(round(before + min(seconds, len(rows) * length)) - bar.n)
        bar.update(round(before + len(pieces) * length) - bar.n)
        return [(piece, continuation) for (piece, _), continuation in zip(rows, made, strict=True)]

    def _keep(self, piece: Piece, continuation: Continuation) -> None:
        """Write one result: the MIDI file, the WAV file, then its line, so that a line means whole files."""
        wanted = self._files(piece)
        record = self._record(piece)
        files: dict[str, Any] = {"midi": None, "wav": None}
        figures: dict[str, Any] = {
            "seconds": round(continuation.seconds, 3),
            "seam_seconds": round(continuation.seam_seconds, 3),
            "tokens": len(continuation.ids),
        }
        if "midi" in wanted:
            files["midi"] = f"{piece.name}.mid"
            continuation.score.write(self.settings.out / files["midi"])
            figures |= {"notes": len(continuation.score.notes), "seconds": round(continuation.score.duration, 3)}
        if "wav" in wanted:
            try:
                audio = continuation.audio()
            except MediaError as error:
                self._fail(record | {"error": str(error)})
                return
            files["wav"] = f"{piece.name}.wav"
            audio.write(self.settings.out / files["wav"])
            figures |= {
                "sample_rate": audio.sample_rate,
                "peak": round(float(np.abs(audio.samples).max(initial=0.0)), 4),
            }
            if "midi" in wanted:
                files["renderer"] = renderer_name()
        self._manifest.append(record | files | {"figures": figures} | _remarks(continuation.prompt))
        self.done += 1

    def _record(self, piece: Piece) -> dict[str, Any]:
        return {
            "piece": piece.name,
            "prompt": None if piece.path is None else str(piece.path),
            "sha256": piece.sha256,
            "seed": self.settings.seed,
            "variation": piece.variation,
            "settings": self.settings.recorded(piece.model.usual),
            "checkpoint": {"path": str(piece.model.folder), "sha256": piece.model.sha256},
            "engine": {"name": piece.model.engine, "precision": piece.model.precision},
        }

    def _fail(self, record: dict[str, Any]) -> None:
        self._manifest.append(record)
        self.failed += 1
        tqdm.write(f"failed: {record['error']}", file=sys.stderr)


def _look(path: Path) -> tuple[Kind, str]:
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


_GLANCE_SECONDS = 0.01  # of sound: enough to see that it can be read


def _remarks(prompt: Prompt) -> dict[str, Any]:
    """What is worth knowing of a prompt: what of its file was kept or mended; of a recording, what it is."""
    given = prompt.media
    if given is None:
        return {}
    remarks: dict[str, Any] = {"kept": given.kept} if given.kept else {}
    if isinstance(given, Audio):
        about = {"sample_rate": given.file_rate, "channels": given.file_channels, "seconds": round(given.duration, 3)}
        remarks["recording"] = about
    return remarks


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command. Returns 0, 1 if a prompt failed, 2 if the run could not start or go on, 130 if interrupted."""
    batch = None
    try:
        prompts, settings = arguments(argv)
        batch = Batch(settings)
        batch.run(prompts)
    except ShortcutGenError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"interrupted, {batch.done if batch else 0} made; run it again to go on", file=sys.stderr)
        return 130
    print(f"{batch.done} made, {batch.skipped} there already, {batch.failed} failed: {settings.out}", file=sys.stderr)
    return 1 if batch.failed else 0


if __name__ == "__main__":
    sys.exit(main())
