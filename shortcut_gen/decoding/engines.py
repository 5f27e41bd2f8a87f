"""What computes the logits and draws from them, behind `Sampler.stream`: PyTorch, anywhere, or the native engine."""

import logging
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Literal, Protocol, get_args, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from shortcut_gen.decoding import native, sampling
from shortcut_gen.decoding.cuda_graphs import GraphDecoding
from shortcut_gen.decoding.depth import Seen, surprises
from shortcut_gen.decoding.native import NativeEngine, Precision
from shortcut_gen.decoding.sampling import Settings
from shortcut_gen.errors import SettingsError
from shortcut_gen.network.cache import DecodeCache
from shortcut_gen.network.look import Look, biases
from shortcut_gen.network.model import ShortcutLM

EngineName = Literal["auto", "torch", "native"]
"""`auto` is the native engine for a model on a CPU where it was built, and torch everywhere else;
on a GPU torch runs one CUDA graph a step (cuda_graphs.py)."""

PIECE = 64
"""Tokens of a window that are read at a time where others wait for it to be done."""

log = logging.getLogger(__name__)


class Decoding(Protocol):
    """The state of some streams that are decoded side by side."""

    @property
    def lengths(self) -> Sequence[int]:
        """Tokens that each row's cache holds."""
        ...

    @property
    def piece(self) -> int:
        """Tokens that may be read at a time where a window is read in pieces, at most (`pieces`)."""
        ...

    @property
    def near(self) -> int:
        """Positions that the rows of a step may hold together so that the next step finds them in the processor's
        caches; where they hold more, some steps of a few rows are faster than some of all."""
        ...

    def read(self, row: int, tokens: Sequence[int], *, start: int = 0) -> Tensor:
        """Read tokens into a row behind its first `start`: alone, so that no other row changes its numbers. Logits of
        the id after the last, (1, V)."""
        ...

    def read_all(self, rows: Sequence[int], windows: Sequence[Sequence[int]]) -> Tensor:
        """`read` of several rows. Logits, (rows, V)."""
        ...

    def copy(self, row: int, twin: int) -> None:
        """Make a row hold what another holds."""
        ...

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with some of the rows alone, in that order."""
        ...

    def step(self, tokens: Sequence[int], rows: Sequence[int] | None = None) -> Tensor:
        """Read one token in each of `rows`, in all where none are named; logits of the next, (rows, V)."""
        ...

    def draw(
        self,
        tokens: Sequence[int],
        masks: Sequence[Tensor | None],
        params: Settings,
        uniforms: Sequence[float],
        rows: Sequence[int] | None = None,
    ) -> list[int]:
        """`step`, and the next id of each of these rows as `Engine.choose` chooses it."""
        ...


@runtime_checkable
class Looking(Decoding, Protocol):
    """A decoding that says, where it is asked to, what the last block attended to, and turns taps up and down."""

    def look(self, row: int, *, watched: bool, gains: Sequence[float] = ()) -> None:
        """Whether a row is watched from now on, and its taps' gains, none for 1; so it is at first."""
        ...

    @property
    def seen(self) -> Seen | None:
        """Of the rows of the last `read`, `read_all`, or `draw`, in their order; None where no row is watched. The
        next of them overwrites it."""
        ...


@runtime_checkable
class DrawsGuided(Decoding, Protocol):
    """A decoding that takes the logits of its rows' twins itself when it draws (`shortcut_gen.decoding.guidance`)."""

    def draw_guided(
        self,
        tokens: Sequence[int],
        masks: Sequence[Tensor | None],
        params: Settings,
        uniforms: Sequence[float],
        rows: Sequence[int] | None,
        twins: Decoding,
        guidance: Mapping[int, float],
    ) -> list[int]:
        """`draw`, of which some rows, by their places among those of the step, are guided: away from the logits of
        `twins`, whose last step had these rows alone, in that order."""
        ...


class Engine(Protocol):
    """A model made ready to decode; nothing in it changes while it does."""

    @property
    def name(self) -> str:
        """What the settings call it."""
        ...

    @property
    def precision(self) -> Precision:
        """Of the weights."""
        ...

    @property
    def looks(self) -> bool:
        """Whether its decodings are `Looking`."""
        ...

    @property
    def most_rows(self) -> int:
        """Rows of one decoding, at most, so that a row's numbers are rounded alike whatever their number."""
        ...

    def decoding(self, batch: int) -> Decoding:
        """Empty caches for so many streams."""
        ...

    def choose(
        self, logits: Tensor, masks: Sequence[Tensor | None], params: Settings, uniforms: Sequence[float]
    ) -> list[int]:
        """The next id of each row of logits, (B, V), of those its mask allows, or `sampling.UNUSABLE`."""
        ...


class TorchEngine:
    """The model itself, wherever it is and whatever its dtype."""

    name = "torch"
    precision: Precision = "f32"
    most_rows = 256
    """PyTorch rounds otherwise with every number of rows; a bound for what is allocated."""

    def __init__(self, model: ShortcutLM, *, graphs: bool = False) -> None:
        """`graphs`: decode with shapes that never change, a CUDA graph a step where the model is on a GPU."""
        self.model = model
        self.graphs = graphs
        self.looks = not graphs

    def decoding(self, batch: int) -> Decoding:
        """Empty caches for so many streams."""
        return GraphDecoding(self.model, batch) if self.graphs else TorchDecoding(self.model, batch)

    @torch.inference_mode()
    def choose(
        self, logits: Tensor, masks: Sequence[Tensor | None], params: Settings, uniforms: Sequence[float]
    ) -> list[int]:
        """The next id of each row."""
        return sampling.choose(logits.float().cpu(), masks, params, uniforms)


class TorchDecoding:
    """A model and the caches of some streams."""

    def __init__(self, model: ShortcutLM, batch: int) -> None:
        weight = model.embedding.weight
        self._model = model
        self._device = weight.device
        self._cache = DecodeCache.create(model.config, batch, weight.device, weight.dtype)
        self._watched = [False] * batch
        self._gains: list[Sequence[float]] = [()] * batch
        self.seen: Seen | None = None

    piece = PIECE
    near = sys.maxsize  # what a step costs lies elsewhere

    @property
    def lengths(self) -> list[int]:
        """Tokens that each row's cache holds."""
        return self._cache.lengths

    @torch.inference_mode()
    def read(self, row: int, tokens: Sequence[int], *, start: int = 0) -> Tensor:
        """Read tokens into a row behind its first `start`. Logits, (1, V)."""
        cache, look = self._cache.row(row, start), self._look(row, row + 1)
        logits = self._model(torch.tensor([list(tokens)], device=self._device), cache, look)[:, -1]
        self._cache.lengths[row] = start + len(tokens)
        self.seen = _seen(look, range(1)) if look and look.watched else None
        return logits

    def look(self, row: int, *, watched: bool, gains: Sequence[float] = ()) -> None:
        """Whether a row is watched from now on, and its taps' gains."""
        self._watched[row], self._gains[row] = watched, gains

    def _look(self, first: int, end: int) -> Look | None:
        """What a pass over some rows is asked for besides."""
        watched, gains = any(self._watched), self._gains[first:end]
        if not any(gains):
            return Look() if watched else None
        even = (1.0,) * self._model.config.sources
        bias = torch.tensor([biases(some or even) for some in gains], device=self._device)
        return Look(bias, watched=watched)

    @torch.inference_mode()
    def read_all(self, rows: Sequence[int], windows: Sequence[Sequence[int]]) -> Tensor:
        """`read` of several rows, one after the other. Logits, (rows, V)."""
        logits, shares = [], []
        for row, window in zip(rows, windows, strict=True):
            logits.append(self.read(row, window))
            if self.seen:
                shares.append(self.seen.shares)
        self.seen = Seen(np.concatenate(shares), None) if shares else None
        return torch.cat(logits)

    @torch.inference_mode()
    def copy(self, row: int, twin: int) -> None:
        """Make a row hold what another holds."""
        for block in self._cache.blocks:
            block.keys[row], block.values[row] = block.keys[twin], block.values[twin]
        self._cache.lengths[row] = self._cache.lengths[twin]

    @torch.inference_mode()
    def keep(self, rows: Sequence[int]) -> None:
        """Go on with some of the rows alone, in that order."""
        self._cache = self._cache.take(list(rows))
        self._watched, self._gains = [self._watched[row] for row in rows], [self._gains[row] for row in rows]

    @torch.inference_mode()
    def step(self, tokens: Sequence[int], rows: Sequence[int] | None = None) -> Tensor:
        """Read one token in each of `rows`. Logits, (rows, V).

        What lies between the first and the last of them is computed with them, and forgotten.
        """
        whole = self._cache
        rows = range(whole.batch) if rows is None else rows
        first, end = min(rows), max(rows) + 1
        there = torch.tensor(rows, device=self._device) - first
        ids = torch.zeros(end - first, dtype=torch.int64, device=self._device)
        ids[there] = torch.tensor(tokens, device=self._device)
        # The others write where they will be read on, or, if they are full, anew.
        lengths = [length if row in rows or length < whole.context else 0 for row, length in enumerate(whole.lengths)]
        some = DecodeCache([block.rows(slice(first, end)) for block in whole.blocks], whole.context, lengths[first:end])
        look = self._look(first, end)
        logits = self._model(ids.unsqueeze(1), some, look)[:, -1]
        for row in rows:
            whole.lengths[row] += 1
        self.seen = _seen(look, there.tolist()) if look and look.watched else None
        return logits[there]

    @torch.inference_mode()
    def draw(
        self,
        tokens: Sequence[int],
        masks: Sequence[Tensor | None],
        params: Settings,
        uniforms: Sequence[float],
        rows: Sequence[int] | None = None,
    ) -> list[int]:
        """`step`, and the next id of each of these rows."""
        logits = self.step(tokens, rows).float().cpu()
        if self.seen is None:
            return sampling.choose(logits, masks, params, uniforms)
        totals = logits.logsumexp(dim=-1)  # before what may not come is cut
        drawn = sampling.choose(logits, masks, params, uniforms)
        self.seen = self.seen._replace(surprise=surprises(totals, logits, drawn))
        return drawn


def _seen(look: Look, rows: Sequence[int]) -> Seen:
    """What a look saw of some of its rows."""
    if look.shares is None:  # the baseline
        return Seen(np.empty((len(rows), 1, 0), np.float32), None)
    return Seen(look.shares.cpu().numpy()[list(rows)], None)


def resolve(
    engine: str = "auto", precision: str | None = None, device: torch.device | str = "cpu"
) -> tuple[Literal["torch", "native"], Precision]:
    """Which engine runs for these settings, and in which precision. Raises SettingsError."""
    for name, value, choices in (("engine", engine, EngineName), ("precision", precision, Precision)):
        if value is not None and value not in get_args(choices):
            raise SettingsError(f"{name} is {value!r}; one of {', '.join(get_args(choices))} is needed")
    elsewhere = torch.device(device).type != "cpu"
    problem = f"the model is on {device}, but the native engine runs on a CPU" if elsewhere else native.problem()
    if engine == "native" and problem:
        raise SettingsError(f"engine is 'native', but {problem}")
    if engine == "torch" or problem:
        if precision not in (None, "f32"):
            raise SettingsError(f"precision is {precision!r}, but the torch engine computes in f32 alone")
        if engine == "auto" and problem and not elsewhere:
            _say_once(problem)
        return "torch", "f32"
    return "native", precision or native.default_precision()  # type: ignore[return-value]


@cache
def _say_once(problem: str) -> None:
    log.warning("%s; PyTorch decodes instead, which is slower", problem)


def make_engine(model: ShortcutLM, engine: str = "auto", precision: str | None = None) -> Engine:
    """The engine for a model. The native one takes torch's number of threads. Raises SettingsError."""
    device = model.embedding.weight.device
    name, resolved = resolve(engine, precision, device)
    if name == "native":
        return NativeEngine(model, precision=resolved)
    return TorchEngine(model, graphs=device.type == "cuda")
