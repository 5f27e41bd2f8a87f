"""The decode loop. It knows ids, a grammar that says which may come next, and nothing else; shared.py plays its rows
beside those of other requests."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from shortcut_gen.decoding.depth import DepthLog, Seen, surprises
from shortcut_gen.decoding.engines import Decoding, Engine, Looking, TorchEngine
from shortcut_gen.decoding.guidance import GuidedDecoding
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
    depth: DepthLog | None = field(default=None, compare=False)
    """Where the depth of its ids is written before each of them is given; no id changes by that. Of an engine that
    cannot look (`Engine.looks`), all are NaN."""


class Row:
    """A stream under way: its ids, its grammar, its randomness and how it is drawn. Nothing of it is shared."""

    def __init__(self, stream: Stream, number: int, params: SamplingParams, tokenizer: Tokenizer) -> None:
        self.number = number
        """Its place among the streams that were asked for together."""
        self.params = params
        self.depth = stream.depth
        self._tokenizer = tokenizer
        entropy = np.random.SeedSequence([stream.seed, stream.variation]).generate_state(1, np.uint64)
        self.generator = torch.Generator().manual_seed(int(entropy[0] >> 1))
        self._uniforms: list[float] = []
        self.ids = list(stream.prompt)
        self.grammar = tokenizer.grammar()
        for token in self.ids:
            self.grammar.advance(token)
        self.start_seconds = self.grammar.seconds
        self.made = 0
        self.read = False
        """Whether the model has read a window of it."""
        self.guidance = params.guidance if self.ids else 0.0
        """Of what it is drawn from; without a prompt there is nothing to hold to."""
        self.opening = [] if self.ids else tokenizer.start(self.uniform())
        """What it begins with where there is no prompt; the model chooses the rest."""

    def uniform(self) -> float:
        """The next of its random numbers, in [0, 1)."""
        if not self._uniforms:
            drawn: list[float] = torch.rand(UNIFORMS, generator=self.generator, dtype=torch.float64).tolist()
            self._uniforms = drawn[::-1]
        return self._uniforms.pop()

    def drawing(self) -> float:
        """The uniform number to draw its next id with; any where the likeliest is taken."""
        return 0.0 if self.params.temperature == 0 else self.uniform()

    def window(self, context: int, kept: int) -> list[int]:
        """What the model reads before the first id, one less than it can hold, or once its window is full: the newest
        `kept` ids of it."""
        return self._tokenizer.clip(self.ids, kept if self.read else context - 1)

    def blind(self, window: Sequence[int]) -> list[int]:
        """What its twin reads where it reads `window` itself (guidance.py): the last moments of the prompt; half of the
        window where that slid, and is no prompt's any more."""
        most = max(self._tokenizer.usual.blind, len(window) // 2 if self.read else 0)
        return self._tokenizer.clip(window, most) or list(window)

    def note(self, seen: Seen, place: int) -> None:
        """Write down what was seen when its next id was drawn, at that place among the rows that were read."""
        if self.depth is not None and seen.surprise is not None:
            self.depth.append(seen.shares[place], float(seen.surprise[place]))

    def take(self, token: int) -> None:
        """Go on by an id."""
        if self.depth is not None and len(self.depth) == self.made:
            self.depth.append(math.nan, math.nan)  # the model did not draw it
        self.ids.append(token)
        self.grammar.advance(token)
        self.made += 1

    @property
    def ended(self) -> bool:
        """Whether it has the length that was asked for."""
        params = self.params
        if params.max_tokens is not None and self.made >= params.max_tokens:
            return True
        if params.seconds is None:
            return False
        # A hair less, or the difference of two times could fall short of the length it stands for.
        over = self.grammar.seconds - self.start_seconds - params.seconds + 1e-9
        return over >= (params.ending if params.ending is not None and self._tokenizer.ends else 0.0)


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

    def check(self, params: SamplingParams) -> None:
        """Raises SettingsError where the model does not have as many taps as there are gains, or the engine none."""
        gains, sources = params.tap_gains, self.model.config.sources
        if gains and len(gains) != sources:
            raise SettingsError(f"tap_gains has {len(gains)} numbers; the model has {sources} taps and needs as many")
        if gains and not self.engine.looks:
            raise SettingsError(f"tap_gains is {gains}, but on this device all taps count as trained; none are needed")

    def window(self, ids: Sequence[int], place: int, prompt: int) -> list[int]:
        """What the model has read when it draws the id at `place`, of ids whose first `prompt` were the prompt."""
        context = self.model.config.context
        start = prompt - len(self.tokenizer.clip(ids[:prompt], context - 1))
        while place - start > context:
            full = start + context + 1
            start = full - len(self.tokenizer.clip(ids[:full], self.kept))
        return [int(token) for token in ids[start:place]]

    def stream(self, streams: Sequence[Stream], params: SamplingParams) -> Iterator[tuple[int | None, ...]]:
        """Yields, again and again, the next id of every stream, None for one that has ended, until all have.

        The window slides without end: when a stream fills the context, its oldest ids are dropped and the rest are
        read again. Close the generator to cancel. Same streams and params, same ids, on the same machine. Raises
        CheckpointError where the weights give no usable logits, SettingsError for gains that cannot be.
        """
        self.check(params)
        if not streams:
            return
        rows = [Row(stream, number, params, self.tokenizer) for number, stream in enumerate(streams)]
        yield from _open(rows)
        rows = [row for row in rows if not row.ended]
        if not rows:
            return
        decoding = GuidedDecoding(self.engine, len(rows)) if params.guidance else self.engine.decoding(len(rows))
        for place, row in enumerate(rows):
            look(decoding, place, row)
        tokens = self._prefill(rows, decoding)
        while True:
            step: list[int | None] = [None] * len(streams)
            ended = False
            for row, token in zip(rows, tokens, strict=True):
                row.take(checked(token))
                step[row.number] = token
                ended = ended or row.ended
            yield tuple(step)
            if ended:
                going = [index for index, row in enumerate(rows) if not row.ended]
                if not going:
                    return
                rows, tokens = [rows[index] for index in going], [tokens[index] for index in going]
                decoding.keep(going)
            tokens = self._next(rows, tokens, decoding)

    def _prefill(self, rows: list[Row], decoding: Decoding) -> list[int]:
        """Read every stream's prompt into its row; the next id of each. Equal prompts are read once."""
        windows = [tuple(row.window(self.model.config.context, self.kept)) for row in rows]
        firsts = {window: index for index, window in reversed([*enumerate(windows)])}
        read = sorted(firsts.values())
        for index in read:
            guide(decoding, index, rows[index], windows[index])
        logits = decoding.read_all(read, [windows[index] for index in read])
        for index, window in enumerate(windows):
            rows[index].read = True
            if firsts[window] != index:
                decoding.copy(index, firsts[window])
        return first_ids(self.engine, decoding, logits, rows, [read.index(firsts[window]) for window in windows])

    def _next(self, rows: list[Row], tokens: list[int], decoding: Decoding) -> list[int]:
        """Feed every row's newest id; the next of each. A full row slides: the oldest ids of its window are dropped
        and the rest read again, the newest id with it."""
        context, lengths = self.model.config.context, decoding.lengths
        if max(lengths) < context:
            return next_ids(decoding, tokens, rows)
        full = [index for index, length in enumerate(lengths) if length >= context]
        going = [index for index, length in enumerate(lengths) if length < context]
        chosen: dict[int, int] = {}
        if going:
            some = next_ids(decoding, [tokens[i] for i in going], [rows[i] for i in going], going)
            chosen.update(zip(going, some, strict=True))
        slid = [rows[index] for index in full]
        windows = [row.window(context, self.kept) for row in slid]
        for index, row, window in zip(full, slid, windows, strict=True):
            guide(decoding, index, row, window)
        logits = decoding.read_all(full, windows)
        chosen.update(zip(full, first_ids(self.engine, decoding, logits, slid, range(len(slid))), strict=True))
        return [chosen[index] for index in range(len(rows))]


def look(decoding: Decoding, place: int, row: Row | None) -> None:
    """Have a row of a decoding watched where its depth is asked for, with its own gains; None where a row has left."""
    if not isinstance(decoding, Looking):
        return
    if row is None:
        decoding.look(place, watched=False)
    else:
        decoding.look(place, watched=row.depth is not None, gains=row.params.tap_gains)


def guide(decoding: Decoding, place: int, row: Row, window: Sequence[int]) -> None:
    """Have a row of a decoding guided as it asks to be, from the window on that is read next."""
    if isinstance(decoding, GuidedDecoding):
        twin = row.blind(window) if row.guidance else ()
        decoding.guide(place, row.guidance, twin, len(window), gains=row.params.tap_gains)


def first_ids(
    engine: Engine, decoding: Decoding, logits: Tensor, rows: Sequence[Row], places: Sequence[int]
) -> list[int]:
    """The ids behind windows that were just read, of logits (windows, V): each row's behind the window at its place."""
    seen = _seen(decoding, rows)
    with torch.inference_mode():
        plain = getattr(decoding, "plain", logits)[list(places)].float().cpu() if seen else logits
        totals = plain.logsumexp(dim=-1) if seen else None
        logits = logits[list(places)]
    tokens = engine.choose(logits, *draws(rows))
    if seen and totals is not None:
        surprise = surprises(totals, plain, tokens)
        seen = Seen(seen.shares[list(places)], surprise)
        for number, row in enumerate(rows):
            row.note(seen, number)
    return tokens


def next_ids(
    decoding: Decoding, tokens: Sequence[int], rows: Sequence[Row], places: Sequence[int] | None = None
) -> list[int]:
    """Feed some rows' newest ids; the next of each. places: theirs in the decoding, all of it if not given."""
    chosen = decoding.draw(tokens, *draws(rows), places)
    if seen := _seen(decoding, rows):
        for number, row in enumerate(rows):
            row.note(seen, number)
    return chosen


def _seen(decoding: Decoding, rows: Sequence[Row]) -> Seen | None:
    """What was seen of rows that were just read; None where nobody asks, which costs nothing."""
    for row in rows:
        if row.depth is not None:
            # Asking whether it is `Looking` would take a fifth of a step.
            seen: Seen | None = getattr(decoding, "seen", None)
            return seen
    return None


def checked(token: int) -> int:
    """An id that was drawn. Raises CheckpointError where none was."""
    if token < 0:
        raise CheckpointError(
            "the model's weights give logits that are no numbers, or too large; an undamaged checkpoint is needed"
        )
    return token


def draws(rows: Sequence[Row]) -> tuple[list[Tensor | None], list[SamplingParams], list[float]]:
    """What drawing each row's next id takes: the masks of their grammars, their settings, their uniform numbers."""
    return [row.grammar.allowed() for row in rows], [row.params for row in rows], [row.drawing() for row in rows]


def _open(rows: list[Row]) -> Iterator[tuple[int | None, ...]]:
    """Give streams without a prompt the ids they begin with."""
    for place in range(max(len(row.opening) for row in rows)):
        step = tuple(row.opening[place] if place < len(row.opening) else None for row in rows)
        for row, token in zip(rows, step, strict=True):
            if token is not None:
                row.take(token)
        yield step
