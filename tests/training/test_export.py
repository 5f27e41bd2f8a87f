"""training.export: the folder of a run holds its weights, its recipe and a card that names the licence."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import soundfile
import torch

from shortcut_gen.checkpoint import load_checkpoint, read_info, write_info
from shortcut_gen.codec.encodec import EncodecCodec
from shortcut_gen.codec.finding import open_codec
from shortcut_gen.codec.harmonic.config import HarmonicConfig
from shortcut_gen.codec.harmonic.network import HarmonicNetwork
from tests.shared.small_models import tiny_codec
from tests.shared.tiny_runs import CODEC, arguments, train, write_corpus, write_speech
from training import export, fit
from training.run import start
from training.run.checkpoints import BEST, LAST, read_run_checkpoint

pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec.*")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("export")
    write_corpus(folder / "data", {"train": [400], "validation": [100]})
    train(folder, "plain", "--budget.steps", "4", "--trainer.val_check_interval", "2")
    train(folder, "mean", "--budget.steps", "4", "--model.optimizer.ema", "0.5", "--data.transpose", "1")
    return folder


def weights(state: dict[str, Any]) -> dict[str, torch.Tensor]:
    return {name.removeprefix("model."): value for name, value in state["state_dict"].items()}


@pytest.mark.parametrize(("dtype", "bound"), [("bf16", 2**-8), ("fp16", 2**-10), ("fp32", 0.0)])
def test_the_folder_holds_the_runs_weights(folder: Path, dtype: str, bound: float) -> None:
    target = folder / "checkpoints" / dtype
    assert export.main([str(folder / "runs/plain"), str(target), "--dtype", dtype]) == 0
    assert sorted(path.name for path in target.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    loaded = load_checkpoint(target).model.state_dict()
    for name, value in weights(read_run_checkpoint(folder / "runs/plain" / LAST)).items():
        torch.testing.assert_close(loaded[name], value, rtol=bound, atol=1e-6)


def test_the_recipe_and_the_licence_are_told(folder: Path) -> None:
    assert export.main([str(folder / "runs/plain"), str(folder / "checkpoints/mine")]) == 0
    info = read_info(folder / "checkpoints/mine")
    assert info.tokenizer == "piano"
    assert info.licence == info.corpus["licence"] == "CC BY-NC-SA 4.0"
    assert info.recipe["steps"] == 4
    assert info.recipe["tokens"] == 4 * 4 * 32
    assert info.recipe["optimizer"]["name"] == "adamw"
    card = (folder / "checkpoints/mine/README.md").read_text()
    for text in ("# mine", "CC BY-NC-SA 4.0", "| tokens | 512 |", "| optimizer.lr | 0.003 |", "Not measured", "Limits"):
        assert text in card
    assert str(folder) not in card + json.dumps(info.to_dict())  # nothing of this machine


def test_a_run_can_start_from_a_checkpoint(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Fine-tuning: the weights are taken over, the card says whose they were, and their licence stays."""
    base = folder / "checkpoints/base"
    assert export.main([str(folder / "runs/plain"), str(base), "--dtype", "fp32"]) == 0
    info = read_info(base)
    write_info(base, dataclasses.replace(info, licence="CC BY 4.0"))
    ema = ("--model.optimizer.ema", "0.5")
    run = start.build(arguments(folder, "built", "--init", str(base), *ema))
    for name, value in load_checkpoint(base).model.state_dict().items():
        assert torch.equal(run.task.model.state_dict()[name], value)
    with run.task.averaged() as model:
        assert torch.equal(model.norm.weight, load_checkpoint(base).model.norm.weight)
    train(folder, "tuned", "--budget.steps", "1", "--init", str(base))
    assert export.main([str(folder / "runs/tuned"), str(folder / "checkpoints/tuned")]) == 0
    assert read_info(folder / "checkpoints/tuned").licence == "CC BY 4.0 and CC BY-NC-SA 4.0"
    assert "weights of `base`, trained on tiny" in (folder / "checkpoints/tuned/README.md").read_text()
    capsys.readouterr()
    assert fit.main(arguments(folder, "other", "--init", str(base), "--model.config.width", "32")) == 2
    assert "its model has width 16 and the run's width 32" in capsys.readouterr().err
    assert fit.main(arguments(folder, "other", "--init", str(folder))) == 2
    assert "no config.json there" in capsys.readouterr().err


def test_mean_weights_are_what_is_exported(folder: Path) -> None:
    assert export.main([str(folder / "runs/mean"), str(folder / "checkpoints/mean"), "--dtype", "fp32"]) == 0
    state = read_run_checkpoint(folder / "runs/mean" / LAST)
    loaded = load_checkpoint(folder / "checkpoints/mean").model.state_dict()
    assert torch.equal(loaded["norm.weight"], state["mean_weights"]["norm.weight"])
    assert not torch.equal(loaded["norm.weight"], weights(state)["norm.weight"])
    assert "mean of decay 0.5" in read_info(folder / "checkpoints/mean").recipe["weights"]


def test_the_best_weights_can_be_had(folder: Path) -> None:
    target = folder / "checkpoints/best"
    assert export.main([str(folder / "runs/plain"), str(target), "--which", "best", "--dtype", "fp32"]) == 0
    state = read_run_checkpoint(folder / "runs/plain" / BEST)
    loaded = load_checkpoint(target).model.state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in weights(state).items())
    assert read_info(target).recipe["steps"] == state["global_step"]


def test_what_cannot_be_takes_one_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "runs/broken.ckpt").write_bytes((folder / "runs/plain" / LAST).read_bytes()[:2000])
    (folder / "file").write_text("")
    for command, part in (
        (["none", "x"], "none/checkpoints/last.ckpt: no such file"),
        (["broken.ckpt", "x"], "cannot be read as a run's checkpoint"),
        (["plain", "x", "--which", "worst"], "worst"),
        (["plain", "../file/x"], "cannot be made"),
    ):
        run, target, *rest = command
        assert export.main([str(folder / "runs" / run), str(folder / "checkpoints" / target), *rest]) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ")
        assert error.count("\n") == 1
        assert part in error
        assert not (folder / "checkpoints/x").exists()


def test_a_run_on_speech_says_which_codec(tmp_path: Path) -> None:
    """And a run goes on, without sound, where the codec is not at hand."""
    write_speech(tmp_path / "data", {"train": [100], "validation": [40]})
    options = ("--model.config.vocab_size", "32", "--budget.steps", "2", "--sample_every", "2")
    train(tmp_path, "speech", *options)
    assert not (tmp_path / "runs/speech/samples").exists()
    assert export.main([str(tmp_path / "runs/speech"), str(tmp_path / "mine")]) == 0
    info = read_info(tmp_path / "mine")
    assert (info.tokenizer, info.codec, info.licence) == ("speech", CODEC, "CC BY 4.0")
    assert "codec" not in info.recipe
    assert "compare neither with the paper's" in (tmp_path / "mine/README.md").read_text()
    assert load_checkpoint(tmp_path / "mine").tokenizer.frame == 2


def test_samples_of_speech_are_sound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    codec = tiny_codec(tmp_path / "checkpoints/codec-tiny")
    monkeypatch.chdir(tmp_path)
    settings = EncodecCodec(codec, codebooks=2).identity() | {"codebooks": 2}
    for name in "ab":
        write_speech(tmp_path / name, {"train": [100], "validation": [40]}, settings, corpus=name)
    sampled = ("--sample_every", "4", "--sample_seconds", "0.5", "--trainer.val_check_interval", "2")
    joined = ("--data.path", f"[{tmp_path}/a, {tmp_path}/b]")
    train(tmp_path, "speech", "--model.config.vocab_size", "32", "--budget.steps", "4", *sampled, *joined)
    samples = sorted((tmp_path / "runs/speech/samples").iterdir())
    assert [path.name for path in samples] == [f"step-0000004-{k}.wav" for k in (0, 1)]
    for path in samples:
        assert soundfile.info(path).samplerate == 16_000
        assert soundfile.info(path).duration == pytest.approx(0.5 + 8 / 50)  # half a window of 32 ids before it
    assert export.main([str(tmp_path / "runs/speech"), str(tmp_path / "mine")]) == 0
    assert read_info(tmp_path / "mine").corpus["name"] == "a + b"


def test_a_run_of_a_codec_becomes_a_codec(tmp_path: Path) -> None:
    config = HarmonicConfig(encoder_width=8, width=8, blocks=1, dimension=4, codebooks=4, cardinality=16)
    codec = HarmonicNetwork(config)
    about = {"codec": config.to_dict(), "corpus": {"licence": "CC BY 4.0"}, "parameters": 9}
    path = tmp_path / "run" / LAST
    path.parent.mkdir(parents=True)
    torch.save({"run": about, "state_dict": {"codec": codec.state_dict()}, "step": 5}, path)
    assert export.main([str(tmp_path / "run"), str(tmp_path / "codec-mine")]) == 0
    assert open_codec(tmp_path / "codec-mine").num_codebooks == 4
