"""The batch command with sound prompts, alone and beside MIDI files, with tiny random checkpoints."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from safetensors.torch import load_file, save_file

from shortcut_gen import generate
from shortcut_gen.checkpoint import CheckpointInfo, save_checkpoint
from shortcut_gen.decoding.sampling import SamplingParams
from shortcut_gen.media import Note, Score
from shortcut_gen.modalities.speech import SpeechTokenizer
from shortcut_gen.network.config import ModelConfig
from shortcut_gen.network.model import ShortcutLM
from shortcut_gen.pipeline import Pipeline, Prompt
from tests.shared.small_models import SMALL, tiny_speech_checkpoint
from tests.shared.sounds import RATE, speechlike

Command = Callable[..., int]


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory, tiny_checkpoint: Path) -> Path:
    """A folder with checkpoints/piano, checkpoints/speech and its codec."""
    folder = tmp_path_factory.mktemp("work")
    shutil.copytree(tiny_checkpoint, folder / "checkpoints" / "piano")
    tiny_speech_checkpoint(folder / "checkpoints" / "speech")
    return folder


@pytest.fixture
def command(checkpoints: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    monkeypatch.chdir(checkpoints)

    def run(*arguments: object) -> int:
        return generate.main([str(argument) for argument in arguments])

    return run


@pytest.fixture
def voice(tmp_path: Path) -> Path:
    path = tmp_path / "voice.wav"
    soundfile.write(path, speechlike(1.5), RATE)
    return path


def lines(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "manifest.jsonl").read_text().splitlines()]


def test_each_variation_has_a_wav_file_and_a_line(command: Command, voice: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert command(voice, "--out", out, "--variations", 2, "--seconds", 0.8, "--prompt-seconds", 1, "--seed", 5) == 0
    records = lines(out)
    assert sorted(path.name for path in out.iterdir()) == sorted(["manifest.jsonl", *(r["wav"] for r in records)])
    assert len(records) == 2
    sounds = []
    for record in records:
        info = soundfile.info(out / record["wav"])
        assert (info.samplerate, info.channels, info.subtype) == (16_000, 1, "PCM_16")
        samples, _ = soundfile.read(out / record["wav"], dtype="float32")
        figures = record["figures"]
        assert len(samples) == pytest.approx(1.8 * RATE)
        assert figures["seconds"] == pytest.approx(1.8)
        assert figures["seam_seconds"] == pytest.approx(1.0)
        assert figures["tokens"] == 80  # 40 frames of two codebooks
        assert figures["peak"] == pytest.approx(np.abs(samples).max(), abs=1e-3)
        assert figures["sample_rate"] == 16_000
        assert record["recording"] == {"sample_rate": RATE, "channels": 1, "seconds": 1.0}
        assert record["midi"] is None
        assert "renderer" not in record
        assert record["checkpoint"]["path"] == "checkpoints/speech"
        sounds.append(samples)
    assert np.array_equal(sounds[0][:RATE], sounds[1][:RATE])
    assert not np.array_equal(sounds[0], sounds[1])


def test_the_batch_makes_what_the_pipeline_makes(command: Command, voice: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert command(voice, "--out", out, "--seconds", 0.5, "--seed", 3, "--batch-size", 1) == 0
    [record] = lines(out)
    params = SamplingParams(seconds=0.5, seed=3, guidance=SpeechTokenizer.usual.guidance)
    made = Pipeline.from_pretrained("checkpoints/speech").continue_prompt(Prompt.from_file(voice), params)
    made.audio().write(tmp_path / "direct.wav")
    assert (tmp_path / "direct.wav").read_bytes() == (out / record["wav"]).read_bytes()


def test_another_decoder_of_the_same_ids_makes_the_sound_anew(
    command: Command, voice: Path, checkpoints: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(checkpoints / "checkpoints", tmp_path / "checkpoints")
    monkeypatch.chdir(tmp_path)
    arguments = (voice, "--out", tmp_path / "out", "--seconds", 0.5)
    assert command(*arguments) == command(*arguments) == 0
    assert len(list((tmp_path / "out").glob("*.wav"))) == 1
    weights = tmp_path / "checkpoints" / "codec-tiny" / "model.safetensors"
    tensors = load_file(weights)
    last = max(name for name in tensors if name.startswith("decoder.") and name.endswith("bias"))
    save_file(tensors | {last: tensors[last] + 0.1}, weights)
    assert command(*arguments) == 0
    first, second = (soundfile.read(path)[0] for path in sorted((tmp_path / "out").glob("*.wav")))
    assert not np.array_equal(first, second)


def test_both_kinds_in_one_run_each_with_its_own_model(command: Command, voice: Path, tmp_path: Path) -> None:
    folder, out = tmp_path / "prompts", tmp_path / "out"
    folder.mkdir()
    notes = tuple(Note(pitch=60 + k, velocity=64, start=0.2 * k, end=0.2 * k + 0.1) for k in range(8))
    Score(notes=notes).write(folder / "b.mid")
    Score(notes=notes).write(folder / "d.wav")  # a kind is told by content, not by name
    for name in ("a.wav", "c.mid"):
        shutil.copy(voice, folder / name)
    every = (folder, "--out", out, "--seconds", 0.5, "--variations", 2, "--batch-size", 3)
    assert command(*every) == 0
    records = {(Path(record["prompt"]).name, record["variation"]): record for record in lines(out)}
    assert len(records) == 8
    for (name, _), record in records.items():
        music = name in ("b.mid", "d.wav")
        assert record["checkpoint"]["path"] == ("checkpoints/piano" if music else "checkpoints/speech")
        assert (record["midi"] is not None) == music
        assert soundfile.info(out / record["wav"]).samplerate == (44_100 if music else 16_000)
    before = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    assert command(*every) == 0
    assert command(*every, "--midi-only") == 0
    assert {path: path.stat().st_mtime_ns for path in out.iterdir()} == before
    gone = records["a.wav", 0]["wav"]
    (out / gone).unlink()
    assert command(*every) == 0
    assert (out / gone).is_file()
    assert len(lines(out)) == 8


def test_what_is_done_needs_no_model(
    command: Command, voice: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = (voice, "--out", tmp_path / "out", "--seconds", 0.1)
    assert command(*run) == 0
    monkeypatch.delattr(Pipeline, "from_pretrained")
    assert command(*run) == 0
    assert "0 made, 1 there already" in capsys.readouterr().err


def test_the_length_is_that_of_the_kind_where_none_is_given(command: Command, voice: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert command(voice, "--out", out) == 0
    [record] = lines(out)
    assert record["settings"]["seconds"] == 10
    assert record["figures"]["tokens"] == 1000


def test_speech_from_nothing(command: Command, tmp_path: Path) -> None:
    out = tmp_path / "out"
    scratch = ("--from-scratch", 2, "--out", out, "--seconds", 0.4, "--checkpoint", "checkpoints/speech")
    assert command(*scratch) == 0
    assert [(record["prompt"], record["figures"]["seam_seconds"]) for record in lines(out)] == [(None, 0.0)] * 2
    assert len({(out / record["wav"]).read_bytes() for record in lines(out)}) == 2


@pytest.mark.parametrize(
    ("rate", "channels", "subtype", "form"),
    [
        (192_000, 1, "PCM_24", "WAV"),
        (8_000, 1, "PCM_U8", "WAV"),
        (48_000, 6, "PCM_16", "FLAC"),
        (44_100, 2, "VORBIS", "OGG"),
        (44_100, 2, "MPEG_LAYER_III", "MP3"),
    ],
)
def test_every_sort_of_recording_is_continued(
    rate: int, channels: int, subtype: str, form: str, command: Command, tmp_path: Path
) -> None:
    path, out = tmp_path / f"voice.{form.lower()}", tmp_path / "out"
    sound = np.repeat(speechlike(1, rate=rate)[:, None], channels, axis=1)
    soundfile.write(path, sound, rate, format=form, subtype=subtype)
    assert command(path, "--out", out, "--seconds", 0.2) == 0
    [record] = lines(out)
    assert record["recording"]["sample_rate"] == rate
    assert record["recording"]["channels"] == channels
    assert record["figures"]["seam_seconds"] == pytest.approx(1, abs=0.1)


def test_what_was_mended_of_a_prompt_is_in_its_record(command: Command, tmp_path: Path) -> None:
    path, out = tmp_path / "voice.wav", tmp_path / "out"
    soundfile.write(path, np.stack([speechlike(2), -0.9 * speechlike(2)], axis=1), RATE)
    path.write_bytes(path.read_bytes()[:100_000])
    assert command(path, "--out", out, "--seconds", 0.2) == 0
    [record] = lines(out)
    cut, channels = record["kept"].split("; ")
    assert cut == "cut short or damaged: 1.6 of 2.0 s can be read"
    assert channels == "the channels cancel each other: the louder, 1 of 2, is used"
    assert record["recording"] == {"sample_rate": RATE, "channels": 2, "seconds": 1.562}


def test_bad_recordings_are_recorded_and_the_rest_goes_on(
    command: Command, voice: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, out = tmp_path / "prompts", tmp_path / "out"
    folder.mkdir()
    shutil.copy(voice, folder / "good.wav")
    soundfile.write(folder / "silent.wav", np.zeros(RATE), RATE)
    soundfile.write(folder / "short.wav", speechlike(0.05), RATE)
    soundfile.write(folder / "long.wav", np.tile(speechlike(1, rate=8000), 601), 8000, subtype="PCM_U8")
    broken = speechlike(1)
    broken[8000] = np.nan
    soundfile.write(folder / "nan.wav", broken, RATE, subtype="FLOAT")
    (folder / "video.wav").write_bytes(b"\0\0\0\x20ftypisom" + bytes(500))
    (folder / "text.wav").write_text("Not a sound.\n" * 50)
    (folder / "empty.wav").write_bytes(b"")
    (folder / "cut.wav").write_bytes(voice.read_bytes()[:30])
    wanted = {
        "silent.wav": "silent",
        "short.wav": "at least 0.5 s",
        "long.wav": "601 s",
        "nan.wav": "no numbers",
        "video.wav": "MP4",
        "text.wav": "is text",
        "empty.wav": "empty",
        "cut.wav": "can be read",
    }
    for _ in range(2):  # tried again, and not recorded twice
        assert command(folder, "--out", out, "--seconds", 0.2, "--variations", 2, "--batch-size", 3) == 1
        records = lines(out)
        failed = {Path(record["prompt"]).name: record["error"] for record in records if "error" in record}
        assert {name: part for name, part in wanted.items() if part not in failed.get(name, "")} == {}
        assert all("\n" not in error and name in error for name, error in failed.items())
        good = [record["wav"] for record in records if "error" not in record]
        assert len(records) == len(wanted) + 2
        assert sorted(path.name for path in out.iterdir()) == sorted([*good, "manifest.jsonl"])
        assert "Traceback" not in capsys.readouterr().err
    assert command(folder / "long.wav", "--out", out, "--seconds", 0.2, "--prompt-seconds", 2) == 0


def test_a_recording_for_the_piano_model_is_one_line(command: Command, voice: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert command(voice, "--out", out, "--checkpoint", "checkpoints/piano") == 1
    [record] = lines(out)
    assert "a MIDI file is needed" in record["error"]


def test_a_model_of_text_is_refused_in_one_line(
    command: Command, voice: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = ModelConfig(**{**SMALL, "vocab_size": 27, "taps": ()})  # type: ignore[arg-type]
    info = CheckpointInfo(model=config, tokenizer="characters", corpus={"name": "none"}, licence="none")
    save_checkpoint(tmp_path / "text", ShortcutLM(config), info)
    for prompts in ([voice], ["--from-scratch", 1]):
        assert command(*prompts, "--out", tmp_path / "out", "--checkpoint", tmp_path / "text") == 2
        assert capsys.readouterr().err.endswith("continues characters; a checkpoint for piano or speech is needed\n")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("damage", ["no codec", "another codec", "no model", "no weights"])
def test_a_codec_or_model_that_is_missing_or_another_ends_in_one_line_before_anything_is_written(
    damage: str,
    command: Command,
    voice: Path,
    checkpoints: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    here = tmp_path / "here"
    shutil.copytree(checkpoints / "checkpoints", here / "checkpoints")
    monkeypatch.chdir(here)
    codec = here / "checkpoints" / "codec-tiny"
    if damage == "no codec":
        shutil.rmtree(codec)
    elif damage == "another codec":
        config = here / "checkpoints" / "speech" / "config.json"
        values = json.loads(config.read_text())
        values["codec"]["sha256"] = "0" * 64
        config.write_text(json.dumps(values))
    elif damage == "no weights":
        (here / "checkpoints" / "speech" / "model.safetensors").unlink()
    else:
        shutil.rmtree(here / "checkpoints" / "speech")
    assert command(voice, "--out", tmp_path / "out") == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    assert not (tmp_path / "out").exists()
