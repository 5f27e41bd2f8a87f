"""How well counting does on the tokens that a model is scored on: `python -m training.ngrams --data data/NAME`.

Cross-entropy, in nats per token, of unigrams, bigrams and trigrams counted on the training split and smoothed as
training/scoring/counting.py says, the shortest of all uniform over the ids of the codebook, which a place in a frame
tells. The smoothing's settings are chosen on the validation split, for every order and every codebook. Targets are
those of training.evaluate: all but a piece's first id.

Where ids stand in frames of several codebooks, two kinds of context are tried: `stream`, the ids right before; and
`levels`, the same codebook in the frames before together with the codebook below in this frame. `best` takes for every
codebook whichever did better on the validation split.
"""

import dataclasses
import sys
from collections.abc import Sequence
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
from training.scoring.counting import Targets, contexts, cross_entropies
from training.scoring.likelihood import check_ids
from training.support.command_line import add_data, run

ORDERS = ("unigram", "bigram", "trigram")


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
