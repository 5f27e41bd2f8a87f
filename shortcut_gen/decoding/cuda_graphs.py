"""Decoding by PyTorch with shapes that never change, so that on a GPU a whole step is one CUDA graph.

A step reads one token in every row and draws the next id of each on the device. What it needs (ids, positions, uniform
numbers, masks) goes there in one copy; only the ids that are drawn come back, and that is the one time the CPU waits.

On other devices the same steps run without a graph, which is how the tests run them. No GPU has run this yet.
"""

import dataclasses
import logging
import sys
from collections.abc import Callable, Sequence
from functools import cache, partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from shortcut_gen.decoding.sampling import RowSettings, SamplingParams, Settings, choose_there, of_each
from shortcut_gen.network.cache import DecodeCache, KVCache
from shortcut_gen.network.look import Look
from shortcut_gen.network.model import ShortcutLM, Step

SPANS = 4
"""Lengths that there are graphs for: a step attends to as many quarters of the context as its longest row needs."""

READ_TOGETHER = 32
"""Windows that are read at once, padded to the longest, at most."""

MOST_LOGITS = 2**27
"""Logits of all their positions, at most: half a gigabyte."""

PIECE = 128
"""Tokens of a window that are read at a time where others wait for it to be done."""

log = logging.getLogger(__name__)


class StaticStep(Step):
    """One token a row at positions that the device knows, (B, 1); it attends to a span of the caches, masked."""

    def __init__(self, positions: Tensor, cache: DecodeCache, span: int) -> None:
        super().__init__(positions, cache)
        self._span = span
        self._masks: dict[int, Tensor] = {}

    def attend(self, query: Tensor, keys: Tensor, values: Tensor, cache: KVCache, look: Look | None = None) -> Tensor:
        """As `Step.attend`, of one new position."""
        sources = keys.shape[3]
        if sources not in self._masks:
            place = torch.arange(self._span * sources, device=query.device)
            hidden = (place >= (self.positions + 1) * sources)[:, None, None]  # (B, 1, 1, K*L)
            # Added to the scores, as a mask of truth values would be turned into one in every block.
            self._masks[sources] = torch.zeros_like(hidden, dtype=query.dtype).masked_fill_(hidden, -torch.inf)
        keys, values = self._kept(keys, cache.keys), self._kept(values, cache.values)
        if look:
            look.see(query, keys.unflatten(2, (-1, sources)), self.positions)
        return F.scaled_dot_product_attention(query, keys, values, attn_mask=self._masks[sources])

    def _kept(self, new: Tensor, store: Tensor) -> Tensor:
        """Put new keys or values, (B, H, 1, L, E), in their place; those of the span, (B, H, K*L, E)."""
        store = store.view(*new.shape[:2], -1, *new.shape[3:])  # (B, H, C, L, E)
        store.scatter_(2, self.positions[:, :, None, None, None].expand_as(new), new)
        return store[:, :, : self._span].flatten(2, 3)


_KINDS = (torch.int64, torch.int64, torch.float64, torch.float64, torch.int64, torch.float64, torch.float64)


class _Inputs:
    """What a step is given, for every slot: memory on the CPU and on the device, of one layout, copied in one piece."""

    def __init__(self, slots: int, vocab: int, device: torch.device) -> None:
        size = slots * (8 * len(_KINDS) + vocab)
        self._here = torch.zeros(size, dtype=torch.uint8, pin_memory=device.type == "cuda")
        self._there = torch.zeros(size, dtype=torch.uint8, device=device)
        self.tokens, self.positions, self.uniforms, *settings, self.allowed = (
            part.numpy() for part in self._parts(self._here, slots, vocab)
        )
        self.settings = tuple(settings)
        """In the order of `RowSettings`."""
        self.settings[1][:], self.allowed[:] = vocab, True
        self.there = self._parts(self._there, slots, vocab)
        """The same on the device: tokens, positions, uniforms and the four settings, (B,) each, and allowed, (B, V)."""

    @staticmethod
    def _parts(memory: Tensor, slots: int, vocab: int) -> list[Tensor]:
        *rows, allowed = memory.split([8 * slots] * len(_KINDS) + [vocab * slots])
        parts = [part.view(kind) for part, kind in zip(rows, _KINDS, strict=True)]
        return [*parts, allowed.view(torch.bool).view(slots, vocab)]

    def send(self, wait: bool) -> None:
        """Copy all to the device. Without `wait`, nothing may be written here before the step is known to be done."""
        self._there.copy_(self._here, non_blocking=not wait)


class GraphDecoding:
    """The caches of some streams, in slots that stay where they are until half of the streams have ended."""

    piece = PIECE
    near = sys.maxsize

    def __init__(self, model: ShortcutLM, batch: int) -> None:
        weight = model.embedding.weight
        self._model = model
        self._device = weight.device
        self._capture = self._captures()
        self._hold(DecodeCache.create(model.config, batch, weight.device, weight.dtype), [0] * batch)

    def _captures(self) -> bool:
        return self._device.type == "cuda"

    def _hold(self, store: DecodeCache, lengths: list[int]) -> None:
        """Go on with these caches, a slot for each row."""
        config = self._model.config
        self._store = store
        self._slots = np.arange(len(lengths))
        self._lengths = np.array(lengths)  # of rows
        self._inputs = _Inputs(len(lengths), config.vocab_size, self._device)
        self._logits = torch.zeros(len(lengths), config.vocab_size, device=self._device)
        self._drawn = torch.zeros(len(lengths), dtype=torch.int64, device=self._device)
        self._params: list[SamplingParams | None] = [None] * len(lengths)  # of slots
        self._graphs: dict[tuple[int, bool], Callable[[], None]] = {}

    @property
    def lengths(self) -> list[int]:
        """Tokens that each row's cache holds."""
        lengths: list[int] = self._lengths.tolist()
        return lengths

    @torch.inference_mode()
    def read(self, row: int, tokens: Sequence[int], *, start: int = 0) -> Tensor:
        """Read tokens into a row behind its first `start`. Logits, (1, V)."""
        if not start:
            return self.read_all([row], [tokens])
        cache = self._store.row(int(self._slots[row]), start)
        logits = self._model(torch.tensor([list(tokens)], device=self._device), cache)[:, -1]
        self._lengths[row] = start + len(tokens)
        return logits

    @torch.inference_mode()
    def read_all(self, rows: Sequence[int], windows: Sequence[Sequence[int]]) -> Tensor:
        """Read several rows from their start, many at once. Logits, (rows, V)."""
        config = self._model.config
        together = max(1, min(READ_TOGETHER, MOST_LOGITS // (config.context * config.vocab_size)))
        groups = [slice(start, start + together) for start in range(0, len(rows), together)]
        return torch.cat([self._read(rows[group], windows[group]) for group in groups])

    def _read(self, rows: Sequence[int], windows: Sequence[Sequence[int]]) -> Tensor:
        lengths = [len(window) for window in windows]
        longest = max(lengths)
        # What pads a window stands behind it, where nothing that is kept can see it.
        padded = torch.tensor([[*window, *[0] * (longest - len(window))] for window in windows], device=self._device)
        shape = dataclasses.replace(self._model.config, context=longest)
        apart = DecodeCache.create(shape, len(rows), self._device, self._store.blocks[0].keys.dtype)
        logits = self._model(padded, apart)  # (rows, T, V)
        slots = torch.from_numpy(self._slots[list(rows)]).to(self._device)
        for block, part in zip(self._store.blocks, apart.blocks, strict=True):
            block.keys[slots, :, :longest] = part.keys
            block.values[slots, :, :longest] = part.values
        self._lengths[list(rows)] = lengths
        return logits[torch.arange(len(rows)), torch.tensor(lengths) - 1]

    @torch.inference_mode()
    def copy(self, row: int, twin: int) -> None:
        """Make a row hold what another holds."""
        for block in self._store.blocks:
            for store in (block.keys, block.values):
                store[self._slots[row]] = store[self._slots[twin]]
        self._lengths[row] = self._lengths[twin]

    @torch.inference_mode()
    def keep(self, rows: Sequence[int]) -> None:
        """Go on with some of the rows alone, in that order."""
        slots, lengths = self._slots[list(rows)], self._lengths[list(rows)]
        if 2 * len(slots) <= self._store.batch:
            self._hold(self._store.take(slots.tolist()), lengths.tolist())
        else:
            self._slots, self._lengths = slots, lengths

    @torch.inference_mode()
    def step(self, tokens: Sequence[int], rows: Sequence[int] | None = None) -> Tensor:
        """Read one token in each of `rows`, in all where none are named. Logits, (rows, V)."""
        rows = range(len(self._slots)) if rows is None else rows
        self._run(tokens, rows, drawing=False)
        return self._logits[torch.from_numpy(self._slots[list(rows)]).to(self._device)]

    @torch.inference_mode()
    def draw(
        self,
        tokens: Sequence[int],
        masks: Sequence[Tensor | None],
        params: Settings,
        uniforms: Sequence[float],
        rows: Sequence[int] | None = None,
    ) -> list[int]:
        """`step`, and the next id of each of these rows, drawn on the device."""
        inputs = self._inputs
        rows = range(len(self._slots)) if rows is None else rows
        slots = self._slots[list(rows)]
        inputs.uniforms[slots] = uniforms
        for slot, mask, one in zip(slots, masks, of_each(params, len(rows)), strict=True):
            inputs.allowed[slot] = True if mask is None else mask.numpy()
            if one is not self._params[slot]:
                self._params[slot] = one
                for setting, value in zip(inputs.settings, RowSettings.of(one, len(inputs.allowed[slot])), strict=True):
                    setting[slot] = value
        self._run(tokens, rows, drawing=True)
        drawn: list[int] = self._drawn.cpu().numpy()[slots].tolist()  # here the CPU waits
        return drawn

    def _run(self, tokens: Sequence[int], rows: Sequence[int], drawing: bool) -> None:
        """A step with what `_inputs` holds besides."""
        context = self._model.config.context
        going = np.asarray(rows)
        slots, lengths = self._slots[going], self._lengths[going]
        longest = int(lengths.max()) + 1
        if longest > context:
            raise ValueError(f"{longest} tokens do not fit the context of {context}")
        inputs = self._inputs
        # Where the other slots write: what is read there next, or anew where a row is full, will be put over it.
        inputs.positions[:] = 0
        inputs.positions[self._slots] = np.where(self._lengths < context, self._lengths, 0)
        inputs.tokens[slots] = tokens
        inputs.send(wait=not drawing)  # who draws waits for the ids
        quarter = -(-context // SPANS // 16) * 16
        self._launch(min(context, -(-longest // quarter) * quarter), drawing)
        self._lengths[going] += 1

    def _launch(self, span: int, drawing: bool) -> None:
        if self._capture and (span, drawing) not in self._graphs:
            try:
                self._graphs[span, drawing] = capture(partial(self._compute, span, drawing), self._device)
            except RuntimeError as error:
                self._capture = False
                _say_once(" ".join(str(error).split()))
        if self._capture:
            self._graphs[span, drawing]()
        else:
            self._compute(span, drawing)

    def _compute(self, span: int, drawing: bool) -> None:
        """The step itself, from the inputs on the device to `_logits` and `_drawn`."""
        tokens, positions, uniforms, *settings, allowed = self._inputs.there
        step = StaticStep(positions.unsqueeze(1), self._store, span)
        self._logits.copy_(self._model.compute(tokens.unsqueeze(1), step)[:, -1])
        if drawing:
            self._drawn.copy_(choose_there(self._logits, allowed, RowSettings(*settings), uniforms))


def capture(work: Callable[[], None], device: torch.device) -> Callable[[], None]:
    """Work on a GPU as a CUDA graph, to be called again and again. Raises RuntimeError where it cannot be one."""
    with torch.cuda.device(device):
        beside = torch.cuda.Stream()
        beside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(beside):
            work()  # so that libraries make what they need before; the same step twice changes nothing
        torch.cuda.current_stream().wait_stream(beside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):  # other threads may use the GPU meanwhile
            work()
    replay: Callable[[], None] = graph.replay
    return replay


@cache
def _say_once(problem: str) -> None:
    log.warning("a step cannot be made a CUDA graph (%s); PyTorch decodes without, which is slower", problem)
