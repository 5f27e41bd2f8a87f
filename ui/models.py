"""The checkpoints that the page offers: found by their config.json, loaded when first played, one batch for all."""

import hashlib
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

from shortcut_gen.checkpoint import CheckpointInfo, check_checkpoint
from shortcut_gen.codec.folder import is_codec
from shortcut_gen.copying import INDEX, Copying, open_copying
from shortcut_gen.decoding.sampling import SamplingParams
from shortcut_gen.decoding.shared import ROWS
from shortcut_gen.errors import CheckpointError, ShortcutGenError
from shortcut_gen.media import Score
from shortcut_gen.pipeline import EncodedPrompt, Pipeline, Progress, Prompt
from ui.saved import MadeBy
from ui.text import form

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Entry:
    """A checkpoint folder and what its config.json says."""

    name: str
    folder: Path
    info: CheckpointInfo

    @property
    def loss(self) -> float | None:
        """Its test loss in nats per token, where that was measured."""
        nll = self.info.figures.get("test", {}).get("nll")
        return nll if isinstance(nll, int | float) else None

    @property
    def label(self) -> str:
        """Its name, and its test loss where that was measured, with what it is of where that differs between models."""
        codebooks = self.info.codec["codebooks"] if self.info.codec else None
        return self.name if self.loss is None else form.with_loss(self.name, self.loss, codebooks)


def find_checkpoints(folder: Path) -> dict[str, list[Entry]]:
    """The checkpoints under a folder, or the folder's own, by tokenizer. Raises CheckpointError where there is none.

    A damaged one among others is named in the log and left out.
    """
    if not folder.is_dir():
        raise CheckpointError(f"{folder} is no folder; --checkpoints takes a folder with checkpoints in it")
    try:
        inside = sorted(path.parent for path in folder.glob("*/config.json"))
    except OSError as error:
        raise CheckpointError(f"{folder} cannot be read ({error.strerror}); a readable folder is needed") from error
    folders = [folder] if (folder / "config.json").is_file() else inside
    found: dict[str, list[Entry]] = {}
    problems = []
    for path in folders:
        if is_codec(path):  # what a speech model speaks with
            continue
        try:
            info = check_checkpoint(path)
        except CheckpointError as error:
            problems.append(str(error))
            continue
        found.setdefault(info.tokenizer, []).append(Entry(path.resolve().name, path, info))
    if not found:
        reason = f": {problems[0]}" if problems else "; a folder with checkpoints such as piano/config.json is needed"
        raise CheckpointError(f"{folder} holds no checkpoint that can be used{reason}")
    for problem in problems:
        log.warning("%s", problem)
    return found


def _rank(entry: Entry) -> tuple[bool, float, str]:
    """The demo's own checkpoint first, then by test loss."""
    return entry.name != entry.info.tokenizer, float("inf") if entry.loss is None else entry.loss, entry.name


@lru_cache(64)
def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Counting(Pipeline):
    """A pipeline that tells how many ids it has made."""

    drawn: Callable[[int], None] | None = None
    """Is called with the number of ids that are new."""

    def stream_rows(
        self,
        rows: Sequence[tuple[EncodedPrompt, int]],
        params: SamplingParams,
        every_tokens: int = 16,
        depth: bool = False,
    ) -> Iterator[Progress]:
        """As `Pipeline.stream_rows`."""
        told = 0
        with closing(super().stream_rows(rows, params, every_tokens, depth)) as steps:  # type: ignore[type-var]
            for progress in steps:
                made = sum(len(each.ids) for each in progress.continuations)
                if self.drawn is not None and made > told:  # an ending takes some back
                    self.drawn(made - told)
                    told = made
                yield progress


class Models:
    """Pipelines by checkpoint name; each is loaded once and then shared, as nothing in it changes while it plays."""

    def __init__(self, entries: list[Entry], engine: str = "auto", precision: str | None = None) -> None:
        self._engine = (engine, precision)
        self.entries = sorted(entries, key=_rank)
        self._folders = {entry.name: entry.folder for entry in self.entries}
        self._loaded: dict[str, Pipeline] = {}
        self._copying: dict[Path, Copying | None] = {}
        self._lock = threading.Lock()
        self.drawn: Callable[[str, int], None] | None = None
        """Is called with a checkpoint's name and how many ids of it are new."""

    @property
    def loaded(self) -> dict[str, Pipeline]:
        """Those that were used, by name."""
        return dict(self._loaded)

    def _tell(self, name: str, count: int) -> None:
        if self.drawn is not None:
            self.drawn(name, count)

    @property
    def default(self) -> str:
        """The name of the checkpoint chosen at first."""
        return self.entries[0].name

    @property
    def names(self) -> list[str]:
        """Of the checkpoints there are."""
        return list(self._folders)

    def pipeline(self, name: str | None = None) -> Pipeline:
        """The pipeline of a checkpoint, loaded at need. Raises CheckpointError."""
        name = name or self.default
        if name not in self._folders:
            raise CheckpointError(f"there is no checkpoint {name!r}; one of {', '.join(self._folders)} is needed")
        with self._lock:
            if name not in self._loaded:
                made = Counting.from_pretrained(self._folders[name], "cpu", *self._engine, share=ROWS)
                made.drawn = partial(self._tell, name)
                self._loaded[name] = made
            return self._loaded[name]

    def made_by(self, name: str | None = None) -> MadeBy:
        """What tells a checkpoint from every other one. Its weights are read once."""
        entry = next(each for each in self.entries if each.name == (name or self.default))
        codec = (entry.info.codec or {}).get("sha256")
        return MadeBy(name=entry.name, sha256=_sha256(entry.folder / "model.safetensors"), codec=codec)

    def copying(self, pipeline: Pipeline) -> Copying | None:
        """The index of the performances that a model was trained on, of its own checkpoint or of another one that was
        trained on the same corpus; None where there is none that can be read."""
        corpus = pipeline.info.corpus.get("name")
        alike = [entry.folder for entry in self.entries if entry.info.corpus.get("name") == corpus]
        folder = next((folder for folder in alike if (folder / INDEX).is_file()), None)
        if folder is None:
            return None
        with self._lock:
            if folder not in self._copying:
                try:
                    self._copying[folder] = open_copying(folder)
                except ShortcutGenError as error:
                    log.warning("%s", error)
                    self._copying[folder] = None
            return self._copying[folder]

    def warm_up(self, prompt: Prompt) -> None:
        """Load the first checkpoint and go through a whole run once, so that the first click does not pay for it.

        A checkpoint that cannot be run is named in the log and left out. Raises ShortcutGenError where none can.
        """
        while True:
            try:
                return self._run_once(prompt)
            except CheckpointError as error:
                if len(self.entries) == 1:
                    raise
                log.warning("%s", error)
                del self._folders[self.entries.pop(0).name]

    def _run_once(self, prompt: Prompt) -> None:
        pipeline = self.pipeline()
        continuation = pipeline.continue_prompt(prompt, SamplingParams(max_tokens=2 * pipeline.tokenizer.frame))
        made = pipeline.tokenizer.decode(continuation.prompt_ids + continuation.ids)
        if isinstance(made, Score):  # a second or two, which nobody waits for
            threading.Thread(target=self._warm_copying, args=(pipeline, made), daemon=True).start()

    def _warm_copying(self, pipeline: Pipeline, score: Score) -> None:
        if index := self.copying(pipeline):
            index.longest(score)
