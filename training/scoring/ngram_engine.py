"""An n-gram model behind the sampler: what counting alone would go on with, drawn as a model's ids are.

It is an engine like any other, so that grammar, settings, seeds and lengths are those of the model it stands beside.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from shortcut_gen.decoding import sampling
from shortcut_gen.decoding.native import Precision
from shortcut_gen.decoding.sampling import Settings
from training.corpus.shards import Split, spread
from training.scoring.counting import TUNED_ON, Counts, Targets, nats_of, tuned

BEFORE = 3
"""Ids that it looks back on, at most."""
COUNTED = 8_000_000
"""Training tokens that are counted, at most; counting them takes about a GB."""


class NgramEngine:
    """Draws from n-grams of a corpus."""

    name = "n-gram"
    precision: Precision = "f32"
    looks = False
    most_rows = 1 << 16
    """As many streams as one likes: none is computed with another."""

    def __init__(
        self, train: Split, validation: Split, vocab_size: int, before: int = BEFORE, counted: int = COUNTED
    ) -> None:
        """Counts pieces spread over the training split, `counted` tokens or so, and tunes on the validation split."""
        back = tuple(range(1, before + 1))
        share = min(1.0, counted / max(train.tokens, 1))
        pieces = [train[place][1] for place in spread(len(train), max(1, int(share * len(train))))]
        known = Targets.of(pieces, back=back)
        held = Targets.of([ids for _, ids in validation], back=back).thinned(TUNED_ON)
        self.vocab_size = vocab_size
        self.before = before
        self.tokens = len(known.ids)
        self._orders = [Counts(known, back[:order], vocab_size) for order in range(before + 1)]
        looked = [counts.look_up(held) for counts in self._orders]
        self._settings = tuned(looked, vocab_size)
        self.nats = nats_of(looked, self._settings, vocab_size)
        """Nats per token of the validation split, on the targets it was tuned on."""

    def shares(self, ids: Sequence[int]) -> NDArray[np.float64]:
        """The probability of each id behind these, (V,)."""
        shares = np.full(self.vocab_size, 1 / self.vocab_size)
        for counts, (discount, strength) in zip(self._orders, self._settings, strict=True):
            found = counts.behind(ids)
            if found is None:
                break  # nor was any longer context seen
            shares = found.mixed(shares, discount, strength)
        return shares

    def logits(self, ids: Sequence[int]) -> Tensor:
        """Their logarithms, (V,)."""
        return torch.from_numpy(np.log(np.maximum(self.shares(ids), 1e-30))).float()

    def decoding(self, batch: int) -> "NgramDecoding":
        """Empty streams."""
        return NgramDecoding(self, batch)

    @torch.inference_mode()
    def choose(
        self, logits: Tensor, masks: Sequence[Tensor | None], params: Settings, uniforms: Sequence[float]
    ) -> list[int]:
        """The next id of each row."""
        return sampling.choose(logits, masks, params, uniforms)


class NgramDecoding:
    """The last ids of some streams."""

    def __init__(self, engine: NgramEngine, batch: int) -> None:
        self._engine = engine
        self._last: list[list[int]] = [[] for _ in range(batch)]
        self.lengths = [0] * batch
        self.piece = self.near = 1 << 30  # nothing is computed that would wait or be far

    def read(self, row: int, tokens: Sequence[int], *, start: int = 0) -> Tensor:
        """Read tokens into a row behind its first `start`. Logits, (1, V)."""
        before = self._last[row] if start else []
        self._last[row] = [*before, *tokens][-self._engine.before :]
        self.lengths[row] = start + len(tokens)
        return self._engine.logits(self._last[row]).unsqueeze(0)

    def read_all(self, rows: Sequence[int], windows: Sequence[Sequence[int]]) -> Tensor:
        """`read` of several rows. Logits, (rows, V)."""
        return torch.cat([self.read(row, window) for row, window in zip(rows, windows, strict=True)])

    def copy(self, row: int, twin: int) -> None:
        """Make a row hold what another holds."""
        self._last[row], self.lengths[row] = list(self._last[twin]), self.lengths[twin]

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with some of the rows alone, in that order."""
        self._last, self.lengths = [self._last[row] for row in rows], [self.lengths[row] for row in rows]

    def step(self, tokens: Sequence[int], rows: Sequence[int] | None = None) -> Tensor:
        """Take one token in each of `rows`, in all where none are named; logits of the next, (rows, V)."""
        rows = range(len(self._last)) if rows is None else rows
        for row, token in zip(rows, tokens, strict=True):
            self._last[row] = [*self._last[row], token][-self._engine.before :]
            self.lengths[row] += 1
        return torch.stack([self._engine.logits(self._last[row]) for row in rows])

    @torch.inference_mode()
    def draw(
        self,
        tokens: Sequence[int],
        masks: Sequence[Tensor | None],
        params: Settings,
        uniforms: Sequence[float],
        rows: Sequence[int] | None = None,
    ) -> list[int]:
        """`step`, and the next id of each row."""
        return sampling.choose(self.step(tokens, rows), masks, params, uniforms)
