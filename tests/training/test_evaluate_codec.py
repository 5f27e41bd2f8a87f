"""training.evaluate_codec: figures of a codec whose answers are known, of one in training, and of Opus."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor

from shortcut_gen.codec.folder import CodecInfo, read_codec_info
from shortcut_gen.codec.harmonic.config import HarmonicConfig
from shortcut_gen.codec.harmonic.network import HarmonicNetwork
from shortcut_gen.media import Audio
from tests.shared.small_models import tiny_codec
from tests.shared.sounds import RATE, needs_eval, speechlike, write_speech
from training import evaluate_codec
from training.cards.codec import codec_card
from training.evaluate_codec import find, judge, opus, packet_bytes
from training.scoring.sound import lag

CONFIG = HarmonicConfig(encoder_width=8, width=8, blocks=1, dimension=4, codebooks=4, cardinality=16)


class Pcm:
    """16-bit samples as a codec: a frame is a sample, and each of 4 codebooks adds 4 bits."""

    sample_rate = RATE
    frame_rate = float(RATE)
    cardinality = 16
    num_codebooks = 4

    def encode(self, audio: Audio) -> Tensor:
        whole = np.clip(np.round(audio.samples[0].astype(np.float64) * 32768), -32768, 32767).astype(np.int64) + 32768
        return torch.from_numpy(np.stack([whole >> shift & 15 for shift in (12, 8, 4, 0)]))

    def decode(self, codes: Tensor) -> Audio:
        whole = sum(row << shift for row, shift in zip(codes.numpy(), (12, 8, 4, 0), strict=False)) - 32768
        return Audio((whole[None] / 32768).astype(np.float32), RATE)


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    write_speech(tmp_path / "speech")
    (tmp_path / "speech" / "LICENSE").write_text("not a recording")
    return tmp_path / "speech"


def save_run(folder: Path) -> Path:
    """What training.fit_codec leaves: a run with a random codec."""
    torch.manual_seed(0)
    path = folder / "checkpoints" / "last.ckpt"
    path.parent.mkdir(parents=True)
    state = {"codec": HarmonicNetwork(CONFIG).state_dict()}
    torch.save({"run": {"codec": CONFIG.to_dict()}, "state_dict": state, "step": 3, "seconds": 1.0}, path)
    return folder


@needs_eval
def test_a_codec_without_loss_has_the_best_figures_and_a_coarser_one_worse(recordings: Path) -> None:
    figures = judge(Pcm(), find(recordings), with_opus=True)
    assert figures["files"] == 4
    assert figures["seconds"] == pytest.approx(12.0)
    levels = figures["codebooks"]
    assert list(levels) == ["1", "2", "4"]
    assert [row["kbps"] for row in levels.values()] == [64, 128, 256]
    assert levels["4"]["stoi"] == pytest.approx(1, abs=1e-4)
    assert levels["4"]["pesq"] == pytest.approx(4.64, abs=0.01)
    assert levels["4"]["mel"] == 0
    assert levels["4"]["si_sdr"] > 90
    assert levels["1"]["si_sdr"] < levels["2"]["si_sdr"] < 60
    assert levels["1"]["pesq"] < levels["2"]["pesq"] < 4.64
    assert [row["equal_codes"] for row in levels.values()] == [1, 1, 1]
    assert figures["use"][3] == {"used": 1.0, "perplexity": pytest.approx(16, rel=0.01)}
    assert figures["use"][0]["used"] < 1  # no sample reaches full scale
    assert 3 < figures["opus"]["kbps"] < figures["opus"]["kbps_with_container"] < 12
    assert 0.5 < figures["opus"]["stoi"] < 1
    assert figures["opus"]["most_delay"] < 5


@needs_eval
def test_several_workers_give_the_figures_of_one(recordings: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = judge(Pcm(), find(recordings))
    # Threads in the place of processes, which take many seconds to start.
    monkeypatch.setattr(evaluate_codec, "ProcessPoolExecutor", lambda workers, *_: ThreadPoolExecutor(workers))
    assert judge(Pcm(), find(recordings), workers=2) == one


def test_opus_comes_back_in_time_at_about_six_kilobits() -> None:
    sound = speechlike(4)
    back, whole, packets = opus(sound)
    assert abs(len(back) - len(sound)) <= 1
    assert abs(lag(sound, back)) <= 3
    assert 3 < packets * 8 / 4 / 1000 < 9
    assert packets < whole


def test_packets_of_an_ogg_file_are_counted_without_headers() -> None:
    def page(*segments: int) -> bytes:
        return b"OggS" + bytes(22) + bytes([len(segments), *segments]) + bytes(sum(segments))

    assert packet_bytes(page(19) + page(60) + page(255, 40, 33) + page(12)) == 255 + 40 + 33 + 12


@needs_eval
def test_a_run_under_way_is_judged_and_the_figures_are_written(
    recordings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = save_run(tmp_path / "run")
    out = tmp_path / "figures.json"
    for name in (run, run / "checkpoints" / "last.ckpt"):
        assert evaluate_codec.main([str(name), "--data", str(recordings), "--limit", "2", "--json", str(out)]) == 0
        figures = json.loads(out.read_text())
        assert figures["files"] == 2
        assert list(figures["codebooks"]) == ["1", "2", "4"]
        assert len(figures["use"]) == 4
        said = capsys.readouterr().out
        for level, row in figures["codebooks"].items():
            assert f"{level} codebooks" in said
            assert f"{row['stoi']:.3f}"[:4] in said


def test_a_limit_is_spread_over_the_folder(tmp_path: Path) -> None:
    paths = write_speech(tmp_path, speakers=5, each=2, seconds=0.1)
    assert find(tmp_path) == paths
    assert [path.parts[-3] for path in find(tmp_path, 5)] == ["1", "2", "3", "4", "5"]


BAD = {
    "no folder": (["{run}", "--data", "{folder}/nowhere"], "no such folder"),
    "no recording": (["{run}", "--data", "{folder}/empty"], "no recording there"),
    "no sound": (["{run}", "--data", "{folder}/text"], "bad.flac"),
    "shorter than anything": (["{run}", "--data", "{folder}/none"], "without samples"),
    "limit": (["{run}", "--data", "{folder}/speech", "--limit", "0"], "limit is 0"),
    "not a codec": (["{folder}/other.ckpt", "--data", "{folder}/speech"], "a checkpoint of another kind"),
    "no codec": (["{folder}/lost.ckpt", "--data", "{folder}/speech"], "no such file"),
    "unknown option": (["{run}", "--data", "{folder}/speech", "--opsu"], "opsu"),
}


@pytest.mark.parametrize(("command", "part"), BAD.values(), ids=BAD)
def test_what_cannot_be_takes_one_line(
    recordings: Path, tmp_path: Path, command: list[str], part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("empty", "text", "none"):
        (tmp_path / name).mkdir()
    (tmp_path / "text" / "bad.flac").write_text("no sound at all")
    soundfile.write(tmp_path / "none" / "none.wav", np.empty(0, np.float32), RATE)
    torch.save({"run": {"model": {}}, "state_dict": {}}, tmp_path / "other.ckpt")
    run = save_run(tmp_path / "run")
    assert evaluate_codec.main([word.format(folder=tmp_path, run=run) for word in command]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert part in error


@needs_eval
def test_a_codec_folder_gets_its_figures_and_its_card(recordings: Path, tmp_path: Path) -> None:
    folder = tiny_codec(tmp_path / "codec-tiny")
    command = [str(folder), "--data", str(recordings)]
    assert evaluate_codec.main([*command, "--limit", "1", "--write", "false"]) == 0
    assert read_codec_info(folder).figures == {}
    assert not (folder / "README.md").exists()
    assert evaluate_codec.main([*command, "--limit", "2", "--opus"]) == 0
    info = read_codec_info(folder)
    figures = info.figures["test"]
    assert figures["files"] == 2
    assert set(figures["codebooks"]) == {"1", "2", "4"}
    card = (folder / "README.md").read_text()
    assert card == codec_card("codec-tiny", info)
    for row in figures["codebooks"].values():
        assert f"| {row['stoi']:.3f} |" in card
    assert "Opus" in card
    assert "Apache-2.0" in card
    assert "python -m training.evaluate_codec checkpoints/codec-tiny --data DATA/speech --limit 2 --opus" in card


def test_a_card_tells_data_recipe_and_licences_and_that_nothing_is_measured() -> None:
    info = CodecInfo(
        config=CodecConfig(filters=2, lstm_layers=1, dimension=8, codebooks=4, cardinality=16),
        corpus={"name": "LibriSpeech", "hours": 6.607, "files": 3756},
        recipe={
            "parameters": 1234567,
            "losses": {"mel": 1.0, "adversarial": 3.0, "adversary_from": 1.0},
            "seed": 0,
            "spent": {"steps": 9000},
            "steps": 9000,
            "before": [{"losses": {"mel": 2.0, "adversarial": 3.0}, "spent": {"steps": 4000}}],
        },
        licence="CC BY 4.0 and ours",
    )
    card = codec_card("mine", info)
    for part in (
        "# mine\n",
        "[CC BY 4.0](https://creativecommons.org/licenses/by/4.0/) and ours",
        "1,234,567 parameters",
        "LibriSpeech (6.61 h, 3,756 files).",
        "| losses.mel | 1 |",
        "| steps | 9,000 |",
        "| until step 4,000 | losses.mel 2 |",
        "Not measured yet",
    ):
        assert part in card
    assert "losses.adversarial " not in card  # there was no discriminator
