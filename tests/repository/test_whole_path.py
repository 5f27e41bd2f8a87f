"""The paths of README and docs/training.md, from a folder of one's own files to a batch of continuations."""

import json
import shutil
import urllib.error
from pathlib import Path

import pytest
import soundfile
import torch

from shortcut_gen import generate
from tests.shared.small_models import official_weights
from tests.shared.sounds import write_speech
from training import evaluate, export, fit, prepare


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*LeafSpec.*")
def test_from_a_folder_of_midi_files_to_music(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    examples = str(root / "ui" / "examples")
    config = str(root / "training" / "configs" / "tiny.yaml")
    assert prepare.main(["midi-folder", "--source", examples, "--out", "data/mine", "--workers", "1"]) == 0
    assert fit.main(["--config", config, "--data.path", "data/mine", "--name", "mine"]) == 0
    assert export.main(["runs/mine", "checkpoints/mine"]) == 0
    assert evaluate.main(["checkpoints/mine", "--data", "data/mine", "--split", "test"]) == 0
    info = json.loads(Path("checkpoints/mine/config.json").read_text(encoding="utf-8"))
    assert 0 < info["figures"]["test"]["nll"] < 7
    assert Path("checkpoints/mine/README.md").is_file()
    prompt = f"{examples}/satie-gymnopedie.mid"
    batch = [prompt, "--checkpoint", "checkpoints/mine", "--out", "out", "--seconds", "2", "--prompt-seconds", "5"]
    assert generate.main(batch) == 0
    [record] = [json.loads(line) for line in Path("out/manifest.jsonl").read_text().splitlines()]
    assert Path("out", record["wav"]).is_file()
    assert record["figures"]["seconds"] > 5


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*LeafSpec.*")
def test_from_a_folder_of_recordings_to_speech_with_the_official_codec(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a network: its weights, here random ones of its shape, lie in a file."""

    def refuse(*_: object, **__: object) -> None:
        raise urllib.error.URLError("no route")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", refuse)
    monkeypatch.chdir(tmp_path)
    config = str(root / "training" / "configs" / "tiny.yaml")
    weights = official_weights(tmp_path / "elsewhere")
    recordings = write_speech(tmp_path / "voices", speakers=3, each=2, seconds=0.6)
    codec = ["--device", "cpu", "--codec", "encodec_24khz", "--codebooks", "2", "--weights", str(weights)]
    assert prepare.main(["audio-folder", "--source", "voices", "--out", "data/mine", "--workers", "1", *codec]) == 0
    Path("checkpoints").mkdir()
    shutil.copy(weights, "checkpoints")
    fitted = ["--data.path", "data/mine", "--name", "mine", "--model.config.vocab_size", "2048", "--budget.steps", "2"]
    sampled = ["--sample_every", "2", "--sample_seconds", "0.2", "--trainer.val_check_interval", "2"]
    assert fit.main(["--config", config, *fitted, *sampled]) == 0
    [sample] = Path("runs/mine/samples").iterdir()  # of the one speaker held out for validation
    assert soundfile.info(sample).samplerate == 24_000
    assert export.main(["runs/mine", "checkpoints/mine"]) == 0
    batch = [str(recordings[0]), "--checkpoint", "checkpoints/mine", "--out", "out", "--seconds", "0.4"]
    assert generate.main(batch) == 0
    [record] = [json.loads(line) for line in Path("out/manifest.jsonl").read_text().splitlines()]
    made = soundfile.info(Path("out", record["wav"]))
    assert made.samplerate == 24_000
    assert made.duration == pytest.approx(0.6 + 0.4, abs=0.03)
    assert record["figures"]["tokens"] == 2 * 30  # of 75 frames a second, two codebooks
