"""Making results: a prompt is read once, its variations are continued side by side, and each is written whole."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from shortcut_gen.batch.models import Model
from shortcut_gen.batch.settings import BatchSettings
from shortcut_gen.errors import MediaError, PromptError
from shortcut_gen.media import Audio
from shortcut_gen.media.render import renderer_name
from shortcut_gen.pipeline import Continuation, EncodedPrompt, Prompt


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


@dataclass(frozen=True)
class Generated:
    """What came of some pieces."""

    made: list[tuple[Piece, Continuation]]
    failed: list[dict[str, Any]]
    """Records of prompts that cannot be continued, each named once in a run."""


class Maker:
    """Makes the pieces of a run, wherever that is: on this machine, or on one of a cluster."""

    def __init__(self, settings: BatchSettings, folder: Path) -> None:
        """folder: where the files of the results are made."""
        self.settings, self._folder = settings, folder
        self._prompts: dict[Path, EncodedPrompt | None] = {}  # those of the last chunk; None for a bad one

    def generate(self, pieces: Sequence[Piece], told: Callable[[float], None] = lambda _: None) -> Generated:
        """Continue some pieces of one model side by side; those with a bad prompt are left out.

        `told` hears how many seconds there are of all, again and again.
        """
        model = pieces[0].model
        failed: list[dict[str, Any]] = []
        given = [(piece, self._prompt(piece, failed)) for piece in pieces]
        rows = [(piece, prompt) for piece, prompt in given if prompt is not None]
        made: tuple[Continuation, ...] = ()
        if rows:
            params = self.settings.params(model.tokenizer.usual)
            for progress in model.pipeline.stream_rows([(prompt, p.variation) for p, prompt in rows], params):
                made = progress.continuations
                told(sum(model.tokenizer.seconds(continuation.ids) for continuation in made))
        return Generated([(p, continuation) for (p, _), continuation in zip(rows, made, strict=True)], failed)

    def keep(self, piece: Piece, continuation: Continuation) -> dict[str, Any]:
        """Write one result, the MIDI file, then the WAV file; its record, which means that the files are whole."""
        wanted = kinds(piece, self.settings)
        record = _record(piece, self.settings)
        files: dict[str, Any] = {"midi": None, "wav": None}
        figures: dict[str, Any] = {
            "seconds": round(continuation.seconds, 3),
            "seam_seconds": round(continuation.seam_seconds, 3),
            "tokens": len(continuation.ids),
        }
        if "midi" in wanted:
            files["midi"] = f"{piece.name}.mid"
            continuation.write_midi(self._folder / files["midi"])
            figures |= {"notes": len(continuation.score.notes), "seconds": round(continuation.score.duration, 3)}
        if "wav" in wanted:
            try:
                audio = continuation.audio()
            except MediaError as error:
                return record | {"error": str(error)}
            files["wav"] = f"{piece.name}.wav"
            audio.write(self._folder / files["wav"])
            figures |= {
                "sample_rate": audio.sample_rate,
                "peak": round(float(np.abs(audio.samples).max(initial=0.0)), 4),
            }
            if "midi" in wanted:
                files["renderer"] = renderer_name()
        return record | files | {"figures": figures} | _remarks(continuation.prompt)

    def _prompt(self, piece: Piece, failed: list[dict[str, Any]]) -> EncodedPrompt | None:
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
                failed.append({"prompt": str(piece.path), "sha256": piece.sha256, "error": str(error)})
        return self._prompts[piece.path]


def kinds(piece: Piece, settings: BatchSettings) -> tuple[str, ...]:
    """The kinds of files that a result has, as the manifest calls them."""
    if piece.model.kind is Audio:
        return ("wav",)
    return ("midi",) if settings.midi_only else ("midi", "wav")


def _record(piece: Piece, settings: BatchSettings) -> dict[str, Any]:
    return {
        "piece": piece.name,
        "prompt": None if piece.path is None else str(piece.path),
        "sha256": piece.sha256,
        "seed": settings.seed,
        "variation": piece.variation,
        "settings": settings.recorded(piece.model.tokenizer.usual),
        "checkpoint": {"path": str(piece.model.named), "sha256": piece.model.sha256},
        "engine": {"name": piece.model.engine, "precision": piece.model.precision},
    }


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
