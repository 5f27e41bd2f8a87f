"""training.evaluate: every token scored once, with the context it is promised; figures in config.json and card."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from shortcut_gen.checkpoint import CheckpointInfo, load_checkpoint, read_info, save_checkpoint
from shortcut_gen.network.config import ModelConfig
from shortcut_gen.network.model import ShortcutLM
from tests.shared.tiny_runs import CODEC, write_corpus, write_speech
from training import evaluate
from training.corpus.shards import Corpus
from training.scoring import likelihood
from training.scoring.likelihood import score, windows

PIECES = {"train": [40], "validation": [40], "test": [150, 33, 32, 2, 1, 0]}
CONFIG = ModelConfig(
    context=32, layers=3, width=16, heads=2, feedforward=32, taps=(1, 2), feature_hidden=16, shortcut_heads=2
)


@pytest.fixture
def model() -> ShortcutLM:
    torch.manual_seed(0)
    return ShortcutLM(CONFIG).eval()


@pytest.fixture
def folder(tmp_path: Path, model: ShortcutLM) -> Path:
    write_corpus(tmp_path / "data", PIECES)
    info = CheckpointInfo(model=CONFIG, tokenizer="piano", licence="CC BY-NC-SA 4.0")
    save_checkpoint(tmp_path / "mine", model, info, dtype=torch.float32)
    return tmp_path


@given(length=st.integers(0, 200), window=st.integers(1, 40), data=st.data())
def test_windows_score_every_token_once_with_enough_before_it(length: int, window: int, data: st.DataObject) -> None:
    stride = data.draw(st.integers(1, window))
    ids = np.arange(length, dtype=np.uint16)
    scored = []
    for part, skip in windows(ids, window, stride):
        assert 2 <= len(part) <= window + 1
        for position in range(skip + 1, len(part)):
            scored.append(int(part[position]))
            assert position >= min(window - stride + 1, scored[-1])
    assert scored == list(range(1, length))


@pytest.mark.parametrize(("batch_size", "logits"), [(1, 2**22), (5, 2**22), (5, 7 * 388), (3, 1)])
def test_the_score_is_that_of_one_token_at_a_time(
    model: ShortcutLM, batch_size: int, logits: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(likelihood, "LOGITS_AT_ONCE", logits)
    rng = np.random.default_rng(0)
    pieces = [rng.integers(0, 388, length).astype(np.uint16) for length in (70, 20, 1)]
    result = score(model, pieces, 32, 8, batch_size, bf16=False)
    losses, hits = [], []
    with torch.inference_mode():
        for ids in pieces:
            for target in range(1, len(ids)):
                # the window that scores it first: the earliest start, a multiple of 8, that reaches it
                start = max(0, math.ceil((target - 32) / 8) * 8)
                context = torch.from_numpy(ids[start:target].astype(np.int64)).unsqueeze(0)
                log_probs = model(context)[0, -1].log_softmax(-1)
                losses.append(-float(log_probs[ids[target]]))
                hits.append(int(log_probs.argmax()) == ids[target])
    assert result["tokens"] == len(losses) == 69 + 19
    assert result["nll"] == pytest.approx(np.mean(losses), abs=1e-5)
    assert result["accuracy"] == pytest.approx(np.mean(hits))


def test_logits_are_made_of_what_is_scored_alone_and_a_few_at_a_time(
    model: ShortcutLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows: list[int] = []
    original = ShortcutLM.logits

    def counted(self: ShortcutLM, states: torch.Tensor) -> torch.Tensor:
        rows.append(states.numel() // states.shape[-1])
        return original(self, states)

    monkeypatch.setattr(ShortcutLM, "logits", counted)
    monkeypatch.setattr(likelihood, "LOGITS_AT_ONCE", 10 * 388)
    pieces = [np.arange(length, dtype=np.uint16) for length in (97, 2, 1)]
    assert score(model, pieces, 32, 16, 4, bf16=False)["tokens"] == sum(rows) == 97
    assert max(rows) == 10


def test_of_ids_that_are_equally_likely_the_first_is_the_likeliest(model: ShortcutLM) -> None:
    """Logits in bf16 are often equal: an id does not become right by being among several."""
    with torch.no_grad():
        model.embedding.weight.zero_()
    pieces = [np.array([5, 0, 7, 0, 9, 9], dtype=np.uint16)]
    assert score(model, pieces, 32, 16, 4, bf16=False)["accuracy"] == pytest.approx(2 / 5)


def test_the_command_prints_and_writes_its_figures(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate.main([str(folder / "mine"), "--data", str(folder / "data"), "--batch_size", "3"]) == 0
    figures = read_info(folder / "mine").figures["test"]
    tokens, notes = 149 + 32 + 31 + 1, 37 + 8 + 8
    assert figures["tokens"] == tokens
    assert figures["nll"] == pytest.approx(math.log(388), abs=0.2)
    assert figures["bits_per_note"] == pytest.approx(figures["nll"] * tokens / math.log(2) / notes)
    assert (figures["window"], figures["stride"], figures["share"], figures["corpus"]) == (32, 16, 1.0, "tiny")
    out = capsys.readouterr().out
    card = (folder / "mine/README.md").read_text()
    for text in (f"{figures['nll']:.4f}", f"{figures['bits_per_note']:.3f}"[:-1]):
        assert text in out
        assert text in card
    assert "--split test --stride 16`" in card


def test_a_share_of_the_pieces_is_said_to_be_one(folder: Path) -> None:
    command = [str(folder / "mine"), "--data", str(folder / "data"), "--stride", "32", "--precision", "bf16"]
    assert evaluate.main([*command, "--limit", "2", "--split", "test"]) == 0
    assert evaluate.main([*command, "--split", "validation"]) == 0
    figures = read_info(folder / "mine").figures
    assert set(figures) == {"test", "validation"}
    assert figures["test"]["pieces"] == 2
    assert figures["test"]["share"] == pytest.approx((33 + 1) / 218)
    assert figures["test"]["precision"] == "bf16"
    assert "--limit 2" in (folder / "mine/README.md").read_text()


BAD = {
    "no checkpoint": (["{folder}/none", "--data", "{folder}/data"], "no config.json there"),
    "no corpus": (["{folder}/mine", "--data", "{folder}/none"], "is no prepared corpus"),
    "no data": (["{folder}/mine"], "required: data"),
    "no such split": (["{folder}/mine", "--data", "{folder}/data", "--split", "tst"], "no split 'tst'"),
    "window": (["{folder}/mine", "--data", "{folder}/data", "--window", "33"], "the model's context of 32"),
    "stride": (["{folder}/mine", "--data", "{folder}/data", "--stride", "33"], "a stride of at most the window"),
    "no stride": (["{folder}/mine", "--data", "{folder}/data", "--stride", "0"], "stride is 0"),
    "unknown option": (["{folder}/mine", "--data", "{folder}/data", "--limitt", "3"], "limitt"),
    "other tokens": (["{folder}/mine", "--data", "{folder}/speech"], "holds speech ids; piano ids are needed"),
    "nothing to score": (["{folder}/mine", "--data", "{folder}/short"], "no token to score"),
}


@pytest.mark.parametrize(("command", "part"), BAD.values(), ids=BAD)
def test_what_cannot_be_takes_one_line(
    folder: Path, command: list[str], part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_corpus(folder / "speech", PIECES, tokenizer="speech")
    write_corpus(folder / "short", {"train": [], "test": [1, 0]})
    assert evaluate.main([word.format(folder=folder) for word in command]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert part in error
    assert read_info(folder / "mine").figures == {}


# Speech ---------------------------------------------------------------------------------------------------------------

FRAMES = {"train": [60], "validation": [30], "test": [75, 16, 1]}


@pytest.fixture
def speaking(tmp_path: Path) -> Path:
    """A checkpoint `mine` for speech, and two corpora, `a` and `b`."""
    torch.manual_seed(0)
    config = ModelConfig(**{**CONFIG.to_dict(), "vocab_size": 32})
    info = CheckpointInfo(model=config, tokenizer="speech", codec=CODEC, licence="CC BY 4.0 and Apache-2.0")
    save_checkpoint(tmp_path / "mine", ShortcutLM(config), info, dtype=torch.float32)
    write_speech(tmp_path / "a", FRAMES)
    write_speech(tmp_path / "b", {"train": [9], "test": [12]}, corpus="b")
    return tmp_path


@pytest.mark.parametrize("batch_size", [1, 4])
def test_the_score_by_codebook(speaking: Path, batch_size: int) -> None:
    model = load_checkpoint(speaking / "mine").model
    pieces = [ids for _, ids in Corpus.open(speaking / "a").split("test")]
    result = score(model, pieces, 32, 8, batch_size, bf16=False, frame=2)
    losses: list[list[float]] = [[], []]
    with torch.inference_mode():
        for ids in pieces:
            for target in range(1, len(ids)):
                start = max(0, math.ceil((target - 32) / 8) * 8)
                log_probs = model(torch.from_numpy(ids[start:target].astype(np.int64))[None])[0, -1].log_softmax(-1)
                losses[target % 2].append(-float(log_probs[ids[target]]))
    assert result["nll_by_level"] == pytest.approx([np.mean(level) for level in losses], abs=1e-5)
    assert result["nll"] == pytest.approx(np.mean(losses[0] + losses[1]), abs=1e-5)


def test_speech_is_scored_by_the_second(speaking: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate.main([str(speaking / "mine"), "--data", str(speaking / "a")]) == 0
    figures = read_info(speaking / "mine").figures["test"]
    assert (figures["tokens"], figures["frames"], figures["seconds"]) == (149 + 31 + 1, 92, 1.8)
    assert figures["bits_per_second"] == pytest.approx(figures["nll"] * 181 / math.log(2) / 1.84)
    assert "notes" not in figures
    card = (speaking / "mine/README.md").read_text()
    for text in (
        "the 2 coarsest codebooks, interleaved, 16 entries each; 50 frames and 100 tokens a second",
        "compare neither with the paper's",
        "| bits per second |",
        f"NLL by codebook on test, coarsest first: {figures['nll_by_level'][0]:.4f}",
        "[CC BY 4.0](https://creativecommons.org/licenses/by/4.0/) and Apache-2.0",
    ):
        assert text in card
    assert "bits_per_second" in capsys.readouterr().out


@pytest.mark.parametrize("repeated", [False, True])
def test_several_corpora_are_scored_together(speaking: Path, repeated: bool) -> None:
    folders = [str(speaking / name) for name in "ab"]
    data = ["--data", folders[0], *(["--data"] if repeated else []), folders[1]]
    assert evaluate.main([str(speaking / "mine"), *data]) == 0
    figures = read_info(speaking / "mine").figures["test"]
    assert (figures["tokens"], figures["corpus"]) == (181 + 23, "speech + b")
    assert "--data data/NAME data/NAME --split" in (speaking / "mine/README.md").read_text()


def test_speech_that_cannot_be_scored(speaking: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_speech(speaking / "other", FRAMES, {**CODEC, "sha256": "f" * 64})
    write_corpus(speaking / "piano", PIECES)
    for options, part in (
        (
            ["--data", "{}/other"],
            "speech ids of codec-tiny (ffffffffffff), 2 codebooks; speech ids of codec-tiny (0000",
        ),
        (["--data", "{}/piano"], "holds piano ids; speech ids of codec-tiny"),
        (["--data", "{}/a", "--stride", "5"], "the stride is 5; a multiple of 2"),
        (["--data", "{}/a", "{}/piano"], "the same are needed to join"),
    ):
        assert evaluate.main([str(speaking / "mine"), *(option.format(speaking) for option in options)]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert part in error
