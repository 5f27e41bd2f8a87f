"""One run of the batch command: what is missing is planned, generated side by side, written, and noted."""

import contextlib
import hashlib
import json
import os
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from shortcut_gen.batch.manifest import Manifest
from shortcut_gen.batch.models import Model, Models
from shortcut_gen.batch.prompts import find_prompts, look, safe_name
from shortcut_gen.batch.settings import BatchSettings
from shortcut_gen.errors import MediaError, PromptError
from shortcut_gen.files import Lock, reason
from shortcut_gen.media import Audio, Score
from shortcut_gen.media.render import renderer_name
from shortcut_gen.pipeline import Continuation, EncodedPrompt, Prompt

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
        self._prompts: dict[Path, EncodedPrompt | None] = {}  # those of the last chunk; None for a bad one

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
                model.load()
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
                    for future in keeping:
                        future.result()
                    # Rendering and writing go on beside the next chunk: the renderer lets other threads run.
                    keeping = [worker.submit(self._keep, piece, continuation) for piece, continuation in made]
                for future in keeping:
                    future.result()
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
                kind, digest = look(path)
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
        return self.settings.params(piece.model.tokenizer.usual).seconds or 0.0

    def _piece(self, path: Path | None, digest: str | None, variation: int, model: Model) -> Piece:
        decides = [digest, self.settings.seed, self.settings.recorded(model.tokenizer.usual), model.sha256]
        decides += [model.precision] if model.precision != "f32" else []
        key = hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:8]
        stem = safe_name(path.stem) if path else "scratch"
        return Piece(path=path, sha256=digest, name=f"{stem}-{key}-v{variation}", variation=variation, model=model)

    def _prompt(self, piece: Piece) -> EncodedPrompt | None:
        """The prompt of a piece, read and encoded once for all its variations; None, recorded once, if it is bad."""
        if piece.path is None:
            return EncodedPrompt(prompt=Prompt.empty(), ids=())
        if piece.path not in self._prompts:
            self._prompts = {path: prompt for path, prompt in self._prompts.items() if prompt is None}
            try:
                prompt = Prompt.from_file(piece.path, self.settings.prompt_seconds)
                ids = piece.model.pipeline.encode(prompt)
                self._prompts[piece.path] = EncodedPrompt(prompt=prompt, ids=ids)
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
            params = self.settings.params(pieces[0].model.tokenizer.usual)
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
            continuation.write_midi(self.settings.out / files["midi"])
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
            "settings": self.settings.recorded(piece.model.tokenizer.usual),
            "checkpoint": {"path": str(piece.model.folder), "sha256": piece.model.sha256},
            "engine": {"name": piece.model.engine, "precision": piece.model.precision},
        }

    def _fail(self, record: dict[str, Any]) -> None:
        self._manifest.append(record)
        self.failed += 1
        tqdm.write(f"failed: {record['error']}", file=sys.stderr)


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
