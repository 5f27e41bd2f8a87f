"""Batch generation: `python -m shortcut_gen.generate PROMPT... --out DIR`.

For each variation of each prompt a MIDI file, a WAV file and one line in DIR/manifest.jsonl. A file's name holds a
hash of all that decides its music (prompt, settings, checkpoint), so a run never overwrites the music of another, and
the same command run again does only what is missing.
"""

import dataclasses
import hashlib
import json
import math
import os
import re
import sys
import unicodedata
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docstring_parser
import numpy as np
import torch
from jsonargparse import ArgumentError, ArgumentParser
from tqdm import tqdm

from shortcut_gen.errors import MediaError, PromptError, SettingsError, ShortcutGenError
from shortcut_gen.files import reason
from shortcut_gen.manifest import Manifest
from shortcut_gen.media import Score
from shortcut_gen.pipeline import Continuation, Pipeline, Prompt
from shortcut_gen.render import renderer_name
from shortcut_gen.sampling import SamplingParams


@dataclass(frozen=True, kw_only=True)
class BatchSettings:
    """What the batch command takes beside the prompts."""

    out: Path
    """Folder for the results; made if need be."""
    variations: int = 1
    """Continuations of each prompt."""
    seconds: float = 30.0
    """Length of each continuation, in seconds of music."""
    seed: int = 0
    """Seed; with a variation's number it fixes that variation, whatever else is in the batch."""
    checkpoint: Path = Path("checkpoints/piano")
    """Checkpoint folder."""
    temperature: float = 1.0
    """Divides the logits; 0 takes the likeliest id."""
    top_k: int = 0
    """Keep only the k likeliest ids; 0 keeps all."""
    top_p: float = 0.95
    """Keep the fewest ids whose probabilities reach p; 1 keeps all."""
    min_p: float = 0.0
    """Keep ids at least this share as likely as the likeliest; 0 keeps all."""
    prompt_seconds: float | None = None
    """Use only this much of each prompt's start; all of it if not given."""
    from_scratch: int = 0
    """Pieces to make from no prompt at all."""
    midi_only: bool = False
    """Write no WAV files."""
    batch_size: int = 8
    """Continuations that are generated together; more is faster and takes more memory."""
    overwrite: bool = False
    """Make again what is there already."""
    device: str = "cpu"
    """Where the model runs, such as cpu or cuda."""

    def __post_init__(self) -> None:
        for name, least in (("variations", 1), ("batch_size", 1), ("from_scratch", 0)):
            if getattr(self, name) < least:
                raise SettingsError(f"{name} is {getattr(self, name)}; a whole number of at least {least} is needed")
        if self.prompt_seconds is not None and not (math.isfinite(self.prompt_seconds) and self.prompt_seconds > 0):
            raise SettingsError(f"prompt_seconds is {self.prompt_seconds}; a number above 0 is needed")
        if self.device not in ("cpu", "mps") and not re.fullmatch(r"cuda(:\d+)?", self.device):
            raise SettingsError(f"device is {self.device!r}; cpu, cuda, cuda:N or mps is needed")
        try:
            torch.empty(0, device=self.device)
        except (RuntimeError, AssertionError, NotImplementedError) as error:
            raise SettingsError(f"device is {self.device!r}, which this machine or this PyTorch lacks") from error
        _ = self.params  # validates the rest

    @property
    def params(self) -> SamplingParams:
        """The sampler's part of the settings."""
        names = ("temperature", "top_k", "top_p", "min_p", "seed", "seconds")
        return SamplingParams(**{name: getattr(self, name) for name in names})

    def recorded(self) -> dict[str, Any]:
        """The settings that decide the music, as the manifest has them (the seed has a field of its own)."""
        values = dataclasses.asdict(self.params) | {"prompt_seconds": self.prompt_seconds}
        return {name: value for name, value in values.items() if name != "seed"}


@dataclass(frozen=True, kw_only=True)
class Piece:
    """One result to make: a variation of a prompt, or of nothing (`path` None)."""

    path: Path | None
    sha256: str | None
    """Of the prompt's file."""
    name: str
    """Stem of its files, with a hash of all that decides its music; and what the manifest calls it."""
    variation: int


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
            yield from (Path(top) / n for n in names if n.lower().endswith(suffixes) and not n.startswith("."))


def _checkpoint_hash(folder: Path, pipeline: Pipeline) -> str:
    """Of the weights, the model's shape and the tokenizer; not of the card's text or the figures."""
    digest = hashlib.sha256((folder / "model.safetensors").read_bytes())
    digest.update(json.dumps([pipeline.info.model.to_dict(), pipeline.info.tokenizer], sort_keys=True).encode())
    return digest.hexdigest()


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

    def __init__(self, settings: BatchSettings, pipeline: Pipeline) -> None:
        self.settings = settings
        self.pipeline = pipeline
        self.done = self.skipped = self.failed = 0
        self._checkpoint_sha256 = _checkpoint_hash(settings.checkpoint, pipeline)
        self._manifest = Manifest(settings.out)
        self._prompts: dict[Path, Prompt | None] = {}  # those of the last chunk; None for a bad one

    def run(self, paths: Sequence[Path]) -> None:
        """Make what is missing. Raises MediaError where it cannot be written."""
        _make_folder(self.settings.out)
        pieces = self._plan(paths)
        size = self.settings.batch_size
        worker = ThreadPoolExecutor(1)
        keeping: list[Future[None]] = []
        with tqdm(total=round(len(pieces) * self.settings.seconds), unit="s of music", disable=None) as bar:
            try:
                for start in range(0, len(pieces), size):
                    made = self._generate(pieces[start : start + size], bar)
                    _ = [future.result() for future in keeping]
                    # Rendering and writing go on beside the next chunk: the renderer lets other threads run.
                    keeping = [worker.submit(self._keep, piece, continuation) for piece, continuation in made]
                _ = [future.result() for future in keeping]
            finally:
                worker.shutdown(cancel_futures=True)

    def _plan(self, paths: Sequence[Path]) -> list[Piece]:
        """The pieces to make, in order; counts those that are there already and records unreadable prompts."""
        pieces: dict[str, Piece] = {}
        errors: list[tuple[Path, str]] = []
        for path in paths:
            try:
                digest = hashlib.sha256(path.read_bytes()).hexdigest()
            except OSError as error:
                errors.append((path, f"{path} cannot be read: {reason(error)}"))
                continue
            for variation in range(self.settings.variations):
                piece = self._piece(path, digest, variation)
                pieces[piece.name] = piece
        scratch = (self._piece(None, None, variation) for variation in range(self.settings.from_scratch))
        pieces |= {piece.name: piece for piece in scratch}
        wav = not self.settings.midi_only
        todo = [p for p in pieces.values() if self.settings.overwrite or not self._manifest.has(p.name, wav)]
        self.skipped = len(pieces) - len(todo)
        self._manifest.forget([str(path) for path in paths] + [piece.name for piece in todo])
        self._manifest.tidy()
        for path, message in errors:
            self._fail({"prompt": str(path), "sha256": None, "error": message})
        return todo

    def _piece(self, path: Path | None, digest: str | None, variation: int) -> Piece:
        decides = [digest, self.settings.seed, self.settings.recorded(), self._checkpoint_sha256]
        key = hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:8]
        stem = _safe(path.stem) if path else "scratch"
        return Piece(path=path, sha256=digest, name=f"{stem}-{key}-v{variation}", variation=variation)

    def _prompt(self, piece: Piece) -> Prompt | None:
        """The prompt of a piece, read once however many variations it has; None, recorded once, if it is bad."""
        if piece.path is None:
            return Prompt.empty()
        if piece.path not in self._prompts:
            self._prompts = {path: prompt for path, prompt in self._prompts.items() if prompt is None}
            try:
                prompt = Prompt.from_file(piece.path, self.settings.prompt_seconds)
                self.pipeline.encode(prompt)
                self._prompts[piece.path] = prompt
            except (MediaError, PromptError) as error:
                self._prompts[piece.path] = None
                self._fail({"prompt": str(piece.path), "sha256": piece.sha256, "error": str(error)})
        return self._prompts[piece.path]

    def _generate(self, pieces: Sequence[Piece], bar: tqdm) -> list[tuple[Piece, Continuation]]:
        """Continue some pieces side by side; those with a bad prompt are left out."""
        before = bar.n
        given = [(piece, self._prompt(piece)) for piece in pieces]
        rows = [(piece, prompt) for piece, prompt in given if prompt is not None]
        made: tuple[Continuation, ...] = ()
        if rows:
            stream = self.pipeline.stream_rows([(prompt, p.variation) for p, prompt in rows], self.settings.params)
            for progress in stream:
                made = progress.continuations
                seconds = sum(self.pipeline.tokenizer.seconds(continuation.ids) for continuation in made)
                bar.update(round(before + min(seconds, len(rows) * self.settings.seconds)) - bar.n)
        bar.update(round(before + len(pieces) * self.settings.seconds) - bar.n)
        return [(piece, continuation) for (piece, _), continuation in zip(rows, made, strict=True)]

    def _keep(self, piece: Piece, continuation: Continuation) -> None:
        """Write one result: the MIDI file, the WAV file, then its line, so that a line means whole files."""
        record = self._record(piece)
        score = continuation.score
        midi = f"{piece.name}.mid"
        score.write(self.settings.out / midi)
        figures: dict[str, Any] = {
            "notes": len(score.notes),
            "seconds": round(score.duration, 3),
            "seam_seconds": round(continuation.seam_seconds, 3),
            "tokens": len(continuation.ids),
        }
        files: dict[str, Any] = {"midi": midi, "wav": None}
        if not self.settings.midi_only:
            try:
                audio = continuation.audio()
            except MediaError as error:
                self._fail(record | {"error": str(error)})
                return
            files |= {"wav": f"{piece.name}.wav", "renderer": renderer_name()}
            audio.write(self.settings.out / files["wav"])
            figures |= {"peak": round(float(np.abs(audio.samples).max(initial=0.0)), 4)}
        remark = {"kept": continuation.prompt.media.kept} if isinstance(continuation.prompt.media, Score) else {}
        self._manifest.append(record | files | {"figures": figures} | {k: v for k, v in remark.items() if v})
        self.done += 1

    def _record(self, piece: Piece) -> dict[str, Any]:
        return {
            "piece": piece.name,
            "prompt": None if piece.path is None else str(piece.path),
            "sha256": piece.sha256,
            "seed": self.settings.seed,
            "variation": piece.variation,
            "settings": self.settings.recorded(),
            "checkpoint": {"path": str(self.settings.checkpoint), "sha256": self._checkpoint_sha256},
        }

    def _fail(self, record: dict[str, Any]) -> None:
        self._manifest.append(record)
        self.failed += 1
        tqdm.write(f"failed: {record['error']}", file=sys.stderr)


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="python -m shortcut_gen.generate",
        description="Continue piano performances: a MIDI file, a WAV file and a line in manifest.jsonl for each.",
        exit_on_error=False,
    )
    parser.add_argument("prompts", nargs="*", default=[], help="MIDI files, or folders of them")
    helps = {p.args[1]: p.description for p in docstring_parser.parse_from_object(BatchSettings).params}
    for field in dataclasses.fields(BatchSettings):
        option = "--" + field.name.replace("_", "-")
        if field.type is bool:
            parser.add_argument(option, action="store_true", help=helps[field.name])
            continue
        kind = float if field.type == float | None else field.type
        required = field.default is dataclasses.MISSING
        rest: dict[str, Any] = {"required": True} if required else {"default": field.default}
        parser.add_argument(option, type=kind, help=helps[field.name], **rest)
    return parser


def _arguments(argv: Sequence[str] | None) -> tuple[list[str], BatchSettings]:
    """Prompts and settings. Raises SettingsError."""
    try:
        values = vars(_parser().parse_args(argv))
    except ArgumentError as error:
        text = " ".join(str(error).split())
        wrong = re.search(r"key \"(\w+)\": Expected a <class '(?:float|int)'>\. Got value: (.*)", text)
        raise SettingsError(f"{wrong[1]} is {wrong[2]}; a number is needed" if wrong else text) from error
    prompts = values.pop("prompts")
    settings = BatchSettings(**values)
    if not prompts and not settings.from_scratch:
        raise SettingsError("no prompt is given; name MIDI files or folders, or use --from-scratch N")
    return prompts, settings


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command. Returns 0, 1 if a prompt failed, 2 if the run could not start or go on, 130 if interrupted."""
    batch = None
    try:
        prompts, settings = _arguments(argv)
        pipeline = Pipeline.from_pretrained(settings.checkpoint, settings.device)
        paths = find_prompts(prompts, pipeline.tokenizer.suffixes, settings.out)
        batch = Batch(settings, pipeline)
        batch.run(paths)
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
