"""Judges that are models: what they say of speech, by themselves and by training.evaluate_codec."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from shortcut_gen.codec.folder import read_codec_info
from tests.shared.small_models import tiny_codec
from tests.shared.sounds import RATE, needs_eval, needs_judges, noise, write_speech
from training import evaluate_codec
from training.cards.codec import codec_card
from training.scoring import judges
from training.scoring.judges import JUDGES, ask, dnsmos, rates, text_of, word_errors, words


@pytest.fixture(scope="module")
def spoken(root: Path) -> NDArray[np.float32]:
    """Seconds of a real voice."""
    samples, rate = soundfile.read(root / "ui/examples/speech/1688-142285-0007.ogg", dtype="float32")
    assert rate == RATE
    return np.asarray(samples[: 4 * RATE])


@pytest.mark.parametrize(
    ("heard", "errors"),
    [("a b c", 0), ("a x c", 1), ("a c", 1), ("a b b c", 1), ("", 3), ("x y z w", 4)],
)
def test_word_errors_are_words_put_in_left_out_and_taken_for_others(heard: str, errors: int) -> None:
    assert word_errors(["a", "b", "c"], heard.split()) == errors


def test_a_rate_is_all_errors_by_all_words() -> None:
    """Of the means that a tally makes; long recordings count for more, and a system without words has no rate."""
    assert rates({"stoi": 0.5, "word_errors": 1.5, "words": 10.0}) == {"stoi": 0.5, "wer": 0.15}
    assert rates({"text_word_errors": 4.0, "text_words": 8.0})["text_wer"] == 0.5
    assert rates({"word_errors": float("nan"), "words": float("nan"), "word_errors_missing": 3}) == {}


def test_transcripts_beside_recordings_are_found(tmp_path: Path) -> None:
    (tmp_path / "19-198.trans.txt").write_text("19-198-0000 NORTHANGER ABBEY\n\n19-198-0001 THIS LITTLE WORK\n")
    assert text_of(tmp_path / "19-198-0001.flac") == ["this", "little", "work"]
    assert text_of(tmp_path / "19-198-0002.flac") is None
    assert text_of(tmp_path / "elsewhere" / "19-198-0001.flac") is None


@pytest.mark.parametrize(("judge", "package"), [("words", "pocketsphinx"), ("distillmos", "distillmos")])
def test_without_its_package_a_judge_says_what_to_install(
    judge: str, package: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    assert evaluate_codec.main([str(tmp_path), "--data", str(tmp_path), "--judges", judge]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {package} cannot be imported")
    assert 'pip install "shortcut-gen[judges]"' in error
    assert error.count("\n") == 1


def test_an_unknown_judge_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate_codec.main([str(tmp_path), "--judges", "mos"]) == 2
    error = capsys.readouterr().err
    assert "distillmos" in error
    assert error.count("\n") == 1


@needs_eval
def test_what_judges_say_is_written_beside_the_rest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With judges whose answers are known: only the sounds that came from the codec are at fault."""
    real = [np.abs(soundfile.read(path)[0]).sum() for path in write_speech(tmp_path / "speech")]

    def is_real(samples: NDArray[np.float32]) -> bool:
        return bool(np.isclose(np.abs(samples).sum(), real, rtol=1e-3).any())

    class Voices:
        def embed(self, samples: NDArray[np.float32], rate: int) -> NDArray[np.float32]:
            return np.array([1, 0] if is_real(samples) else [0.6, 0.8], np.float32)

    answers: dict[str, Any] = {
        "check": lambda judges: None,
        "distillmos": lambda samples: 4.25 if is_real(samples) else 2.75,
        "dnsmos": lambda samples: {"dnsmos": 3.5, "dnsmos_signal": 3.75},
        "words": lambda samples: ["one", "two", "three", "four"] if is_real(samples) else ["one", "two", "tree"],
        "_voices": Voices,
    }
    for name, answer in answers.items():
        monkeypatch.setattr(judges, name, answer)
    monkeypatch.setattr(evaluate_codec, "check", answers["check"])
    (tmp_path / "speech/1/7/1-7.trans.txt").write_text("1-7-0000 ONE TWO THREE FOUR FIVE\n")
    folder = tiny_codec(tmp_path / "codec-tiny")
    assert evaluate_codec.main([str(folder), "--data", str(tmp_path / "speech"), "--judges", *JUDGES]) == 0
    said = capsys.readouterr().out
    info = read_codec_info(folder)
    figures = info.figures["test"]
    for level in ("1", "2", "4"):
        row = figures["codebooks"][level]
        assert {name: row[name] for name in ("distillmos", "dnsmos", "wer", "text_wer", "voice")} == {
            "distillmos": 2.75, "dnsmos": 3.5, "wer": 0.5, "text_wer": 0.6, "voice": 0.6,
        }  # fmt: skip
    original = figures["original"]
    assert (original["distillmos"], original["text_wer"]) == (4.25, 0.2)
    assert "wer" not in original
    assert "voice" not in original
    for text in (said, card := (folder / "README.md").read_text()):
        for part in ("DistillMOS", "4.25", "2.75", "50.0%", "60.0%", "20.0%", "0.600"):
            assert part in text
    assert card == codec_card("codec-tiny", info)
    assert "--judges distillmos dnsmos words voice`" in card
    assert "BigCodec" in said  # the published figures stand below, each with its test set
    assert all("LibriSpeech" in line or "Seed" in line for line in said.splitlines() if line.startswith("BigCodec"))


@needs_judges
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_noise_over_a_voice_costs_it_its_quality_and_its_words(spoken: NDArray[np.float32]) -> None:
    found = ask(["distillmos", "dnsmos", "words"], spoken, {"noisy": spoken + noise(4, 0.03), "same": spoken})
    original, noisy, same = (found[name] for name in ("original", "noisy", "same"))
    assert 2 < original["distillmos"] < 5
    assert original["distillmos"] == same["distillmos"]
    assert noisy["distillmos"] < original["distillmos"] - 0.3
    assert noisy["dnsmos"] < original["dnsmos"] - 0.3
    assert same["word_errors"] == 0
    assert noisy["word_errors"] > 0
    assert same["words"] == noisy["words"] > 5
    assert np.isnan(original["words"])
    assert np.isnan(dnsmos(np.zeros(0, np.float32))["dnsmos"])


@needs_judges
@pytest.mark.slow
def test_words_do_not_depend_on_what_was_heard_before(spoken: NDArray[np.float32]) -> None:
    first = words(spoken)
    words(noise(3, 0.3))
    assert words(spoken) == first
    assert "afraid" in first
