"""One batch for all who listen: rows join it and leave it while it runs, and nobody waits for another's length."""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Self

from shortcut_gen.decoding.guidance import GuidedDecoding
from shortcut_gen.decoding.sampler import Row, Sampler, Stream, checked, first_ids, guide, look, next_ids
from shortcut_gen.decoding.sampling import SamplingParams
from shortcut_gen.decoding.turns import Cohort, pieces
from shortcut_gen.errors import SettingsError

ROWS = 16
"""Rows of a batch where their number is not named."""

PATIENCE = 0.25
"""Seconds after which whoever waits for ids is asked whether to go on, with or without any."""

AHEAD = 4096
"""Ids that a row makes before they are taken, at most: whoever stops listening stops the work."""


class _Seat:
    """A row in the batch, or waiting for a place in it. All but `row` is guarded by the batch's lock; `row`, `window`,
    `read`, `slid` and `token` are the worker's alone once the row has its place."""

    def __init__(self, row: Row, request: "Request") -> None:
        self.row = row
        self.request = request
        self.place: int | None = None
        """Its row of the decoding."""
        self.window: list[int] = []
        """What is to be read into it, or, with `read` of all of it, has been."""
        self.read = 0
        self.slid = False
        """Whether its window is not its first."""
        self.token = 0
        """Its newest id, which the model has not read."""
        self.new: list[int] = []
        """Its ids that nobody has taken."""
        self.done = False

    @property
    def reads(self) -> bool:
        """Whether its window is to be read before it can go on."""
        return self.read < len(self.window)


class Request:
    """Streams that were handed in together. Take their ids until all are done, or close it, which frees their rows."""

    def __init__(self, shared: "SharedSampler", streams: Sequence[Stream], params: SamplingParams) -> None:
        self._shared = shared
        self._changed = threading.Condition(shared._lock)
        self._least = 1
        self._said = 0
        self._error: BaseException | None = None
        self._seats = [
            _Seat(Row(stream, number, params, shared.sampler.tokenizer), self) for number, stream in enumerate(streams)
        ]
        for seat in self._seats:
            for token in seat.row.opening:
                seat.row.take(token)
                seat.new.append(token)
            seat.done = seat.row.ended

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def queue(self) -> int:
        """The place in the queue of the first of these rows that waits, from 1 on; 0 where none waits."""
        with self._shared._lock:
            return self._shared._queue(self)

    def take(self, least: int = 1) -> tuple[tuple[list[int], ...], tuple[bool, ...]]:
        """The ids of each stream that are new since the last call, and whether it has ended; waits until one has
        `least` new ids, or all have ended, or, while some wait, `queue` has changed, but no longer than PATIENCE.

        Raises what ended a row, CheckpointError where the weights gave it no usable logits; no other request notices.
        """
        with self._shared._lock:
            self._least = min(least, AHEAD)  # a row makes no more before they are taken
            until = time.monotonic() + PATIENCE
            while not self._worth_it() and (left := until - time.monotonic()) > 0:
                self._changed.wait(left)
            if self._error is not None:
                self._shared._leave(self)
                raise self._error
            self._said = self._shared._queue(self)
            new = tuple(seat.new for seat in self._seats)
            paused = any(len(ids) >= AHEAD for ids in new)
            for seat in self._seats:
                seat.new = []
            if paused:
                self._shared._wake.notify()
            return new, tuple(seat.done for seat in self._seats)

    def _worth_it(self) -> bool:
        return (
            self._error is not None
            or all(seat.done for seat in self._seats)
            or any(len(seat.new) >= self._least for seat in self._seats)
            or self._shared._queue(self) != self._said
        )

    def close(self) -> None:
        """Free its rows: at once those that wait, the others when the pass that runs now is done."""
        with self._shared._lock:
            self._shared._leave(self)


class SharedSampler:
    """Plays the streams of many requests, from any threads, as rows of one decoding: continuous batching.

    One thread of its own, which lives while there is a row, reads the model: at each turn one piece of a window that is
    to be read (a prompt, or what is kept where a window slides), then a step of the rows that go on, all of them or a
    cohort (turns.py). So a long prompt holds the others up by a piece at a time. Each row has its own settings, seed,
    grammar and length, and leaves when it has its length; further rows wait in the order in which they came.

    A row has the ids that `Sampler` gives it alone, whoever plays beside it: exactly with the native engine (which may
    round otherwise only beyond 24 rows a thread, so it takes fewer), up to the rounding of a batch with PyTorch.

    A page uses it through a pipeline: `Pipeline.from_pretrained(folder, share=8)` once for each model, then
    `pipeline.stream(...)` in as many threads as there are listeners. Each `Progress` says in `queue` which place in the
    queue the first of its rows that waits has; `pipeline.shared.load` says how many play and wait in all. Closing the
    generator, also by an exception in the loop around it, frees its rows; one that is not asked for more is paused, but
    keeps its rows until it is closed.
    """

    def __init__(self, sampler: Sampler, rows: int = ROWS) -> None:
        """Raises SettingsError."""
        if rows < 1:
            raise SettingsError(f"{rows} rows are to be shared; a whole number of at least 1 is needed")
        self.sampler = sampler
        self.rows = min(rows, sampler.engine.most_rows)
        """Rows that play at once, at most."""
        self._lock = threading.Lock()
        self._wake = threading.Condition(self._lock)
        self._places: list[_Seat | None] = [None] * self.rows
        self._waiting: deque[_Seat] = deque()
        self._worker: threading.Thread | None = None
        self._decoding: GuidedDecoding | None = None
        self._cohort = Cohort()

    def __repr__(self) -> str:
        playing, waiting = self.load
        return f"<SharedSampler: {playing} of {self.rows} rows play, {waiting} wait>"

    @property
    def load(self) -> tuple[int, int]:
        """Rows that play, and rows that wait."""
        with self._lock:
            return sum(seat is not None for seat in self._places), len(self._waiting)

    def submit(self, streams: Sequence[Stream], params: SamplingParams) -> Request:
        """Hand streams in; they play as soon as there are places. Close what this returns, or take it to its end.

        Raises SettingsError for gains that cannot be."""
        self.sampler.check(params)
        request = Request(self, streams, params)
        with self._lock:
            waiting = [seat for seat in request._seats if not seat.done]
            if waiting and self._decoding is None:
                self._decoding = GuidedDecoding(self.sampler.engine, self.rows)
            self._waiting.extend(waiting)
            self._admit()
            if waiting and self._worker is None:
                self._worker = threading.Thread(target=self._work, name="shared batch", daemon=True)
                self._worker.start()
            self._wake.notify()
        return request

    def stream(self, streams: Sequence[Stream], params: SamplingParams) -> Iterator[tuple[int | None, ...]]:
        """As `Sampler.stream`: the next id of every stream, None for one that has ended, so that the slowest, or one
        that waits for a place, sets the pace. Close the generator to cancel."""
        if not streams:
            return
        kept: list[deque[int]] = [deque() for _ in streams]
        done: tuple[bool, ...] = (False,) * len(streams)
        with self.submit(streams, params) as request:
            while any(kept) or not all(done):
                while not all(ids or end for ids, end in zip(kept, done, strict=True)):
                    new, done = request.take()
                    for ids, some in zip(kept, new, strict=True):
                        ids.extend(some)
                if any(kept):
                    yield tuple(ids.popleft() if ids else None for ids in kept)

    # ------------------------------------------------------------------------------------------- under the lock

    def _queue(self, request: Request) -> int:
        if not self._waiting:
            return 0
        for number, seat in enumerate(self._waiting, start=1):
            if seat.request is request:
                return number
        return 0

    def _admit(self) -> None:
        """Give free places, the first of them first, to those who wait."""
        moved = False
        for place, seat in enumerate(self._places):
            if seat is None and self._waiting:
                seat = self._waiting.popleft()
                self._places[place] = seat
                window = seat.row.window(self.sampler.model.config.context, self.sampler.kept)
                seat.place, seat.window, seat.read = place, window, 0
                moved = True
        if moved:
            self._tell_waiting()

    def _tell_waiting(self) -> None:
        for request in {seat.request for seat in self._waiting}:
            request._changed.notify_all()

    def _leave(self, request: Request) -> None:
        """Free what is left of a request; a place that a pass uses now is free when that is done (`_turn`)."""
        left = len(self._waiting)
        self._waiting = deque(seat for seat in self._waiting if seat.request is not request)
        for seat in request._seats:
            seat.done = True
        request._changed.notify_all()
        if len(self._waiting) != left:
            self._tell_waiting()
        self._wake.notify()

    def _fail(self, seats: Sequence[_Seat], error: BaseException) -> None:
        for seat in seats:
            if not seat.done:
                seat.request._error = seat.request._error or error
                self._leave(seat.request)

    # --------------------------------------------------------------------------------------------- the worker

    def _work(self) -> None:
        try:
            while turn := self._turn():
                reading, going = turn
                if reading:
                    self._read(reading)
                if going:
                    self._step(going)
        except BaseException as error:  # a fault of ours: nobody may wait for ever
            with self._lock:
                self._fail([*filter(None, self._places), *self._waiting], error)
                self._places, self._worker = [None] * self.rows, None
            raise

    def _turn(self) -> tuple[_Seat | None, list[_Seat]] | None:
        """Whose window is read on, and which rows make a step; None where there is no row, and the worker ends."""
        with self._lock:
            while True:
                for place, seat in enumerate(self._places):
                    if seat is not None and seat.done:
                        self._places[place] = None
                        if seat.row.depth is not None and self._decoding is not None:
                            look(self._decoding, place, None)  # or all who stay would pay for it
                self._admit()
                seats = [seat for seat in self._places if seat is not None]
                if not seats:
                    self._worker = None
                    return None
                reading = [seat for seat in seats if seat.reads]
                going = [seat for seat in seats if not seat.reads and len(seat.new) < AHEAD]
                if reading or going:
                    # A window that is nearly read comes first: who is about to begin does not wait for who came later.
                    first = min(reading, key=lambda seat: len(seat.window) - seat.read, default=None)
                    return first, going
                self._wake.wait()

    def _read(self, seat: _Seat) -> None:
        """Read a piece of a window; behind its last the row has its next id, and so has who waits with the same."""
        decoding, start = self._decoding, seat.read
        assert decoding is not None and seat.place is not None
        if not start:
            look(decoding, seat.place, seat.row)
            guide(decoding, seat.place, seat.row, seat.window)
            seat.slid = seat.row.read
        end = next(end for end in pieces(len(seat.window), decoding.piece) if end > start)
        try:
            logits = decoding.read(seat.place, seat.window[start:end], start=start)
        except Exception as error:
            with self._lock:
                self._fail([seat], error)
            return
        seat.read, seat.row.read = end, True
        if seat.reads:
            return
        with self._lock:
            same = [
                other
                for other in self._places
                if other is not None and other.reads and not other.read and other.window == seat.window
                if other.row.params.tap_gains == seat.row.params.tap_gains
                if other.row.guidance == seat.row.guidance and other.row.read == seat.slid
            ]
        for other in same:
            assert other.place is not None
            look(decoding, other.place, other.row)
            decoding.copy(other.place, seat.place)
            other.read, other.row.read = end, True
        beginning = [seat, *same]
        self._drawn(
            beginning, lambda rows: first_ids(self.sampler.engine, decoding, logits, rows, [0] * len(beginning))
        )

    def _step(self, going: list[_Seat]) -> None:
        """A step of a cohort of these rows; those whose windows are full are read again from the next turn on."""
        decoding, context = self._decoding, self.sampler.model.config.context
        assert decoding is not None
        held, lengths = decoding.lengths, {}
        for seat in going:
            assert seat.place is not None
            if held[seat.place] >= context:
                seat.window, seat.read = seat.row.window(context, self.sampler.kept), 0
            else:
                lengths[seat.place] = held[seat.place]
        if lengths:
            chosen = self._cohort.choose(lengths, decoding.near)
            rows = [seat for seat in going if seat.place in chosen]
            tokens, places = [seat.token for seat in rows], [seat.place or 0 for seat in rows]
            self._drawn(rows, lambda some: next_ids(decoding, tokens, some, places))

    def _drawn(self, seats: list[_Seat], draw: Callable[[list[Row]], list[int]]) -> None:
        """Draw the next ids of some rows and hand them over. What goes wrong ends these rows."""
        try:
            chosen = draw([seat.row for seat in seats])
        except Exception as error:
            with self._lock:
                self._fail(seats, error)
            return
        with self._lock:
            for seat, token in zip(seats, chosen, strict=True):
                if seat.done:  # closed meanwhile
                    continue
                try:
                    seat.row.take(checked(token))
                    seat.done = seat.row.ended
                except Exception as error:
                    self._fail([seat], error)
                    continue
                seat.token = token
                seat.new.append(token)
                if seat.done or len(seat.new) >= seat.request._least:
                    seat.request._changed.notify_all()
