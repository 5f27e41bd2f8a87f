"""What an earlier version wrote opens, and gives what it gave then (tests/golden/README.md)."""

import json
from pathlib import Path

import numpy as np
import pytest

from shortcut_gen import Pipeline, Prompt, SamplingParams
from training.corpus.joined import open_corpus

GOLDEN = Path(__file__).parents[1] / "golden"
IDS = json.loads((GOLDEN / "ids.json").read_text())


@pytest.mark.parametrize("name", IDS)
def test_a_checkpoint_of_an_earlier_version_draws_what_it_drew(name: str) -> None:
    pipeline = Pipeline.from_pretrained(GOLDEN / name, engine="torch")
    made = pipeline.continue_prompt(Prompt.empty(), SamplingParams(seconds=0.6, seed=5))
    assert list(made.ids) == IDS[name]
    assert made.audio().duration > 0


def test_a_corpus_of_an_earlier_version_is_read() -> None:
    corpus = open_corpus(GOLDEN / "corpus")
    corpus.verify(2**20)
    pieces = {split: [ids for _, ids in corpus.split(split)] for split in ("train", "validation", "test")}
    assert {split: [len(ids) for ids in there] for split, there in pieces.items()} == {
        "train": [90, 20],
        "validation": [40],
        "test": [30],
    }
    assert np.concatenate(pieces["train"]).sum() == 29210
