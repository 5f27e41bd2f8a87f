"""How well counting does on the tokens that a model is scored on: `python -m training.ngrams --data data/NAME`.

Cross-entropy, in nats per token, of unigrams, bigrams and trigrams counted on the training split. An n-gram that is
rare in it leans on the shorter one: p(w|h) = (max(c(h,w) - d, 0) + (a + d·t(h)) · p(w|h')) / (c(h) + a), with t(h) the
number of different ids seen behind h (absolute discounting with a strength beside it, the predictive rule of a
Pitman-Yor process: Teh, 2006, "A hierarchical Bayesian language model based on Pitman-Yor processes", section 3). d and
a are chosen on the validation split, for every order and every codebook. The shortest of all is uniform over the ids
of the codebook, which a place in a frame tells. Targets are those of training.evaluate: all but a piece's first id.

Where ids stand in frames of several codebooks, two kinds of context are tried: `stream`, the ids right before; and
`levels`, the same codebook in the frames before together with the codebook below in this frame. `best` takes for every
codebook whichever did better on the validation split.
"""

import dataclasses
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jsonargparse import ArgumentParser
from numpy.typing import NDArray

from shortcut_gen.checkpoint import read_info, write_info
from shortcut_gen.errors import DataError, SettingsError
from shortcut_gen.modalities import get_tokenizer
from training.cards.model import write_card
from training.corpus.joined import JoinedCorpus, open_corpus
from training.corpus.shards import Corpus, spread
from training.scoring.likelihood import check_ids
from training.support.command_line import add_data, run

ORDERS = ("unigram", "bigram", "trigram")
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
    def of(cls, pieces: Sequence[NDArray[np.uint16]], level: int, codebooks: int) -> "Targets":
        """Those of a level: every id of it but a piece's first id of all."""
        offsets = sorted({offset for kind in contexts(level, codebooks).values() for offset in kind})
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
        settings = _tuned([looked for looked, _ in levels], outcomes)
        out.append(
            (
                _nats([looked for looked, _ in levels], settings, outcomes),
                _nats([looked for _, looked in levels], settings, outcomes),
            )
        )
    return out


def _tuned(looked: list[Looked], outcomes: int) -> list[tuple[float, float]]:
    """Discount and strength of every order, by turns, until no change of one alone helps."""
    settings = [(0.7, 3.0)] * len(looked)  # discount and strength
    grid = [(discount, strength) for discount in DISCOUNTS for strength in STRENGTHS]
    best = np.inf
    while True:
        before = best
        for order in reversed(range(len(looked))):
            tried = [[*settings[:order], pair, *settings[order + 1 :]] for pair in grid]
            scores = [_nats(looked, one, outcomes) for one in tried]
            settings, best = tried[int(np.argmin(scores))], min(scores)
        if best > before - 1e-5:
            return settings


def _nats(looked: list[Looked], settings: list[tuple[float, float]], outcomes: int) -> float:
    probability = np.full(len(looked[0].pair), 1 / outcomes)
    for one, (discount, strength) in zip(looked, settings, strict=True):
        probability = one.mixed(probability, discount, strength)
    return float(-np.log(probability).mean())


def figures(
    corpus: Corpus | JoinedCorpus, split: str = "test", limit: int | None = None, codebooks: int = 1
) -> dict[str, Any]:
    """Cross-entropies of a split, or of so many of its pieces as training.evaluate takes. Raises DataError."""
    parts = {name: corpus.split(name) for name in ("train", "validation", split)}
    pieces = {name: [ids for _, ids in part] for name, part in parts.items()}
    pieces[split] = [parts[split][index][1] for index in spread(len(parts[split]), limit)]
    sums: dict[str, NDArray[np.float64]] = {}
    best, count, by_level = 0.0, 0, []
    for level in range(codebooks):
        train, validation, test = (
            Targets.of(pieces[name], level, codebooks) for name in ("train", "validation", split)
        )
        for name, targets in (("train", train), ("validation", validation), (split, test)):
            if not len(targets.ids):
                raise DataError(f"{corpus.folder}: its {name} split has no piece of two tokens or more; one is needed")
        outcomes = corpus.vocab_size // codebooks
        found = {
            kind: cross_entropies(train, validation, test, offsets, corpus.vocab_size + 1, outcomes)
            for kind, offsets in contexts(level, codebooks).items()
        }
        weight = len(test.ids)
        for kind, pairs in found.items():
            sums[kind] = sums.get(kind, np.zeros(len(ORDERS))) + weight * np.array([nats for _, nats in pairs])
        by_level.append(min(pair for pairs in found.values() for pair in pairs)[1])
        best, count = best + weight * by_level[-1], count + weight
    result: dict[str, Any] = {
        kind: {order: float(total) / count for order, total in zip(ORDERS, totals, strict=True)}
        for kind, totals in sums.items()
    }
    result |= {"best": best / count, "tokens": count, "train_tokens": parts["train"].tokens, "corpus": corpus.name}
    return result | ({"best_by_level": by_level} if codebooks > 1 else {})


def report(data: Sequence[Path], split: str, limit: int | None, checkpoint: Path | None) -> None:
    """Print the figures of a split and write them beside a checkpoint's own. Raises ShortcutGenError."""
    if limit is not None and limit < 1:
        raise SettingsError(f"limit is {limit}; a whole number of at least 1 is needed")
    corpus = open_corpus(data)
    info = read_info(checkpoint) if checkpoint else None
    own: dict[str, Any] = {}
    if checkpoint and info:
        check_ids(corpus, checkpoint, info)
        own = info.figures.get(split, {})
        if "nll" not in own:
            raise DataError(f"{checkpoint} has no figures of {split} to compare with; training.evaluate makes them")
        limit = limit or own["pieces"]
    result = figures(corpus, split, limit, get_tokenizer(corpus.tokenizer, corpus.codec).frame)
    for kind in contexts(0, 2).keys() & result.keys():
        print(f"{kind:8}" + "".join(f"  {order} {nats:.4f}" for order, nats in result[kind].items()))
    print(f"best      {result['best']:.4f} nats per token, {result['tokens']:,} tokens of {corpus.name}, {split}")
    if checkpoint and info:
        if (own["tokens"], own["corpus"]) != (result["tokens"], result["corpus"]):
            raise DataError(
                f"{checkpoint} was scored on {own['tokens']:,} tokens of {own['corpus']}, the n-grams on "
                f"{result['tokens']:,} of {result['corpus']}; the same are needed"
            )
        print(f"model     {own['nll']:.4f} nats per token")
        info = dataclasses.replace(info, figures=info.figures | {split: own | {"ngrams": result}})
        write_info(checkpoint, info)
        write_card(checkpoint, info)


def _parser() -> ArgumentParser:
    parser = ArgumentParser(prog="python -m training.ngrams", description=__doc__, exit_on_error=False)
    add_data(parser, "to score them together")
    parser.add_argument("--split", type=str, default="test", help="Split that is scored.")
    parser.add_argument("--limit", type=int | None, help="Score only so many pieces, as training.evaluate does.")
    parser.add_argument("--checkpoint", type=Path | None, help="Checkpoint whose config.json and card are to tell.")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""

    def do(values: dict[str, Any]) -> None:
        report(values["data"], values["split"], values["limit"], values["checkpoint"])

    return run(_parser, do, arguments)


if __name__ == "__main__":
    sys.exit(main())
