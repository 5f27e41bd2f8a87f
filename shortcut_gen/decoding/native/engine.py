"""The Python half of the native engine: it packs a model's weights once and hands ids and logits over.

The caches, and all that is computed, are behind engine.cpp. A row of a batch is a slot there for as long as it lives.
"""

import ctypes
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from shortcut_gen.compiled import LEVELS
from shortcut_gen.decoding.depth import Seen
from shortcut_gen.decoding.native.library import Choice, Draw, chosen_level, library
from shortcut_gen.decoding.native.packing import padded, shape, tensors
from shortcut_gen.decoding.sampling import SamplingParams, Settings, of_each
from shortcut_gen.errors import SettingsError
from shortcut_gen.network.config import ModelConfig
from shortcut_gen.network.look import biases
from shortcut_gen.network.model import ShortcutLM

Precision = Literal["f32", "bf16", "int8"]
"""Of the weights, and with them of keys and values (`kept`). What is added up is float32, or whole numbers, always."""

DEFAULTS: dict[str, Precision] = {"plain": "f32", "avx2": "bf16", "avx512": "bf16", "avx512-dot": "int8"}
"""The precision where none is named, by instruction set: the fastest that loses under 0.005 nats a token (docs/
performance.md). Without vectors narrow weights gain little, and f32 gives PyTorch's own ids."""

ROWS_A_THREAD = 24
"""As in state.h: passes of so many tokens a thread share out rows instead of matrices, and round otherwise."""

PIECE = 64
"""Tokens that one thread reads at a time where others wait for it to be done."""

NEAR = 0.5
"""Share of the processor's last cache that keys and values of a shared batch may fill: the weights, and all else that
runs on the machine, want theirs."""

NO_SCORE = -1e30
"""Added to a score, it takes all of its weight (attend.h)."""

KNOWN_MASKS = 256
"""Masks whose place a decoding remembers, at most."""

MOST_THREADS = 8
"""Threads where their number is not named, at most: more wait for each other longer than they compute."""


def default_precision() -> Precision:
    """The precision where none is named. Raises SettingsError where the library is not built, or the environment names
    an instruction set that is not available.
    """
    return DEFAULTS[chosen_level()]


SCALE_BYTES = 2
"""Of a head's keys, or values, of one position, where they are bytes."""


@cache
def last_cache() -> int:
    """Bytes of the processor's last cache; 16 MiB where the system does not say."""
    try:
        size = Path("/sys/devices/system/cpu/cpu0/cache/index3/size").read_text().strip()
        return int(size.removesuffix("K")) * 1024
    except (OSError, ValueError):
        return 2**24


def kept(precision: Precision, level: str) -> Precision:
    """The precision of keys and values: the weights', but bf16 beside int8 where there are no products of bytes."""
    return "bf16" if precision == "int8" and level != LEVELS[-1] else precision


def bytes_a_position(config: ModelConfig, kept: Precision) -> int:
    """What one position's keys and values take in all blocks, where they are kept so."""
    own = config.layers - 1 if config.taps else config.layers
    sources = config.sources if config.taps else 0
    if kept != "int8":
        return 2 * config.width * (own + sources) * (4 if kept == "f32" else 2)
    blocks = ((own, config.heads), (sources, config.shortcut_heads))
    rows = sum(count * heads * (-(-config.width // heads // 4) * 4 + SCALE_BYTES) for count, heads in blocks)
    return 2 * rows


class NativeEngine:
    """A model's weights, packed for a CPU. Later changes to the model do not reach it.

    Its decodings may run in different threads at once; with `threads` above 1 their passes take turns.
    """

    name = "native"
    looks = True

    def __init__(
        self,
        model: ShortcutLM,
        *,
        precision: Precision | None = None,
        threads: int | None = None,
        level: str | None = None,
    ) -> None:
        """`threads` is torch's number if None, `level` the machine's best. Raises SettingsError."""
        self._library = library()
        self.config = model.config
        self.precision: Precision = precision or default_precision()
        if self.precision not in get_args(Precision):
            raise SettingsError(f"precision is {precision!r}; one of {', '.join(get_args(Precision))} is needed")
        self.threads = min(torch.get_num_threads(), MOST_THREADS) if threads is None else threads
        if not 1 <= self.threads <= 256:
            raise SettingsError(f"threads is {threads}; a number from 1 to 256 is needed")
        self.level = chosen_level(level)
        self.kept = kept(self.precision, self.level)
        """The precision of keys and values."""
        self.most_rows = ROWS_A_THREAD * self.threads - 1 if self.threads > 1 else 256
        """Rows of one decoding, at most, so that a row's numbers are the same whatever their number."""
        self._model = self._pack(model)

    def _pack(self, model: ShortcutLM) -> int:
        weights = tensors(model)
        counts = (ctypes.c_int64 * len(weights))(*(weight.numel() for weight in weights))
        pointers = (ctypes.c_void_p * len(weights))(*(weight.data_ptr() for weight in weights))
        precision, level = get_args(Precision).index(self.precision), LEVELS.index(self.level)
        made = self._library.shortcut_model(
            shape(self.config), pointers, counts, len(weights), precision, level, self.threads
        )
        if not made:
            raise MemoryError("there is not enough memory for the native engine's weights")
        return int(made)

    def __del__(self) -> None:
        if getattr(self, "_model", None):
            self._library.shortcut_free_model(self._model)

    def decoding(self, batch: int) -> "NativeDecoding":
        """Empty caches for so many streams."""
        return NativeDecoding(self, batch)

    def choose(
        self, logits: Tensor, masks: Sequence[Tensor | None], params: Settings, uniforms: Sequence[float]
    ) -> list[int]:
        """The next id of each row of logits, (B, V): what `sampling.choose` does, in a few microseconds.

        Raises ValueError where masks, numbers and logits do not fit each other.
        """
        rows, vocab = logits.shape
        if logits.dtype != torch.float32 or logits.device.type != "cpu" or logits.stride(1) != 1:
            raise ValueError(f"logits are {logits.dtype} on {logits.device}; rows of float32 on the CPU are needed")
        draw = _Draw(rows, vocab)
        draw.fill(rows, masks, params, uniforms)
        if self._library.shortcut_choose(self._model, logits.data_ptr(), logits.stride(0), rows, vocab, draw.address):
            raise MemoryError("there is not enough memory to draw an id")
        return draw.ids[:]


class _Draw:
    """How to draw the ids of so many rows or fewer, and those that are drawn, where C finds them."""

    def __init__(self, rows: int, vocab: int) -> None:
        self._vocab = vocab
        self.ids = (ctypes.c_int32 * rows)()
        self._allowed = (ctypes.c_void_p * rows)()
        self._uniforms = (ctypes.c_double * rows)()
        self._choices = (Choice * rows)()
        self._params: list[SamplingParams | None] = [None] * rows
        self._known: dict[int, tuple[Tensor, int]] = {}
        self._twins = (ctypes.c_void_p * rows)()
        self._guidance = (ctypes.c_float * rows)()
        places = (ctypes.addressof(part) for part in (self._choices, self._allowed, self._uniforms, self.ids))
        self._draw = Draw(*places)
        self.address = ctypes.addressof(self._draw)

    def fill(self, count: int, masks: Sequence[Tensor | None], params: Settings, uniforms: Sequence[float]) -> None:
        """For the first `count` rows. What C will read must be as long as it thinks. Raises ValueError."""
        if len(masks) != count or len(uniforms) != count:
            raise ValueError(f"{len(masks)} masks and {len(uniforms)} numbers are given; {count} rows need as many")
        for row, one in enumerate(of_each(params, count)):
            if one is not self._params[row]:
                self._params[row], choice = one, self._choices[row]
                choice.temperature, choice.top_k = one.temperature, min(one.top_k, 2**31 - 1)
                choice.top_p, choice.min_p = one.top_p, one.min_p
        self._allowed[:count] = [None if mask is None else self._place(mask) for mask in masks]
        self._uniforms[:count] = list(uniforms)

    def guide(self, guidance: Mapping[int, float] | None, twins: int = 0, stride: int = 0) -> None:
        """By how much which rows are guided from now on, none with None. twins: where their twins' logits lie, in that
        order, `stride` bytes apart."""
        if guidance is None:
            self._draw.twins = None
            return
        self._twins[:] = [None] * len(self._twins)
        for number, (row, by) in enumerate(guidance.items()):
            self._twins[row], self._guidance[row] = twins + number * stride, by
        self._draw.twins, self._draw.guidance = ctypes.addressof(self._twins), ctypes.addressof(self._guidance)

    def _place(self, mask: Tensor) -> int:
        """Where a mask's bytes are. Raises ValueError where they are not what C expects."""
        known = self._known.get(id(mask))
        if known:  # asking a tensor for its form costs more than the draw's other preparations; grammars keep theirs
            return known[1]
        if not (mask.dtype == torch.bool and mask.shape == (self._vocab,) and mask.is_contiguous()):
            raise ValueError(f"a mask is {mask.dtype} of {tuple(mask.shape)}; {self._vocab} bools are needed")
        if len(self._known) >= KNOWN_MASKS:
            self._known.clear()
        self._known[id(mask)] = mask, mask.data_ptr()  # the mask itself, so that its id stays its own
        return mask.data_ptr()


class NativeDecoding:
    """Streams that are decoded side by side."""

    def __init__(self, engine: NativeEngine, batch: int) -> None:
        self._engine = engine  # keeps the weights alive
        self._library = engine._library
        self._config = engine.config
        self._state = self._library.shortcut_state(engine._model, batch)
        if not self._state:
            raise MemoryError(f"there is not enough memory for the caches of {batch} streams")
        self._padded = padded(self._config.vocab_size)
        self.piece = 2 * ROWS_A_THREAD * engine.threads if engine.threads > 1 else PIECE
        """Tokens to read at a time where a window is read in pieces, at most. Pieces of at least half as many are
        computed as the whole is, so that no number differs."""
        self.near = int(NEAR * last_cache() // bytes_a_position(self._config, engine.kept))
        """Positions of all rows of a step, at most, that are still in the processor's last cache at the next."""
        self._hold(list(range(batch)), [0] * batch)
        self._watched = [False] * batch
        self._watching = False
        heads = self._config.shortcut_heads if self._config.taps else 1
        self._shares = np.zeros((batch, heads, self._config.sources), np.float32)
        self._surprise = np.zeros(batch, np.float32)
        self._buffers = Seen(self._shares, self._surprise)
        self.seen: Seen | None = None

    def _hold(self, slots: list[int], lengths: list[int]) -> None:
        """What a step hands over, for the rows there are: allocated here, not at every step."""
        batch = len(slots)
        self._ids, self._slots, self._lengths = ((ctypes.c_int32 * batch)(*given) for given in ([], slots, lengths))
        self._some_slots, self._some_lengths = ((ctypes.c_int32 * batch)() for _ in range(2))
        self._logits = torch.zeros(batch, self._padded)
        self._shown = self._logits[:, : self._config.vocab_size]
        self._draw = _Draw(batch, self._config.vocab_size)
        places = [ctypes.addressof(part) for part in (self._ids, self._slots, self._lengths)]
        self._step = (self._state, batch, *places, batch, self._logits.data_ptr())
        self._some = (places[0], *(ctypes.addressof(part) for part in (self._some_slots, self._some_lengths)))

    def __del__(self) -> None:
        if getattr(self, "_state", None):
            self._library.shortcut_free_state(self._state)

    @property
    def lengths(self) -> list[int]:
        """Tokens that each row's cache holds."""
        return self._lengths[:]

    def read(self, row: int, tokens: Sequence[int], *, start: int = 0, every: bool = False) -> Tensor:
        """Read tokens into a row behind its first `start` tokens, forgetting what stood there.

        Returns the logits of the id after the last of them, (1, V), or after each, (T, V), with `every`.
        """
        count = len(tokens)
        if not 0 <= start <= self._lengths[row]:
            raise ValueError(f"start is {start}; row {row} holds {self._lengths[row]} tokens")
        if count < 1 or start + count > self._config.context:
            raise ValueError(f"{start + count} tokens do not fit the context of {self._config.context}")
        given = np.empty((3, count), np.int32)
        given[0], given[1], given[2] = tokens, self._slots[row], np.arange(start, start + count)
        logits = torch.empty(count if every else 1, self._padded)
        places = (part.ctypes.data for part in given)
        self._pass((self._state, count, *places, logits.shape[0], logits.data_ptr()), None)
        self._lengths[row] = start + count
        self.seen = Seen(self._shares[:1], None) if self._watching and not every else None
        return logits[:, : self._config.vocab_size]

    def read_all(self, rows: Sequence[int], windows: Sequence[Sequence[int]]) -> Tensor:
        """`read` of several rows, one after the other. Logits, (rows, V)."""
        logits, shares = [], []
        for row, window in zip(rows, windows, strict=True):
            logits.append(self.read(row, window))
            if self._watching:
                shares.append(self._shares[:1].copy())
        self.seen = Seen(np.concatenate(shares), None) if shares else None
        return torch.cat(logits)

    def look(self, row: int, *, watched: bool, gains: Sequence[float] = ()) -> None:
        """Whether a row is watched from now on, and its taps' gains, none for 1. What is seen lies in one memory, until
        the next pass."""
        bias = (ctypes.c_float * len(gains))(*(max(one, NO_SCORE) for one in biases(gains))) if gains else None
        if gains and len(gains) != self._config.sources:
            raise ValueError(f"{len(gains)} gains are given; the model has {self._config.sources} sources")
        if self._library.shortcut_bias(self._state, self._slots[row], bias):
            raise MemoryError("there is not enough memory for a row's gains")
        self._watched[row] = watched
        self._watch()

    def _watch(self) -> None:
        self._watching = any(self._watched)
        places = (self._shares.ctypes.data, self._surprise.ctypes.data) if self._watching else (None, None)
        self._library.shortcut_watch(self._state, *places)

    def copy(self, row: int, twin: int) -> None:
        """Make a row hold what another holds."""
        self._library.shortcut_copy(self._state, self._slots[row], self._slots[twin], self._lengths[twin])
        self._lengths[row] = self._lengths[twin]

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with some of the rows alone, in that order."""
        self._hold([self._slots[row] for row in rows], [self._lengths[row] for row in rows])
        self._watched = [self._watched[row] for row in rows]
        self._watch()

    def step(self, tokens: Sequence[int], rows: Sequence[int] | None = None) -> Tensor:
        """Read one token in each of `rows`, in all where none are named; logits of the next, (rows, V).

        The next step overwrites them.
        """
        self._advance(tokens, rows, None)
        self.seen = Seen(self._shares, None) if self._watching else None
        return self._shown[: len(tokens)]

    def draw(
        self,
        tokens: Sequence[int],
        masks: Sequence[Tensor | None],
        params: Settings,
        uniforms: Sequence[float],
        rows: Sequence[int] | None = None,
    ) -> list[int]:
        """`step` and `choose` in one call of the library, which allocates nothing."""
        draw, count = self._draw, len(tokens)
        if count > len(self._lengths):
            raise ValueError(f"{count} rows are given; there are {len(self._lengths)}")
        draw.fill(count, masks, params, uniforms)
        self._advance(tokens, rows, draw.address)
        if self._watching:
            self.seen = self._buffers
        return draw.ids[:count]

    def draw_guided(
        self,
        tokens: Sequence[int],
        masks: Sequence[Tensor | None],
        params: Settings,
        uniforms: Sequence[float],
        rows: Sequence[int] | None,
        twins: object,
        guidance: Mapping[int, float],
    ) -> list[int]:
        """`draw`, of which some rows are guided, as `engines.DrawsGuided` has it. Raises ValueError."""
        if not isinstance(twins, NativeDecoding) or twins._padded != self._padded:
            raise ValueError("the twins are of another engine or vocabulary")
        if len(guidance) > len(twins._lengths) or not all(0 <= row < len(tokens) for row in guidance):
            raise ValueError(f"{len(guidance)} rows of {len(tokens)} are guided by {len(twins._lengths)} twins")
        self._draw.guide(guidance, twins._logits.data_ptr(), twins._padded * 4)
        try:
            return self.draw(tokens, masks, params, uniforms, rows)
        finally:
            self._draw.guide(None)

    def _advance(self, tokens: Sequence[int], rows: Sequence[int] | None, draw: int | None) -> None:
        lengths, count = self._lengths, len(tokens)
        if count != len(lengths if rows is None else rows) or count > len(lengths):
            raise ValueError(f"{count} tokens are given; each row that goes on needs one")
        self._ids[:count] = list(tokens)
        given = self._step
        if rows is not None:
            self._some_slots[:count] = [self._slots[row] for row in rows]
            self._some_lengths[:count] = [lengths[row] for row in rows]
            given = (self._state, count, *self._some, count, self._logits.data_ptr())
        self._pass(given, draw)
        for row in range(count) if rows is None else rows:
            lengths[row] += 1

    def _pass(self, given: tuple[int, ...], draw: int | None) -> None:
        """`given` is what shortcut_pass takes but for its last argument, `draw`."""
        problem = self._library.shortcut_pass(*given, draw)
        if problem == 1:
            raise MemoryError("there is not enough memory for a pass of the native engine")
        if problem == 2:
            raise ValueError(f"an id lies outside 0 to {self._config.vocab_size - 1}")
        if problem == 4:
            raise ValueError("more rows, or other slots, are given than this decoding holds")
        if problem:
            raise ValueError(f"{self._config.context + 1} tokens do not fit the context of {self._config.context}")
