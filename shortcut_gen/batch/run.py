"""One run of the batch command: what is missing is planned, generated side by side, written, and noted."""

import contextlib
import hashlib
import json
import math
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from itertools import groupby
from pathlib import Path
from typing import Any

from tqdm import tqdm

from shortcut_gen.batch.cluster import make_on_cluster
from shortcut_gen.batch.making import Maker, Piece, kinds
from shortcut_gen.batch.manifest import Manifest
from shortcut_gen.batch.models import Model, Models
from shortcut_gen.batch.outbox import Outbox, manifest_sent, outbox
from shortcut_gen.batch.prompts import find_prompts, look, safe_name
from shortcut_gen.batch.settings import BatchSettings
from shortcut_gen.errors import MediaError
from shortcut_gen.files import Lock, reason, remove_parts
from shortcut_gen.media import Score
from shortcut_gen.pipeline import Continuation
from shortcut_gen.places import Url

LOCK = ".lock"
"""A file in the folder of results while they are made."""


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
        self._bad: set[str] = set()
        self._box: Outbox | None = None
        self._folder: Path  # that results are made in

    def run(self, given: Sequence[str]) -> None:
        """Make what is missing. Raises SettingsError, CheckpointError, CodecError, MediaError.

        Nothing is written before prompts, settings and models have been looked at.
        """
        named = self.settings.out
        with contextlib.ExitStack() as held:
            if isinstance(named, Url):
                self._box, self._folder = held.enter_context(outbox(named))
            else:
                self._folder = named
            out, local = self._folder, self._box is None
            if local and out.is_dir():
                held.enter_context(self._lock())
            self._manifest = Manifest(out, self._box.has if self._box else None)
            paths = find_prompts(given, self.models.suffixes, out)
            todo, errors = self._plan(paths)
            for model in {id(piece.model): piece.model for piece in todo}.values():
                model.load()
            if local and not out.is_dir():
                held.enter_context(self._lock())
            self._run(paths, todo, errors)

    def _lock(self) -> Lock:
        """Keeps a second run of the command out of the folder."""
        out = self._folder
        _make_folder(out)
        return Lock(
            out / LOCK,
            f"{out} is in use by another run of this command; wait for it, or name another --out",
            MediaError,
        )

    def _run(self, paths: Sequence[Path], todo: list[Piece], errors: list[dict[str, Any]]) -> None:
        remove_parts(self._folder)
        self._manifest.forget([str(path) for path in paths] + [piece.name for piece in todo])
        self._manifest.tidy()
        with manifest_sent(self._box):
            for error in errors:
                self._fail(error)
            self._make(todo)

    def _make(self, todo: Sequence[Piece]) -> None:
        total = sum(self._length(piece) for piece in todo)
        with tqdm(total=round(total), unit="s", disable=None) as bar:
            if self.settings.ray is None:
                self._make_here(todo, bar)
            else:
                self._make_on(self.settings.ray, todo, bar)

    def _make_here(self, todo: Sequence[Piece], bar: tqdm) -> None:
        maker, worker = Maker(self.settings, self._folder), ThreadPoolExecutor(1)
        keeping: list[Future[None]] = []
        try:
            for chunk in self._chunks(todo):
                told = self._told(bar, chunk)
                generated = maker.generate(chunk, told)
                for record in generated.failed:
                    self._note(record)
                told(math.inf)
                for future in keeping:
                    future.result()
                # Rendering and writing go on beside the next chunk: the renderer lets other threads run.
                keeping = [worker.submit(self._keep, maker, *made) for made in generated.made]
            for future in keeping:
                future.result()
        finally:
            worker.shutdown(cancel_futures=True)

    def _told(self, bar: tqdm, chunk: Sequence[Piece]) -> Callable[[float], None]:
        """Moves the bar to where so many seconds of a chunk are made."""
        before, most = bar.n, self._length(chunk[0]) * len(chunk)

        def told(seconds: float) -> None:
            bar.update(round(before + min(seconds, most)) - bar.n)

        return told

    def _keep(self, maker: Maker, piece: Piece, continuation: Continuation) -> None:
        record = maker.keep(piece, continuation)
        if self._box:
            self._box.send(record)
        self._note(record)  # behind its files, so that a line means whole files

    def _make_on(self, address: str, todo: Sequence[Piece], bar: tqdm) -> None:
        """The same on a cluster. This process alone writes the manifest: what a lost machine made has no line yet,
        and is made again, over the same files."""
        chunks = list(self._chunks(todo))
        with closing(make_on_cluster(address, self.settings, chunks)) as made:
            for chunk, records in zip(chunks, made, strict=True):
                for record in records:
                    self._note(record)
                bar.update(round(sum(self._length(piece) for piece in chunk)))

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
            p
            for p in pieces.values()
            if self.settings.overwrite or not self._manifest.has(p.name, kinds(p, self.settings))
        ]
        self.skipped = len(pieces) - len(wanted)
        order = {key: place for place, key in enumerate(dict.fromkeys(id(piece.model) for piece in wanted))}
        return sorted(wanted, key=lambda piece: order[id(piece.model)]), errors

    def _length(self, piece: Piece) -> float:
        """Seconds to make."""
        return self.settings.params(piece.model.tokenizer.usual).seconds or 0.0

    def _piece(self, path: Path | None, digest: str | None, variation: int, model: Model) -> Piece:
        decides = [digest, self.settings.seed, self.settings.recorded(model.tokenizer.usual), model.sha256]
        decides += [model.precision] if model.precision != "f32" else []
        key = hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:8]
        stem = safe_name(path.stem) if path else "scratch"
        return Piece(path=path, sha256=digest, name=f"{stem}-{key}-v{variation}", variation=variation, model=model)

    def _note(self, record: dict[str, Any]) -> None:
        """Add a record to the manifest and count it; a bad prompt once, however many machines met it."""
        if "error" not in record:
            self._manifest.append(record)
            self.done += 1
        elif "piece" in record or record["prompt"] not in self._bad:
            self._bad.add(record["prompt"])
            self._fail(record)
        if self._box:
            self._box.send_manifest()

    def _fail(self, record: dict[str, Any]) -> None:
        self._manifest.append(record)
        self.failed += 1
        tqdm.write(f"failed: {record['error']}", file=sys.stderr)
