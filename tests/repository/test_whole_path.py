"""The README's path for one's own music, from a folder of MIDI files to a batch of continuations."""

import json
from pathlib import Path

import pytest

from shortcut_gen import generate
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
