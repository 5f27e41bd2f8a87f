"""What an earlier version wrote opens, and gives what it gave then (tests/golden/README.md)."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from shortcut_gen import Pipeline, Prompt, SamplingParams, generate
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


def test_a_batch_of_an_earlier_version_goes_on_with_what_lacks(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "batch"
    shutil.copytree(GOLDEN / "batch", out)
    monkeypatch.chdir(root)  # the manifest names prompt and checkpoint as they were given
    settings = ["--seconds", "2", "--prompt-seconds", "2", "--midi-only", "--engine", "torch", "--out", str(out)]
    settings += ["--guidance", "0"]  # what music took then where nothing was said
    prompt = ["tests/golden/prompt.mid", "--checkpoint", "tests/golden/shortcut"]
    assert generate.main([*prompt, "--variations", "2", *settings]) == 0
    assert "0 made, 2 there already" in capsys.readouterr().err
    before = {path.name: path.read_bytes() for path in (GOLDEN / "batch").iterdir()}
    assert {path.name: path.read_bytes() for path in out.iterdir() if not path.name.startswith(".")} == before
    assert generate.main([*prompt, "--variations", "3", *settings]) == 0
    assert "1 made, 2 there already" in capsys.readouterr().err
    assert len((out / "manifest.jsonl").read_text().splitlines()) == 3
