"""Score a checkpoint on a split: `python -m training.evaluate checkpoints/NAME --data data/NAME --split test`.

A sliding window scores each token once: the first window of a piece all its tokens, every later one those the windows
before it have not reached, so that each is predicted from at least window - stride tokens where the piece has them.
The first token of a piece, which nothing comes before, is not scored.
"""

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jsonargparse import ArgumentParser

from shortcut_gen.checkpoint import load_checkpoint, write_info
from shortcut_gen.places import Place, Url
from training.cards.model import write_card
from training.corpus.joined import open_corpus
from training.scoring.likelihood import EvaluationSettings, check_ids, figures
from training.support.command_line import add_checkpoint, add_data, device_of, local, run
from training.support.memory import keep_freed_memory


def evaluate(checkpoint: Place, data: Sequence[Path], settings: EvaluationSettings) -> None:
    """Score a checkpoint on a split of a corpus, print the figures and write them into the checkpoint.

    data: folder of the corpus; of several, to score all of them together. A checkpoint at a URL is not written to.
    """
    if settings.threads:
        torch.set_num_threads(settings.threads)
    folder = local(checkpoint)
    loaded = load_checkpoint(folder, device_of(settings.device))
    corpus = open_corpus(data)
    check_ids(corpus, checkpoint, loaded.info)
    split = corpus.split(settings.split)
    result = figures(loaded.model, split, settings, loaded.tokenizer.frame) | {"corpus": corpus.name}
    for key, value in result.items():
        print(f"{key:15} {_plain(value)}")
    if settings.write and isinstance(checkpoint, Url):
        print(f"{checkpoint} is a URL: its figures are printed, and not written into it", file=sys.stderr)
    elif settings.write:
        before = loaded.info.figures.get(settings.split, {})
        if "ngrams" in before and all(before.get(key) == result[key] for key in ("tokens", "corpus")):
            result["ngrams"] = before["ngrams"]  # of training.ngrams, on the same targets
        info = dataclasses.replace(loaded.info, figures=loaded.info.figures | {settings.split: result})
        write_info(folder, info)
        write_card(folder, info)


def _plain(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(map(_plain, value))
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def _parser() -> ArgumentParser:
    parser = ArgumentParser(prog="python -m training.evaluate", description=__doc__, exit_on_error=False)
    add_checkpoint(parser)
    add_data(parser, "to score them together")
    parser.add_class_arguments(EvaluationSettings)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""

    def do(values: dict[str, Any]) -> None:
        checkpoint, data = values.pop("checkpoint"), values.pop("data")
        evaluate(checkpoint, data, EvaluationSettings(**values))

    return run(_parser, do, arguments)


if __name__ == "__main__":
    keep_freed_memory()
    sys.exit(main())
