"""Encodes the pieces of a source on all cores: in order, and with a bounded number of pieces in memory."""

import os
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from multiprocessing.process import BaseProcess

import numpy as np
from numpy.typing import NDArray

from shortcut_gen.errors import DataError, ShortcutGenError
from shortcut_gen.media import Score
from shortcut_gen.modalities import get_tokenizer
from shortcut_gen.modalities.base import Tokenizer
from training.shards import DTYPE
from training.sources import Source

_AHEAD = 8
"""Pieces a worker may be ahead of the writer."""


@dataclass(frozen=True)
class Encoded:
    """A piece as ids."""

    name: str
    ids: NDArray[np.uint16]
    notes: int
    seconds: float


@dataclass(frozen=True)
class Failed:
    """A piece that could not be read, and why."""

    name: str
    reason: str


class Encoder:
    """Reads and encodes one piece after the other."""

    def __init__(self, source: Source, tokenizer: Tokenizer | None = None) -> None:
        self._source = source
        self._tokenizer = tokenizer or get_tokenizer(source.tokenizer)
        if self._tokenizer.vocab_size > np.iinfo(DTYPE).max + 1:
            raise DataError(f"{source.tokenizer} has {self._tokenizer.vocab_size} ids; a shard holds 65,536 at most")

    def __call__(self, name: str) -> Encoded | Failed:
        """The piece of that name."""
        try:
            media = self._source.load(name)
            ids = np.asarray(self._tokenizer.encode(media), DTYPE)
        except ShortcutGenError as error:
            return Failed(name, str(error))
        notes = len(media.notes) if isinstance(media, Score) else 0
        return Encoded(name, ids, notes, self._tokenizer.seconds(ids.tolist()))


_encoder: Encoder | None = None  # one a worker process, so that the source is sent once, not with every piece


def _start(source: Source) -> None:
    global _encoder  # noqa: PLW0603
    _encoder = Encoder(source)
    parent = parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: BaseProcess) -> None:
    parent.join()  # a killed parent cannot tell its workers to stop
    os._exit(1)


def _encode(name: str) -> Encoded | Failed:
    assert _encoder is not None
    return _encoder(name)


def encode_all(source: Source, names: Iterable[str], workers: int = 0) -> Iterator[Encoded | Failed]:
    """The named pieces in the order given; workers 0 takes one process a core, 1 none beside this one."""
    workers = workers or os.cpu_count() or 1
    if workers == 1:
        yield from map(Encoder(source), names)
        return
    # spawn: a fork of a process with torch's threads may hang.
    context = get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_start, initargs=(source,))
    waiting: deque[Future[Encoded | Failed]] = deque()
    try:
        for name in names:
            waiting.append(pool.submit(_encode, name))
            if len(waiting) >= workers * _AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except BrokenProcessPool as error:
        raise DataError("an encoding process ended unexpectedly, perhaps for want of memory; run it again") from error
    finally:
        pool.shutdown(cancel_futures=True)
