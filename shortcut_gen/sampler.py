"""The only decode loop. It knows ids, a grammar that says which may come next, and nothing else."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from shortcut_gen.cache import DecodeCache
from shortcut_gen.errors import SettingsError
from shortcut_gen.modalities.base import Tokenizer
from shortcut_gen.model import ShortcutLM
from shortcut_gen.sampling import SamplingParams, draw, filter_logits


@dataclass(frozen=True, kw_only=True)
class Stream:
    """One continuation to make: what it goes on from, and which randomness it draws."""

    prompt: tuple[int, ...]
    """Ids to continue, as many as there are; the model reads the last of them that fit. Empty starts from nothing."""
    seed: int = 0
    variation: int = 0
    """Variation k of a seed has its own randomness, the same whatever other streams run beside it."""


class _Row:
    """A stream under way: its ids, its grammar, its randomness and the window the model has read."""

    def __init__(self, stream: Stream, number: int, tokenizer: Tokenizer) -> None:
        self.number = number
        entropy = np.random.SeedSequence([stream.seed, stream.variation]).generate_state(1, np.uint64)
        self.generator = torch.Generator().manual_seed(int(entropy[0] >> 1))
        self.ids = list(stream.prompt)
        self.grammar = tokenizer.grammar()
        for token in self.ids:
            self.grammar.advance(token)
        self.start_seconds = self.grammar.seconds
        self.made = 0
        self.opening = [] if self.ids else tokenizer.start(self.uniform())
        """What it begins with where there is no prompt; the model chooses the rest."""

    def uniform(self) -> float:
        return float(torch.rand((), generator=self.generator, dtype=torch.float64))

    def take(self, token: int) -> None:
        self.ids.append(token)
        self.grammar.advance(token)
        self.made += 1

    def ended(self, params: SamplingParams) -> bool:
        if params.max_tokens is not None and self.made >= params.max_tokens:
            return True
        if params.seconds is None:
            return False
        # A hair less, or the difference of two times could fall short of the length it stands for.
        return self.grammar.seconds - self.start_seconds >= params.seconds - 1e-9


class Sampler:
    """Draws continuations from a model, many side by side, each a pure function of its prompt, seed and variation."""

    def __init__(self, model: ShortcutLM, tokenizer: Tokenizer) -> None:
        if model.config.vocab_size != tokenizer.vocab_size:
            raise SettingsError(
                f"the model has {model.config.vocab_size} ids but the tokenizer {tokenizer.vocab_size}; they must agree"
            )
        context, frame = model.config.context, tokenizer.frame
        if context < 2 * frame:
            raise SettingsError(f"the model's context is {context} ids; at least two frames of {frame} are needed")
        self.model = model
        self.tokenizer = tokenizer

    def stream(self, streams: Sequence[Stream], params: SamplingParams) -> Iterator[tuple[int | None, ...]]:
        """Yields, again and again, the next id of every stream, None for one that has ended, until all have.

        The window slides without end: when a stream fills the context, its oldest half is dropped and the rest is
        read again. Close the generator to cancel. Same streams and params, same ids, on the same machine.
        """
        if not streams:
            return
        rows = [_Row(stream, number, self.tokenizer) for number, stream in enumerate(streams)]
        yield from _open(rows)
        rows = [row for row in rows if not row.ended(params)]
        cache = self._new_cache(len(rows))
        logits = self._prefill(rows, cache)
        while rows:
            tokens = self._choose(logits, rows, params)
            step: list[int | None] = [None] * len(streams)
            for row, token in zip(rows, tokens, strict=True):
                row.take(token)
                step[row.number] = token
            yield tuple(step)
            going = [index for index, row in enumerate(rows) if not row.ended(params)]
            if len(going) < len(rows):
                rows = [rows[index] for index in going]
                cache = cache.take(going)
            if rows:
                logits = self._step(rows, cache)

    def _new_cache(self, batch: int) -> DecodeCache:
        weight = self.model.embedding.weight
        return DecodeCache.create(self.model.config, batch, weight.device, weight.dtype)

    @torch.inference_mode()
    def _prefill(self, rows: list[_Row], cache: DecodeCache) -> Tensor:
        """Read every stream's prompt into its row; logits of the next id, (B, V). Equal prompts are read once."""
        seen: dict[tuple[int, ...], int] = {}
        parts: list[Tensor] = []
        for index, row in enumerate(rows):
            window = tuple(self.tokenizer.clip(row.ids, self.model.config.context - 1))
            if (twin := seen.setdefault(window, index)) != index:
                for block in cache.blocks:
                    block.keys[index], block.values[index] = block.keys[twin], block.values[twin]
                cache.lengths[index] = cache.lengths[twin]
                parts.append(parts[twin])
            else:
                parts.append(self._read(window, cache, index))
        return torch.cat(parts) if parts else torch.empty(0, self.model.config.vocab_size)

    def _read(self, window: Sequence[int], cache: DecodeCache, index: int) -> Tensor:
        """Read a window into a row from its start: alone, so that no other stream changes its numbers. (1, V)."""
        row_cache = cache.row(index)
        tokens = torch.tensor([list(window)], device=self.model.embedding.weight.device)
        logits = self.model(tokens, row_cache)[:, -1]
        cache.lengths[index] = len(window)
        return logits

    @torch.inference_mode()
    def _step(self, rows: list[_Row], cache: DecodeCache) -> Tensor:
        """Feed every row's newest id; logits of the next, (B, V). A full row slides first."""
        context = self.model.config.context
        full = [index for index, length in enumerate(cache.lengths) if length >= context]
        if len(full) == len(rows):
            return torch.cat([self._slide(rows[index], cache, index) for index in full])
        lengths = list(cache.lengths)
        for index in full:
            cache.lengths[index] = 0  # a place for the step to write; the window is read over it below
        tokens = torch.tensor([[row.ids[-1]] for row in rows], device=self.model.embedding.weight.device)
        logits = self.model(tokens, cache)[:, -1]
        cache.lengths = [length + 1 for length in lengths]
        for index in full:
            logits[index] = self._slide(rows[index], cache, index)[0]
        return logits

    def _slide(self, row: _Row, cache: DecodeCache, index: int) -> Tensor:
        """Drop the older half of a full row's window and read the rest again, the newest id with it. (1, V)."""
        return self._read(self.tokenizer.clip(row.ids, max(1, self.model.config.context // 2)), cache, index)

    @torch.inference_mode()
    def _choose(self, logits: Tensor, rows: list[_Row], params: SamplingParams) -> list[int]:
        """The next id of each row, from its logits (B, V), its grammar and its randomness."""
        logits = logits.float().cpu()
        masks = [row.grammar.allowed() for row in rows]
        for index, mask in enumerate(masks):
            if mask is not None:
                logits[index].masked_fill_(~mask, -torch.inf)
        if params.temperature == 0:
            return [int(token) for token in logits.argmax(dim=-1)]
        uniforms = torch.tensor([row.uniform() for row in rows], dtype=torch.float64)
        return [int(token) for token in draw(filter_logits(logits, params), uniforms)]


def _open(rows: list[_Row]) -> Iterator[tuple[int | None, ...]]:
    """Give streams without a prompt the ids they begin with."""
    for place in range(max(len(row.opening) for row in rows)):
        step = tuple(row.opening[place] if place < len(row.opening) else None for row in rows)
        for row, token in zip(rows, step, strict=True):
            if token is not None:
                row.take(token)
        yield step
