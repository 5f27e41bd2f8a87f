"""The study of exact speculation: what the heads' figures mean, and the command."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from shortcut_gen.modalities.piano import PianoTokenizer
from shortcut_gen.network.config import ModelConfig
from shortcut_gen.network.model import ShortcutLM
from tests.shared.small_models import build
from tests.shared.tiny_runs import write_corpus
from training.corpus.shards import Corpus
from training.exit_head import ExitHead, ExitSettings, Kept, gains, judge, main, read, rounds


def kept(chances: list[float]) -> Kept:
    return Kept(np.array(chances), np.array(chances))


def test_rounds_keep_what_their_chances_say() -> None:
    assert rounds([kept([1.0] * 50)], 4, seed=0) == 4
    assert rounds([kept([0.0] * 50)], 4, seed=0) == 0
    assert rounds([kept([1.0, 0.0] * 100)], 4, seed=0) == 1  # each round keeps one guess and is corrected at the next
    half = rounds([kept([0.5] * 4000)], 3, seed=0)
    assert half == pytest.approx(0.5 + 0.25 + 0.125, abs=0.02)


def test_a_gain_is_tokens_over_costs() -> None:
    costs = [
        {"precision": "f32", "step": 2.0, "drafts": {2: 0.1}, "verify": {1: 1.2, 2: 1.3}},
        {"precision": "int8", "step": 1.0, "drafts": {2: 0.2}, "verify": {1: 1.5, 2: 2.0}},
    ]
    found = {(g["precision"], g["drafts"]): g for g in gains(costs, {2: [0.5, 0.8]}, 2)}
    assert found["f32", 2]["gain"] == pytest.approx(1.8 / 1.5)
    assert found["f32", 2]["over_fastest"] == pytest.approx(1.8 / 3.0)
    assert found["int8", 1]["over_fastest"] == found["int8", 1]["gain"] == pytest.approx(1.5 / 1.7)


def test_behind_the_last_block_of_the_baseline_a_head_is_the_model(tmp_path: Path) -> None:
    shape = dict(context=64, layers=2, width=16, heads=2, feedforward=24, taps=())
    model = ShortcutLM(ModelConfig(**shape)).eval()  # type: ignore[arg-type]
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    split = Corpus.open(write_corpus(tmp_path, {"test": [300, 200]})).split("test")
    heads = {2: ExitHead(model, 0), 1: ExitHead(model, 8)}
    judged = judge(model, heads, PianoTokenizer(), split, ExitSettings(windows=4))
    assert all(np.allclose(one.overlap, 1) and np.allclose(one.chance, 1) for one in judged[2])
    other = np.concatenate([one.overlap for one in judged[1]])
    assert (other > 0).all() and (other < 1).any()
    # Over many tokens what is kept is the overlap, be it asked of the distributions or of the tokens that were drawn.
    assert np.concatenate([one.chance for one in judged[1]]).mean() == pytest.approx(other.mean(), abs=0.1)


def test_blocks_hand_on_what_the_model_reads() -> None:
    model = build("shortcut")
    tokens = torch.randint(0, 13, (2, 9))
    logits, seen = read(model, tokens, (2, 4))
    torch.testing.assert_close(logits, model(tokens))
    assert [tuple(value.shape) for value in seen.values()] == [(2, 9, 16)] * 2
    assert not model.blocks[1]._forward_hooks


def test_the_command_prints_its_table_and_writes_json(
    tiny_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_corpus(tmp_path / "data", {"train": [400, 300], "test": [300, 200]})
    common = [str(tiny_checkpoint), "--data", str(data), "--seconds", "0.5", "--windows", "2", "--hidden", "8"]
    out = ["--json", str(tmp_path / "out.json"), "--rounds", "2", "--drafts", "2", "--batch_size", "2"]
    assert main([*common, *out, "--blocks", "[1, 2]"]) == 0
    printed = capsys.readouterr().out
    assert "head behind" in printed and "block 1" in printed and "block 2" in printed
    result = json.loads((tmp_path / "out.json").read_text())
    assert result["trained_on"] > 0 and result["judged_on"] == 2 * 96
    assert [head["block"] for head in result["heads"]] == [1, 2]
    assert all(0 < head["overlap"] <= 1 and 0 <= head["kept"][1] <= 2 for head in result["heads"])
    assert main([*common, "--blocks", "[7]"]) == 2
    assert capsys.readouterr().err == "error: blocks are (7,); numbers from 1 to 2 are needed\n"
