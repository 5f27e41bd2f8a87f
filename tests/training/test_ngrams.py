"""training.ngrams: counting, fairly: probabilities that add up, the targets of training.evaluate, tuned elsewhere."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from shortcut_gen.checkpoint import CheckpointInfo, read_info, save_checkpoint, write_info
from shortcut_gen.network.config import ModelConfig
from shortcut_gen.network.model import ShortcutLM
from tests.shared.tiny_runs import CODEC, write_speech
from training import evaluate, ngrams
from training.corpus.shards import Corpus, ShardWriter, write_json
from training.ngrams import figures
from training.scoring.counting import Counts, Targets, cross_entropies

FRAMES = {"train": [900, 300], "validation": [200], "test": [150, 16, 1]}


def targets(pieces: list[list[int]], level: int = 0, codebooks: int = 1) -> Targets:
    return Targets.of([np.array(piece, np.uint16) for piece in pieces], level, codebooks)


@settings(deadline=None)
@given(
    train=st.lists(st.lists(st.integers(0, 5), max_size=30), min_size=1, max_size=4),
    context=st.lists(st.integers(0, 6), max_size=2),
    discount=st.floats(0, 0.97),
    strength=st.floats(0.01, 100),
)
def test_what_may_follow_adds_up_to_one(
    train: list[list[int]], context: list[int], discount: float, strength: float
) -> None:
    every = Targets(np.arange(6), {back: np.full(6, context[-back] if back <= len(context) else -1) for back in (1, 2)})
    probability = np.full(6, 1 / 6)
    for offsets in ((), (1,), (1, 2)):
        looked = Counts(targets(train), offsets, 7).look_up(every)
        probability = looked.mixed(probability, discount, strength)
        assert probability.sum() == pytest.approx(1)
        assert (probability > 0).all()


def test_counts_are_those_of_the_text() -> None:
    counts = Counts(targets([[0, 1, 0, 1, 0, 2], [0, 1, 3]]), (1,), 5)
    looked = counts.look_up(targets([[0, 1], [0, 3], [4, 0]]))
    assert looked.pair.tolist() == [3, 0, 0]
    assert looked.total.tolist() == [4, 4, 0]
    assert looked.kinds.tolist() == [2, 2, 0]


@pytest.mark.parametrize(("level", "codebooks"), [(0, 1), (0, 3), (1, 3), (2, 3)])
def test_targets_are_all_but_a_pieces_first_id(level: int, codebooks: int) -> None:
    pieces = [list(range(12)), [0, 1, 2], [5], []]
    taken = targets(pieces, level, codebooks)
    expected = [(piece, place) for piece in pieces for place in range(1, len(piece)) if place % codebooks == level]
    assert taken.ids.tolist() == [piece[place] for piece, place in expected]
    for back, before in taken.before.items():
        assert before.tolist() == [piece[place - back] if place >= back else -1 for piece, place in expected]


def chain(length: int, seed: int, order: int) -> NDArray[np.uint16]:
    """A Markov chain of that order over 8 ids: each context is followed by one of two ids, 3 to 1."""
    rng = np.random.default_rng(seed)
    out = [0] * order
    for chance in rng.random(length):
        out.append((3 * sum((k + 1) * out[-k - 1] for k in range(order)) + (1 if chance < 0.75 else 4)) % 8)
    return np.array(out, np.uint16)


@pytest.mark.parametrize("order", [1, 2])
def test_a_known_source_is_learnt_to_its_entropy(order: int) -> None:
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    parts = [Targets.of([chain(length, seed, order)], 0, 1) for seed, length in enumerate((20_000, 4000, 4000))]
    nats = [test for _, test in cross_entropies(*parts, (1, 2), 9, 8)]
    assert nats[order:] == pytest.approx([entropy] * (3 - order), abs=0.03)
    assert all(value > entropy + 0.5 for value in nats[:order])


def test_what_was_never_seen_costs_no_more_than_a_blind_guess() -> None:
    rng = np.random.default_rng(0)
    parts = [Targets.of([rng.integers(0, 1000, length).astype(np.uint16)], 0, 1) for length in (300, 3000, 3000)]
    for _, nats in cross_entropies(*parts, (1, 2), 1001, 1000):
        assert nats == pytest.approx(math.log(1000), abs=0.02)


def test_a_codebook_is_guessed_from_those_below_and_from_its_own_past(tmp_path: Path) -> None:
    """The coarse codes walk: only the same codebook a frame before tells of them."""
    result = figures(Corpus.open(write_speech(tmp_path, FRAMES)), codebooks=2)
    assert result["levels"]["bigram"] < result["stream"]["bigram"] - 0.1
    assert result["best"] <= min(result["stream"]["trigram"], result["levels"]["trigram"]) + 0.01
    assert result["best_by_level"] == pytest.approx([math.log(3), math.log(2)], abs=0.12)
    assert result["tokens"] == 2 * (150 + 16 + 1) - 3
    assert result["best"] == pytest.approx(np.average(result["best_by_level"], weights=[164, 167]))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    config = ModelConfig(
        vocab_size=32, context=32, layers=3, width=16, heads=2, feedforward=32, taps=(1,), feature_hidden=8,
        shortcut_heads=2,
    )  # fmt: skip
    info = CheckpointInfo(model=config, tokenizer="speech", codec=CODEC, licence="CC BY 4.0")
    save_checkpoint(tmp_path / "mine", ShortcutLM(config), info, dtype=torch.float32)
    write_speech(tmp_path / "a", FRAMES)
    write_speech(tmp_path / "b", {"train": [200], "test": [30]}, corpus="b")
    return tmp_path


def command(folder: Path, *more: str) -> list[str]:
    return ["--data", str(folder / "a"), *more, "--checkpoint", str(folder / "mine")]


def test_they_stand_beside_the_models_figures(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mine = folder / "mine"
    assert evaluate.main([str(mine), "--data", str(folder / "a")]) == 0
    assert ngrams.main(command(folder)) == 0
    told = read_info(mine).figures["test"]
    assert told["ngrams"]["tokens"] == told["tokens"]
    assert told["ngrams"]["best"] < told["nll"]
    card = (mine / "README.md").read_text()
    for text in ("Guessing blindly is 2.77", f"{told['ngrams']['levels']['trigram']:.4f}", "the best n-grams': "):
        assert text in card
    assert "best      " in capsys.readouterr().out
    assert evaluate.main([str(mine), "--data", str(folder / "a")]) == 0  # scored again on the same targets: they stay
    assert "ngrams" in read_info(mine).figures["test"]
    assert evaluate.main([str(mine), "--data", str(folder / "a"), str(folder / "b")]) == 0
    assert "ngrams" not in read_info(mine).figures["test"]


def test_a_share_of_the_pieces_is_the_same_share(folder: Path) -> None:
    assert evaluate.main([str(folder / "mine"), "--data", str(folder / "a"), "--limit", "2"]) == 0
    assert ngrams.main(command(folder)) == 0
    told = read_info(folder / "mine").figures["test"]
    assert told["ngrams"]["tokens"] == told["tokens"] < 331


def test_piano_is_counted_as_one_stream(tmp_path: Path) -> None:
    splits: dict[str, Any] = {}
    for seed, split in enumerate(("train", "validation", "test")):
        with ShardWriter(tmp_path, f"{split}/shard-00000.npy") as writer:
            writer.add("one", chain(3000, seed, 1))
            splits[split] = {"shards": [writer.close().to_dict()]}
    head = {"format": 1, "corpus": "c", "tokenizer": "piano", "vocab_size": 388, "licence": "CC0", "skipped": []}
    write_json(tmp_path / "manifest.json", {**head, "splits": splits})
    assert ngrams.main(["--data", str(tmp_path)]) == 0
    assert set(figures(Corpus.open(tmp_path))) == {"stream", "best", "tokens", "train_tokens", "corpus"}


def test_what_cannot_be_takes_one_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_speech(folder / "short", {"train": [30], "validation": [], "test": [9]})
    unlike = {"nll": 3.0, "tokens": 7, "corpus": "speech", "pieces": 3}
    for words, part in (
        (command(folder), "has no figures of test to compare with"),
        (["--data", str(folder / "none")], "no prepared corpus"),
        (["--data", str(folder / "a"), "--split", "dev"], "no split 'dev'"),
        (["--data", str(folder / "short")], "its validation split has no piece"),
        (["--data", str(folder / "a"), "--limit", "0"], "limit is 0"),
        ([], "data"),
        (command(folder), "was scored on 7 tokens of speech, the n-grams on 331 of speech; the same are needed"),
    ):
        assert ngrams.main(words) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ")
        assert error.count("\n") == 1
        assert part in error
        if words == command(folder):
            info = read_info(folder / "mine")
            write_info(folder / "mine", dataclasses.replace(info, figures={"test": unlike}))
