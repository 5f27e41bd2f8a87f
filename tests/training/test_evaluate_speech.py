"""training.evaluate_speech: what is measured of a continuation has known answers; the command, end to end."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from shortcut_gen.errors import DataError
from tests.shared.small_models import tiny_speech_checkpoint
from tests.shared.sounds import RATE, needs_eval, sawtooth, speechlike, write_speech
from training import evaluate_speech
from training.scoring.continuations import CODED, MADE, REAL, Take, compare, faults, limits, measure, real_takes, spread
from training.scoring.spectrograms import draw, spectrogram


class PitchVoices:
    """An embedding that tells voices by their median pitch alone; silence has none."""

    def embed(self, samples: NDArray[np.float32], rate: int) -> NDArray[np.float32] | None:
        from training.scoring.sound import pitches

        found = pitches(samples, rate)
        if not len(found):
            return None
        angle = math.log2(float(np.median(found)) / 75)
        return np.array([math.cos(angle), math.sin(angle), *[0.0] * 254], np.float32)


def take(start: NDArray[np.float32], following: NDArray[np.float32], speaker: str = "1") -> Take:
    sound = np.concatenate([start, following])
    return Take(path=Path(f"{speaker}.flac"), speaker=speaker, sound=sound, seam=len(start) / RATE)


def test_takes_come_from_every_speaker_in_turn_and_are_long_enough(tmp_path: Path) -> None:
    write_speech(tmp_path, speakers=3, each=3, seconds=6)
    write_speech(tmp_path / "9", speakers=1, each=1, seconds=2)  # too short
    found = real_takes(tmp_path, 5, 2.0, 3.5)
    assert [t.speaker for t in found] == ["1", "2", "3", "1", "2"]
    assert len({t.path for t in found}) == 5
    assert all(len(t.start) == 2 * RATE and len(t.following) == 3.5 * RATE for t in found)
    assert len(real_takes(tmp_path, 99, 2.0, 3.5)) == 9
    with pytest.raises(DataError, match="fewer than two speakers with recordings of 13 s"):
        real_takes(tmp_path, 5, 10.0, 5.0)


def test_files_without_folders_are_a_speaker_each(tmp_path: Path) -> None:
    for name in "ab":
        soundfile.write(tmp_path / f"{name}.wav", speechlike(5), RATE)
    assert [t.speaker for t in real_takes(tmp_path, 2, 1.0, 4.0)] == ["a", "b"]


def test_more_of_the_same_measures_as_the_same() -> None:
    sound = speechlike(8)
    row = measure(take(sound[: 4 * RATE], sound[4 * RATE :]))
    assert row["silence"] < 0.4
    assert row["level_change"] == pytest.approx(0, abs=1)
    assert row["pitch"] == pytest.approx(120, rel=0.08)
    assert row["pitch_change"] < 1
    assert row["clipped"] == 0
    assert row["seam_flux"] < 100


def test_silence_after_a_prompt_is_seen_as_such() -> None:
    row = measure(take(speechlike(4), np.zeros(3 * RATE, np.float32)))
    assert row["silence"] == 1
    assert row["longest_silence"] == pytest.approx(3)
    assert math.isnan(row["level_change"])
    assert math.isnan(row["pitch"])
    assert row["voiced"] == 0


def test_a_louder_a_higher_and_a_clipped_voice_and_a_click() -> None:
    start, same = speechlike(4), speechlike(4, seed=1)
    assert measure(take(start, 0.5 * same))["level_change"] == pytest.approx(-6, abs=1)
    assert measure(take(sawtooth(120, 2), sawtooth(240, 2)))["pitch_change"] == pytest.approx(12, abs=0.1)
    assert measure(take(start, np.clip(20 * same, -1, 1)))["clipped"] > 0.1
    clicked = same.copy()
    clicked[:3] = [0.9, -0.9, 0.9]
    assert measure(take(start, clicked))["seam_flux"] == 100


def test_the_range_of_a_pitch_is_in_semitones() -> None:
    low, high = sawtooth(100, 2), sawtooth(200, 2)
    assert measure(take(low, np.concatenate([low, high])))["pitch_range"] == pytest.approx(12, abs=0.3)


def test_a_voice_is_held_against_its_own_and_others() -> None:
    def sounds(hertz: float, seed: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        return speechlike(3, hertz, seed), speechlike(3, hertz, seed + 50)

    real = [take(*sounds(hertz, seed), speaker) for speaker, hertz in (("1", 100), ("2", 250)) for seed in (0, 1)]
    made = [
        real[0],
        take(real[1].start, speechlike(3, 250)),  # turns into the other speaker
        real[2],
        take(real[3].start, np.zeros(3 * RATE, np.float32)),
    ]
    rows, pairs = compare({MADE: made, CODED: real, REAL: real}, PitchVoices())  # type: ignore[arg-type]
    assert [row["nearest"] for row in rows[REAL]] == [1, 1, 1, 1]
    assert [row["nearest"] for row in rows[MADE]] == [1, 0, 1, 0]
    assert rows[MADE][0]["similarity"] == pytest.approx(1, abs=0.02)
    assert rows[MADE][1]["similarity"] == pytest.approx(pairs["another speaker"]["mean"], abs=0.2)
    assert math.isnan(rows[MADE][3]["similarity"])
    assert pairs["same speaker, another recording"]["mean"] > 0.95 > pairs["another speaker"]["mean"]
    assert pairs["speakers"] == 2
    bounds = limits(rows[CODED], pairs)
    found = [faults(row, bounds) for row in rows[MADE]]
    assert found[0] == found[2] == []
    assert {"another voice", "another pitch"} <= set(found[1])
    assert {"another voice", "silent", "another loudness"} <= set(found[3])


def test_a_spread_leaves_out_what_is_no_number() -> None:
    assert spread([1.0, 2.0, 3.0, math.nan]) == {
        "mean": 2.0,
        "low": pytest.approx(1.1),
        "high": pytest.approx(2.9),
        "count": 3,
    }
    assert spread([math.nan])["count"] == 0


def test_a_spectrogram_has_a_tone_at_its_place_and_level() -> None:
    tone = np.sin(2 * np.pi * 1000 * np.arange(RATE) / RATE).astype(np.float32)
    levels = spectrogram(tone)
    assert levels[:, 50].argmax() == 32
    assert levels[32, 50] == pytest.approx(0, abs=0.1)
    assert spectrogram(np.zeros(RATE, np.float32)).max() == -120


def test_pictures_have_a_row_for_each_pair(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "speech.png"
    draw([(speechlike(3), speechlike(2), 1.0, "one"), (speechlike(2), np.zeros(RATE, np.float32), 1.0, "two")], path)
    assert path.read_bytes().startswith(b"\x89PNG")


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    write_speech(tmp_path / "speech", speakers=2, each=2, seconds=4.5)
    return tmp_path / "speech"


@needs_eval
def test_the_command_continues_measures_writes_and_draws(
    recordings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # A judge that says how long a sound is: it hears what follows the prompts and nothing else.
    monkeypatch.setattr(evaluate_speech, "check", lambda judges: None)
    monkeypatch.setattr(evaluate_speech, "opinions", lambda judges, sound: dict.fromkeys(judges, len(sound) / RATE))
    checkpoint = tiny_speech_checkpoint(tmp_path / "checkpoints" / "speech")
    out, picture, sounds = tmp_path / "figures.json", tmp_path / "speech.png", tmp_path / "sounds"
    command = [str(checkpoint), "--data", str(recordings), "--prompts", "3", "--prompt_seconds", "1", "--seconds", "3"]
    command += ["--json", str(out), "--plot", str(picture), "--out", str(sounds)]
    command += ["--judges", "distillmos"]
    assert evaluate_speech.main(command) == 0
    figures = json.loads(out.read_text())
    assert figures["takes"] == 3
    assert figures["pairs"]["speakers"] == 2
    assert set(figures["systems"]) == {MADE, CODED, REAL}
    assert figures["systems"][REAL]["clipped"]["mean"] == 0
    assert figures["settings"]["prompt_seconds"] == 1
    assert 0 <= figures["faulty"] <= 3
    said = capsys.readouterr().out
    assert all(rows["distillmos"]["mean"] == pytest.approx(3.0) for rows in figures["systems"].values())
    for key, label, _ in evaluate_speech.ROWS:
        assert (label in said) is not key.startswith("dnsmos")
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert len(list(sounds.iterdir())) == 3
    for path in sounds.iterdir():
        info = soundfile.info(path)
        assert (info.samplerate, info.duration) == (RATE, pytest.approx(4.0))


def test_a_third_of_the_pictures_are_of_the_worst() -> None:
    rows = [{"similarity": 1 - 0.05 * k} for k in range(12)]
    found: list[list[str]] = [[] for _ in rows]
    found[3] = ["a click", "silent"]
    order = evaluate_speech.chosen(rows, found)
    assert order[:2] == [0, 1]
    assert order[-2:] == [11, 3]
    assert len(set(order)) == 6
    assert evaluate_speech.chosen(rows[:4], found[:4]) == [0, 1, 2, 3]


BAD = {
    "no folder": (["{folder}/checkpoints/speech", "--data", "{folder}/nowhere"], "no such folder"),
    "short recordings": (["{folder}/checkpoints/speech", "--data", "{folder}/speech"], "of 8 s; at least two"),
    "no checkpoint": (["{folder}/lost", "--data", "{folder}/speech"], "no config.json"),
    "notes": (["{piano}", "--data", "{folder}/speech", "--prompt_seconds", "1"], "one for speech is needed"),
    "prompts": (["{folder}/checkpoints/speech", "--data", "{folder}/speech", "--prompts", "0"], "prompts is 0"),
    "seconds": (["{folder}/checkpoints/speech", "--data", "{folder}/speech", "--seconds", "0"], "seconds is 0"),
}


@pytest.mark.parametrize(("command", "part"), BAD.values(), ids=BAD)
def test_what_cannot_be_takes_one_line(
    recordings: Path,
    tmp_path: Path,
    tiny_checkpoint: Path,
    command: list[str],
    part: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    tiny_speech_checkpoint(tmp_path / "checkpoints" / "speech")
    assert evaluate_speech.main([word.format(folder=tmp_path, piano=tiny_checkpoint) for word in command]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert part in error
