"""The Python half of the native engine: it packs a model's weights once and hands ids and logits over.

The caches, and all that is computed, are in engine.cpp. A row of a batch is a slot there for as long as it lives.
"""

import ctypes
import os
from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn

from shortcut_gen.config import ModelConfig
from shortcut_gen.errors import SettingsError
from shortcut_gen.model import ROTARY_BASE, Block, ShortcutLM
from shortcut_gen.native.library import LEVELS, library, machine_level
from shortcut_gen.sampling import SamplingParams

Precision = Literal["f32", "bf16", "int8"]
"""Of the weights, and with them of the caches: f32, or bf16 beside narrower weights. Sums are float32 always."""

WITH_DOT_PRODUCTS: Precision = "bf16"
"""The precision where none is named, on a CPU that multiplies bf16; f32 on others."""

MOST_THREADS = 8
"""Threads where their number is not named, at most: more wait for each other longer than they compute."""

FORCED_LEVEL = "SHORTCUT_GEN_NATIVE"
"""An environment variable: one of LEVELS, to run below what the machine can do."""


def default_precision() -> Precision:
    """The precision where none is named. Raises SettingsError where the library is not built."""
    return WITH_DOT_PRODUCTS if machine_level() == LEVELS[-1] else "f32"


class NativeEngine:
    """A model's weights, packed for a CPU. Later changes to the model do not reach it.

    Its decodings may run in different threads at once; with `threads` above 1 their passes take turns.
    """

    name = "native"

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
        best = machine_level()
        self.level = level or os.environ.get(FORCED_LEVEL) or best
        if self.level not in LEVELS[: LEVELS.index(best) + 1]:
            there = ", ".join(LEVELS[: LEVELS.index(best) + 1])
            raise SettingsError(f"the instruction set {self.level!r} is not to be had here; one of {there} is needed")
        self._model = self._pack(model)

    def _pack(self, model: ShortcutLM) -> int:
        tensors = _tensors(model)
        sizes = (ctypes.c_int64 * len(tensors))(*(tensor.numel() for tensor in tensors))
        pointers = (ctypes.c_void_p * len(tensors))(*(tensor.data_ptr() for tensor in tensors))
        precision, level = get_args(Precision).index(self.precision), LEVELS.index(self.level)
        shape = _shape(self.config)
        made = self._library.shortcut_model(
            (ctypes.c_int32 * len(shape))(*shape), pointers, sizes, len(tensors), precision, level, self.threads
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
        self, logits: Tensor, masks: Sequence[Tensor | None], params: SamplingParams, uniforms: Sequence[float]
    ) -> list[int]:
        """The next id of each row of logits, (B, V): what `sampling.choose` does, in a few microseconds."""
        rows, vocab = logits.shape
        allowed = (ctypes.c_void_p * rows)(*(None if mask is None else mask.data_ptr() for mask in masks))
        numbers = (ctypes.c_double * rows)(*uniforms)
        ids = (ctypes.c_int32 * rows)()
        self._library.shortcut_choose(
            logits.data_ptr(), logits.stride(0), rows, vocab, allowed, numbers,
            params.temperature, params.top_k, params.top_p, params.min_p, ids,
        )  # fmt: skip
        return list(ids)


class NativeDecoding:
    """Streams that are decoded side by side: `lengths[b]` tokens of row b have been read."""

    def __init__(self, engine: NativeEngine, batch: int) -> None:
        self._engine = engine  # keeps the weights alive
        self._library = engine._library
        self._config = engine.config
        self._state = self._library.shortcut_state(engine._model, batch)
        if not self._state:
            raise MemoryError(f"there is not enough memory for the caches of {batch} streams")
        self._slots = list(range(batch))
        self.lengths = [0] * batch
        self._padded = _padded(self._config.vocab_size)
        self._resize()

    def _resize(self) -> None:
        """What a step hands over, for the rows there are: allocated here, not at every step."""
        batch = len(self._slots)
        self._arguments = np.zeros((3, batch), np.int32)  # ids, slots, positions
        self._logits = torch.zeros(batch, self._padded)
        first = self._arguments.ctypes.data
        self._pointers = (first, first + 4 * batch, first + 8 * batch)

    def __del__(self) -> None:
        if getattr(self, "_state", None):
            self._library.shortcut_free_state(self._state)

    def read(self, row: int, tokens: Sequence[int], *, start: int = 0, every: bool = False) -> Tensor:
        """Read tokens into a row behind its first `start` tokens, forgetting what stood there.

        Returns the logits of the id after the last of them, (1, V), or after each, (T, V), with `every`.
        """
        count = len(tokens)
        if not 0 <= start <= self.lengths[row]:
            raise ValueError(f"start is {start}; row {row} holds {self.lengths[row]} tokens")
        if count < 1 or start + count > self._config.context:
            raise ValueError(f"{start + count} tokens do not fit the context of {self._config.context}")
        given = np.empty((3, count), np.int32)
        given[0], given[1], given[2] = tokens, self._slots[row], np.arange(start, start + count)
        logits = torch.empty(count if every else 1, self._padded)
        first = given.ctypes.data
        self._pass(count, (first, first + 4 * count, first + 8 * count), given[0], logits)
        self.lengths[row] = start + count
        return logits[:, : self._config.vocab_size]

    def copy(self, row: int, twin: int) -> None:
        """Make a row hold what another holds."""
        self._library.shortcut_copy(self._state, self._slots[row], self._slots[twin], self.lengths[twin])
        self.lengths[row] = self.lengths[twin]

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with some of the rows alone, in that order."""
        self._slots = [self._slots[row] for row in rows]
        self.lengths = [self.lengths[row] for row in rows]
        self._resize()

    def step(self, tokens: Sequence[int], skipped: Sequence[int] = ()) -> Tensor:
        """Read one token in every row but the skipped; logits of the next, (B, V), undefined in skipped rows.

        The next step overwrites them.
        """
        lengths = self.lengths
        batch = len(lengths)
        going = [row for row in range(batch) if row not in skipped] if skipped else range(batch)
        if any(lengths[row] >= self._config.context for row in going):
            raise ValueError(f"{self._config.context + 1} tokens do not fit the context of {self._config.context}")
        given = self._arguments
        if not skipped:
            given[0], given[1], given[2] = tokens, self._slots, lengths
            self._pass(batch, self._pointers, given[0], self._logits)
        elif going:
            some = np.array([[source[row] for row in going] for source in (tokens, self._slots, lengths)], np.int32)
            logits = torch.empty(len(going), self._padded)
            first = some.ctypes.data
            pointers = (first, first + 4 * len(going), first + 8 * len(going))
            self._pass(len(going), pointers, some[0], logits)
            self._logits[list(going)] = logits
        for row in going:
            lengths[row] += 1
        return self._logits[:, : self._config.vocab_size]

    def _pass(self, rows: int, pointers: tuple[int, int, int], ids: Any, logits: Tensor) -> None:
        if ids.min() < 0 or ids.max() >= self._config.vocab_size:
            raise ValueError(f"an id lies outside 0 to {self._config.vocab_size - 1}")
        if self._library.shortcut_pass(self._state, rows, *pointers, logits.shape[0], logits.data_ptr()):
            raise MemoryError("there is not enough memory for a pass of the native engine")


def _padded(size: int) -> int:
    return (size + 15) // 16 * 16


def _shape(config: ModelConfig) -> list[int]:
    """The numbers that `shortcut_model` in engine.cpp wants, in its order."""
    flags = [(block in config.taps) + 2 * (block in config.residual_mlps) for block in range(1, config.layers + 1)]
    return [
        config.vocab_size,
        config.context,
        config.layers,
        config.width,
        config.heads,
        config.feedforward,
        config.feature_hidden,
        config.shortcut_heads if config.taps else 1,
        int(config.features == "mlp"),
        int(config.attend_current),
        int(config.residual == "literal"),
        int(config.position == "rotary"),
        *flags,
    ]


def _tensors(model: ShortcutLM) -> list[Tensor]:
    """A model's weights in the order in which engine.cpp reads them: f32, each dimension padded to sixteens."""
    config = model.config
    state = {name: value.detach().to("cpu", torch.float32) for name, value in model.state_dict().items()}
    out: list[Tensor] = [_pad(state["embedding.weight"], config.vocab_size)]
    if model.positions is not None:
        out.append(_pad(state["positions.weight"], config.context))
    else:
        out += [_rotation(config, heads) for heads in _head_counts(config)]
    for block in model.blocks:
        out += _block(block, config, config.heads, shortcut=False)
    for number in config.residual_mlps:
        name = f"residual_mlps.{number}."
        out += [state[f"{name}norm.weight"], state[f"{name}norm.bias"]]
        for layer in ("up", "middle", "down"):
            out += [_pad(state[f"{name}{layer}.weight"]), _pad_vector(state[f"{name}{layer}.bias"])]
    if model.shortcut is not None:
        if model.shortcut.features is not None:
            for tap in range(len(config.taps)):
                for depth in range(3):
                    out.append(_pad(state[f"shortcut.features.weights.{depth}"][tap].T))
                    out.append(_pad_vector(state[f"shortcut.features.biases.{depth}"][tap, 0]))
        out += [state["shortcut.features_norm.weight"], state["shortcut.features_norm.bias"]]
        out += _block(model.shortcut.block, config, config.shortcut_heads, shortcut=True)
    out += [state["norm.weight"], state["norm.bias"], _pad(state["embedding.weight"])]
    return [tensor.contiguous() for tensor in out]


def _head_counts(config: ModelConfig) -> list[int]:
    return [config.heads, config.shortcut_heads] if config.taps else [config.heads]


def _block(block: nn.Module, config: ModelConfig, heads: int, shortcut: bool) -> list[Tensor]:
    """A block's tensors. The rows of queries, keys and values stand by groups of heads, as `Heads` in engine.cpp."""
    assert isinstance(block, Block)
    attention, mlp = block.attention, block.mlp
    kinds = [(attention.query, 0), (attention.keys_values, 0), (attention.keys_values, config.width)]
    layers = [(linear, _places(config, heads) + first, _places(config, heads) >= 0) for linear, first in kinds]
    matrices = [torch.where(there[..., None], linear.weight[rows], 0.0) for linear, rows, there in layers]
    biases = [torch.where(there, linear.bias[rows], 0.0) for linear, rows, there in layers]

    def joined(first: int, last: int) -> list[Tensor]:
        """Some of queries, keys and values as one matrix, group by group."""
        rows = torch.cat(matrices[first:last], dim=1).flatten(0, 1)
        return [_pad(rows.detach().float().cpu()), torch.cat(biases[first:last], 1).flatten().detach().float().cpu()]

    columns = _places(config, heads).flatten()
    out = torch.where(columns >= 0, attention.out.weight[:, columns], 0.0)
    vectors = [block.attention_norm.weight, block.attention_norm.bias]
    parts = [joined(0, 1), joined(1, 3)] if shortcut else [joined(0, 3)]
    tail = [out, attention.out.bias, block.mlp_norm.weight, block.mlp_norm.bias]
    tail += [mlp.up.weight, mlp.up.bias, mlp.down.weight, mlp.down.bias]
    out, out_bias, *norm, up, up_bias, down, down_bias = (value.detach().float().cpu() for value in tail)
    return [
        *(value.detach().float().cpu() for value in vectors),
        *(tensor for part in parts for tensor in part),
        *(_pad(out), _pad_vector(out_bias), *norm),
        *(_pad(up), _pad_vector(up_bias), _pad(down), _pad_vector(down_bias)),
    ]


def _places(config: ModelConfig, heads: int) -> Tensor:
    """(groups, columns): which of D columns stands where, -1 where nothing does."""
    width = config.width // heads
    together = max(1, 16 // width)
    groups = -(-heads // together)
    places = torch.full((groups, _padded(together * width)), -1)
    for head in range(heads):
        first = head % together * width
        places[head // together, first : first + width] = torch.arange(head * width, (head + 1) * width)
    return places


def _pad(matrix: Tensor, rows: int | None = None) -> Tensor:
    """(N, K) with zeros to multiples of sixteen; N to `rows` if given."""
    height, width = matrix.shape
    return nn.functional.pad(matrix, (0, _padded(width) - width, 0, (rows or _padded(height)) - height))


def _pad_vector(vector: Tensor) -> Tensor:
    return nn.functional.pad(vector, (0, _padded(len(vector)) - len(vector)))


def _rotation(config: ModelConfig, heads: int) -> Tensor:
    """(C, 2, E/2): cosines and sines of the rotary positions, as `Step.rotate` of the model has them."""
    width = config.width // heads
    frequencies = ROTARY_BASE ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)
    angles = torch.arange(config.context, dtype=torch.float64).unsqueeze(1) * frequencies
    return torch.stack((angles.cos(), angles.sin()), dim=1).float()
