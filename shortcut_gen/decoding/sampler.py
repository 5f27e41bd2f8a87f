"""The only decode loop. It knows ids, a grammar that says which may come next, and nothing else."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from shortcut_gen.decoding.engines import Decoding, Engine, TorchEngine
from shortcut_gen.decoding.sampling import SamplingParams
from shortcut_gen.errors import CheckpointError, SettingsError
from shortcut_gen.modalities.base import Tokenizer
from shortcut_gen.network.model import ShortcutLM

DROPPED = 0.5
"""Share of the window that goes, oldest ids first, when it is full (`python -m benchmarks.slides` measures others)."""
UNIFORMS = 256
"""Random numbers that a stream draws at a time; one by one they come out the same, but cost more than a step."""


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
        self._uniforms: list[float] = []
        self.ids = list(stream.prompt)
        self.grammar = tokenizer.grammar()
        for token in self.ids:
            self.grammar.advance(token)
        self.start_seconds = self.grammar.seconds
        self.made = 0
        self.opening = [] if self.ids else tokenizer.start(self.uniform())
        """What it begins with where there is no prompt; the model chooses the rest."""

    def uniform(self) -> float:
        if not self._uniforms:
            drawn: list[float] = torch.rand(UNIFORMS, generator=self.generator, dtype=torch.float64).tolist()
            self._uniforms = drawn[::-1]
        return self._uniforms.pop()

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

    def __init__(
        self, model: ShortcutLM, tokenizer: Tokenizer, engine: Engine | None = None, dropped: float = DROPPED
    ) -> None:
        """`engine` computes; without one the model does, as it is at every moment. `dropped`: share of a full window
        that goes when it slides. Raises SettingsError."""
        if model.config.vocab_size != tokenizer.vocab_size:
            raise SettingsError(
                f"the model has {model.config.vocab_size} ids but the tokenizer {tokenizer.vocab_size}; they must agree"
            )
        context, frame = model.config.context, tokenizer.frame
        if context < 2 * frame:
            raise SettingsError(f"the model's context is {context} ids; at least two frames of {frame} are needed")
        if not 0 < dropped < 1:
            raise SettingsError(f"dropped is {dropped}; a share of the window between 0 and 1 is needed")
        self.model = model
        self.tokenizer = tokenizer
        self.kept = min(max(1, int(context * (1 - dropped))), context - frame)
        """Ids of a full window that are read again, at most."""
        self.engine = engine or TorchEngine(model)

    def stream(self, streams: Sequence[Stream], params: SamplingParams) -> Iterator[tuple[int | None, ...]]:
        """Yields, again and again, the next id of every stream, None for one that has ended, until all have.

        The window slides without end: when a stream fills the context, its oldest ids are dropped and the rest are
        read again. Close the generator to cancel. Same streams and params, same ids, on the same machine. Raises
        CheckpointError where the weights give no usable logits.
        """
        if not streams:
            return
        rows = [_Row(stream, number, self.tokenizer) for number, stream in enumerate(streams)]
        yield from _open(rows)
        rows = [row for row in rows if not row.ended(params)]
        if not rows:
            return
        decoding = self.engine.decoding(len(rows))
        tokens = self._prefill(rows, decoding, params)
        while True:
            step: list[int | None] = [None] * len(streams)
            ended = False
            for row, token in zip(rows, tokens, strict=True):
                row.take(token)
                step[row.number] = token
                ended = ended or row.ended(params)
            yield tuple(step)
            if ended:
                going = [index for index, row in enumerate(rows) if not row.ended(params)]
                if not going:
                    return
                rows, tokens = [rows[index] for index in going], [tokens[index] for index in going]
                decoding.keep(going)
            tokens = self._next(rows, tokens, decoding, params)

    def _prefill(self, rows: list[_Row], decoding: Decoding, params: SamplingParams) -> list[int]:
        """Read every stream's prompt into its row; the next id of each. Equal prompts are read once."""
        windows = [tuple(self.tokenizer.clip(row.ids, self.model.config.context - 1)) for row in rows]
        firsts = {window: index for index, window in reversed([*enumerate(windows)])}
        read = sorted(firsts.values())
        logits = decoding.read_all(read, [windows[index] for index in read])
        for index, window in enumerate(windows):
            if firsts[window] != index:
                decoding.copy(index, firsts[window])
        with torch.inference_mode():
            logits = logits[[read.index(firsts[window]) for window in windows]]
        masks, uniforms = _draws(rows, params)
        return _checked(self.engine.choose(logits, masks, params, uniforms))

    def _next(self, rows: list[_Row], tokens: list[int], decoding: Decoding, params: SamplingParams) -> list[int]:
        """Feed every row's newest id; the next of each. A full row slides: the oldest ids of its window are dropped
        and the rest read again, the newest id with it."""
        context, lengths = self.model.config.context, decoding.lengths
        masks, uniforms = _draws(rows, params)
        if max(lengths) < context:
            return _checked(decoding.draw(tokens, masks, params, uniforms))
        full = [index for index, length in enumerate(lengths) if length >= context]
        windows = [self.tokenizer.clip(rows[index].ids, self.kept) for index in full]
        chosen = list(tokens)
        if len(full) < len(rows):
            chosen = decoding.draw(tokens, masks, params, uniforms, skipped=full)
        logits = decoding.read_all(full, windows)
        some = self.engine.choose(logits, [masks[i] for i in full], params, [uniforms[i] for i in full])
        for index, token in zip(full, some, strict=True):
            chosen[index] = token
        return _checked(chosen)


def _checked(chosen: list[int]) -> list[int]:
    """Ids that were drawn. Raises CheckpointError where one was not."""
    if min(chosen) < 0:
        raise CheckpointError(
            "the model's weights give logits that are no numbers, or too large; an undamaged checkpoint is needed"
        )
    return chosen


def _draws(rows: list[_Row], params: SamplingParams) -> tuple[list[Tensor | None], list[float]]:
    """What drawing each row's next id takes: the masks of their grammars and their uniform numbers."""
    masks = [row.grammar.allowed() for row in rows]
    return masks, [0.0] * len(rows) if params.temperature == 0 else [row.uniform() for row in rows]


def _open(rows: list[_Row]) -> Iterator[tuple[int | None, ...]]:
    """Give streams without a prompt the ids they begin with."""
    for place in range(max(len(row.opening) for row in rows)):
        step = tuple(row.opening[place] if place < len(row.opening) else None for row in rows)
        for row, token in zip(rows, step, strict=True):
            if token is not None:
                row.take(token)
        yield step
