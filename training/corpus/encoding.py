"""Encodes the pieces of a source on all cores: in order, and with a bounded number of pieces in memory."""

import os
import platform
import threading
from collections import deque
from collections.abc import Generator, Iterable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from shortcut_gen.cluster import Remote, on_cluster
from shortcut_gen.errors import ClusterError, DataError, ShortcutGenError
from shortcut_gen.media import Score
from shortcut_gen.modalities import get_tokenizer
from shortcut_gen.modalities.base import Media, Tokenizer
from training.corpus.shards import DTYPE

Splits = dict[str, list[str]]
"""Names of the pieces of each split, in the order they are written in."""


@dataclass(frozen=True)
class Failed:
    """A piece, or a file of one, that could not be read, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class Kept:
    """A piece, or a file of one, that is used, but not as it is."""

    name: str
    said: str
    """What was mended or left out, in one line."""


@dataclass(frozen=True)
class Encoded:
    """A piece as ids."""

    name: str
    ids: NDArray[np.uint16]
    notes: int
    seconds: float
    left_out: tuple[Failed, ...] = ()
    """Files of it that could not be read."""
    kept: tuple[Kept, ...] = ()
    """Files of it that are mended, or used in part."""


class Coder(Protocol):
    """Reads and encodes jobs. Small and picklable: every worker process gets a copy."""

    ahead: int
    """Jobs a worker may be ahead of the writer."""

    def __call__(self, job: Any) -> list[Encoded | Failed]:
        """The pieces of a job, in order."""
        ...


class Source(Protocol):
    """A corpus before it is encoded."""

    corpus: str
    """Name the manifest gives it."""
    path: Path
    """The file or folder it is read from."""
    licence: str
    tokenizer: str
    """Name of the tokenizer that encodes it."""
    vocab_size: int
    """Of that tokenizer."""
    codec: dict[str, Any] | None
    """Settings of the audio codec, where it is sound."""
    strict: bool
    """Whether one piece that cannot be read stops the preparation; otherwise it is recorded and left out."""

    def splits(self) -> Splits:
        """The pieces of each split, all of them there. Raises DataError."""
        ...

    def shards(self, names: Sequence[str], pieces: int) -> list[Sequence[str]]:
        """The pieces of a split, parted into those of each shard; `pieces` is how many one holds at most."""
        ...

    def digest(self) -> str:
        """Hash of the name and content of every file it reads."""
        ...

    def jobs(self, names: Sequence[str]) -> Iterable[Any]:
        """What a coder is given, to encode the named pieces in order; picklable."""
        ...

    def coder(self) -> Coder:
        """What encodes its jobs."""
        ...


class Loads(Protocol):
    """A source whose pieces are read one by one, by name."""

    tokenizer: str

    def load(self, name: str) -> Media:
        """One piece. Raises a ShortcutGenError that says what is wrong with it."""
        ...


class Encoder:
    """Reads and encodes one piece after the other."""

    ahead = 8

    def __init__(self, source: Loads, tokenizer: Tokenizer | None = None) -> None:
        self._source = source
        self._tokenizer = tokenizer or get_tokenizer(source.tokenizer)
        check_vocabulary(source.tokenizer, self._tokenizer.vocab_size)

    def __call__(self, job: str) -> list[Encoded | Failed]:
        """The piece of that name."""
        try:
            media = self._source.load(job)
            ids = np.asarray(self._tokenizer.encode(media), DTYPE)
        except ShortcutGenError as error:
            return [Failed(job, str(error))]
        notes = len(media.notes) if isinstance(media, Score) else 0
        kept = (Kept(job, media.kept),) if isinstance(media, Score) and media.kept else ()
        return [Encoded(job, ids, notes, self._tokenizer.seconds(ids.tolist()), kept=kept)]


def check_vocabulary(name: str, size: int) -> None:
    """Raises DataError where a shard cannot hold a tokenizer's ids."""
    if size > np.iinfo(DTYPE).max + 1:
        raise DataError(f"{name} has {size:,} ids; a shard holds 65,536 at most")


_coder: Coder | None = None  # one a worker process, so that it is sent once, not with every job


def _start(coder: Coder) -> None:
    global _coder  # noqa: PLW0603
    _coder = coder
    torch.set_num_threads(1)  # there is a process for every core
    parent = parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: BaseProcess) -> None:
    parent.join()  # a killed parent cannot tell its workers to stop
    os._exit(1)


def _encode(job: Any) -> list[Encoded | Failed]:
    assert _coder is not None
    return _coder(job)


def _there(coder: Coder, path: Path, size: int | None) -> Coder:
    """On a machine of a cluster: the coder, where the source can be read. Raises ClusterError.

    Without this a source may take each of its files for one that cannot be read, and leave it out.
    """
    if not path.exists() or (size is not None and path.stat().st_size != size):
        raise ClusterError(
            f"{path} on {platform.node()} is not what it is here; a place that all machines share is needed"
        )
    return coder


def encode_all(
    source: Source, names: Sequence[str], workers: int = 0, ray: str | None = None
) -> Generator[Encoded | Failed]:
    """The named pieces in the order given; workers 0 takes one process a core, 1 none beside this one.

    `ray` is the address of a cluster that encodes them instead (`shortcut_gen.cluster`).
    """
    workers = workers or os.cpu_count() or 1
    coder = source.coder()
    if ray is not None:
        size = source.path.stat().st_size if source.path.is_file() else None
        with closing(
            on_cluster(ray, Remote(_there, (coder, source.path.absolute(), size)), source.jobs(names))
        ) as done:
            for pieces in done:
                yield from pieces
        return
    if workers == 1:
        for job in source.jobs(names):
            yield from coder(job)
        return
    # spawn: a fork of a process with torch's threads may hang.
    context = get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_start, initargs=(coder,))
    waiting: deque[Future[list[Encoded | Failed]]] = deque()
    try:
        for job in source.jobs(names):
            waiting.append(pool.submit(_encode, job))
            if len(waiting) >= workers * coder.ahead:
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()
    except BrokenProcessPool as error:
        raise DataError("an encoding process ended unexpectedly, perhaps out of memory; run it again") from error
    finally:
        pool.shutdown(cancel_futures=True)
