"""Counting what follows what: n-grams of any order, smoothed, their settings chosen on other pieces.

An n-gram that is rare leans on the shorter one: p(w|h) = (max(c(h,w) - d, 0) + (a + d·t(h)) · p(w|h')) / (c(h) + a),
with t(h) the number of different ids seen behind h (absolute discounting with a strength beside it, the predictive rule
of a Pitman-Yor process: Teh, 2006, "A hierarchical Bayesian language model based on Pitman-Yor processes", section 3).
The shortest of all is uniform.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

DISCOUNTS = (0.0, 0.1, 0.25, 0.4, 0.55, 0.7, 0.8, 0.9, 0.97)
STRENGTHS = (0.01, 0.3, 1.0, 3.0, 8.0, 20.0, 50.0, 120.0, 300.0, 1000.0, 10000.0)
TUNED_ON = 50_000
"""Targets of a codebook in the validation split that the discounts are chosen on, at most."""
_NONE = -1
"""The id before a piece."""

Ids = NDArray[np.int64]
Offsets = tuple[int, ...]
"""How far back the ids of a context lie, the one that a shorter context keeps first."""


def contexts(level: int, codebooks: int) -> dict[str, Offsets]:
    """The contexts of a trigram at a level, by kind."""
    kinds: dict[str, Offsets] = {"stream": (1, 2)}
    if codebooks > 1:
        kinds["levels"] = (1, codebooks) if level else (codebooks, 2 * codebooks)
    return kinds


@dataclass(frozen=True)
class Targets:
    """The ids of one level that are to be guessed, and what lies before them."""

    ids: Ids
    """(N,)"""
    before: dict[int, Ids]
    """(N,) by how far back; _NONE where the piece had not begun."""

    @classmethod
    def of(
        cls, pieces: Sequence[NDArray[np.uint16]], level: int = 0, codebooks: int = 1, back: Offsets | None = None
    ) -> "Targets":
        """Those of a level: every id of it but a piece's first id of all. `back`: how far back to look; as far as the
        contexts of a trigram do if not given."""
        offsets = sorted(back or {offset for kind in contexts(level, codebooks).values() for offset in kind})
        ids = [np.empty(0, np.int64)]
        before = {offset: [np.empty(0, np.int64)] for offset in offsets}
        for piece in pieces:
            padded = np.concatenate([np.full(offsets[-1], _NONE, np.int64), piece.astype(np.int64)])
            places = np.arange(level or codebooks, len(piece), codebooks) + offsets[-1]
            ids.append(padded[places])
            for offset in offsets:
                before[offset].append(padded[places - offset])
        return cls(np.concatenate(ids), {offset: np.concatenate(parts) for offset, parts in before.items()})

    def thinned(self, most: int) -> "Targets":
        """At most so many of them, evenly spread."""
        step = -(-len(self.ids) // most) if len(self.ids) else 1
        return Targets(self.ids[::step], {offset: part[::step] for offset, part in self.before.items()})

    def key(self, offsets: Offsets, size: int) -> Ids:
        """One number for each context, (N,); _NONE where part of it lies before the piece."""
        key = np.zeros(len(self.ids), np.int64)
        whole = np.ones(len(self.ids), bool)
        for offset in offsets:
            key = key * size + self.before[offset]
            whole &= self.before[offset] != _NONE
        return np.where(whole, key, _NONE)


@dataclass(frozen=True)
class Looked:
    """What an order's counts say of some targets, (N,) each."""

    pair: NDArray[np.float64]
    """c(h,w)"""
    total: NDArray[np.float64]
    """c(h); 0 where the context was never seen."""
    kinds: NDArray[np.float64]
    """t(h)"""

    def mixed(self, lower: NDArray[np.float64], discount: float, strength: float) -> NDArray[np.float64]:
        """p(w|h) from p(w|h'); that itself where the context was never seen."""
        taken = np.maximum(self.pair - discount, 0.0)
        left = strength + discount * self.kinds
        return np.where(self.total > 0, (taken + left * lower) / (self.total + strength), lower)


class Counts:
    """How often each id follows each context."""

    def __init__(self, targets: Targets, offsets: Offsets, size: int) -> None:
        self._offsets, self._size = offsets, size
        key = targets.key(offsets, size)
        seen = key != _NONE
        self._pairs, self._pair_counts = np.unique(key[seen] * size + targets.ids[seen], return_counts=True)
        self._contexts, starts = np.unique(self._pairs // size, return_index=True)
        ends = np.append(starts[1:], len(self._pairs))
        sums = np.concatenate([[0], np.cumsum(self._pair_counts)])
        self._totals, self._kinds = sums[ends] - sums[starts], ends - starts

    def look_up(self, targets: Targets) -> Looked:
        """The counts that guess these targets."""
        key = targets.key(self._offsets, self._size)
        pair = np.where(key == _NONE, _NONE, key * self._size + targets.ids)
        return Looked(
            _found(self._pairs, self._pair_counts, pair),
            _found(self._contexts, self._totals, key),
            _found(self._contexts, self._kinds, key),
        )

    def behind(self, before: Sequence[int]) -> Looked | None:
        """The counts that guess what follows these ids, the latest last, for every id below size: (size,) each; None
        where the context was never seen."""
        key = 0
        for offset in self._offsets:
            if offset > len(before):
                return None
            key = key * self._size + int(before[-offset])
        first, last = np.searchsorted(self._pairs, (key * self._size, (key + 1) * self._size))
        if first == last:
            return None
        pair = np.zeros(self._size)
        pair[self._pairs[first:last] - key * self._size] = self._pair_counts[first:last]
        return Looked(pair, np.full(1, pair.sum()), np.full(1, float(last - first)))


def _found(keys: Ids, values: Ids, wanted: Ids) -> NDArray[np.float64]:
    """The values of sorted keys, 0 for keys that are not there."""
    if not len(keys):
        return np.zeros(len(wanted))
    places = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[places] == wanted, values[places], 0).astype(np.float64)


def cross_entropies(
    train: Targets, validation: Targets, test: Targets, offsets: Offsets, size: int, outcomes: int
) -> list[tuple[float, float]]:
    """For uni-, bi- and trigram: nats per target of the validation's and of the test's targets.

    size is a number above every id; outcomes, how many ids a target may be.
    """
    validation = validation.thinned(TUNED_ON)
    levels: list[tuple[Looked, Looked]] = []
    out = []
    for order in range(len(offsets) + 1):
        counts = Counts(train, offsets[:order], size)
        levels.append((counts.look_up(validation), counts.look_up(test)))
        settings = tuned([looked for looked, _ in levels], outcomes)
        out.append(
            (
                nats_of([looked for looked, _ in levels], settings, outcomes),
                nats_of([looked for _, looked in levels], settings, outcomes),
            )
        )
    return out


def tuned(looked: list[Looked], outcomes: int) -> list[tuple[float, float]]:
    """Discount and strength of every order, by turns, until no change of one alone helps."""
    settings = [(0.7, 3.0)] * len(looked)  # discount and strength
    grid = [(discount, strength) for discount in DISCOUNTS for strength in STRENGTHS]
    best = np.inf
    while True:
        before = best
        for order in reversed(range(len(looked))):
            tried = [[*settings[:order], pair, *settings[order + 1 :]] for pair in grid]
            scores = [nats_of(looked, one, outcomes) for one in tried]
            settings, best = tried[int(np.argmin(scores))], min(scores)
        if best > before - 1e-5:
            return settings


def nats_of(looked: list[Looked], settings: list[tuple[float, float]], outcomes: int) -> float:
    """Nats per target of what the orders say together, the shortest first."""
    probability = np.full(len(looked[0].pair), 1 / outcomes)
    for one, (discount, strength) in zip(looked, settings, strict=True):
        probability = one.mixed(probability, discount, strength)
    return float(-np.log(probability).mean())
