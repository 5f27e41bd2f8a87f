"""The speech tab, and the sound that is heard while it is made, without a browser."""

import asyncio
import json
import re
import threading
from collections.abc import Callable
from html import unescape
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile
from starlette.applications import Starlette
from starlette.testclient import TestClient

from shortcut_gen.checkpoint import CheckpointInfo
from shortcut_gen.decoding.sampling import SamplingParams
from shortcut_gen.errors import ShortcutGenError
from shortcut_gen.media import Audio, read_audio
from shortcut_gen.network.config import ModelConfig
from shortcut_gen.pipeline import Prompt
from tests.shared.results import results_of
from tests.shared.small_models import tiny_speech_checkpoint
from tests.shared.tabs import SETTINGS as PIANO
from tests.shared.tabs import token
from ui.__main__ import usable
from ui.app import footer, header
from ui.examples.listing import load_examples
from ui.live import PIECE_BYTES, LiveSound, route
from ui.models import Entry, Models, find_checkpoints
from ui.prompts import NO_PROMPT
from ui.registry import TABS, VOICES
from ui.sessions import Sessions
from ui.speech import SHOWN_SECONDS, SpeechTab

FIRST = load_examples(VOICES)[0].file
SETTINGS = PIANO | {"used": 2.0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("checkpoints")
    tiny_speech_checkpoint(made / "speech")
    return made


@pytest.fixture(scope="module")
def models(folder: Path) -> Models:
    return Models(find_checkpoints(folder)["speech"])


@pytest.fixture
def do(models: Models, sessions: Sessions) -> SpeechTab:
    return SpeechTab(models, sessions)


def page(key: str = "page") -> Any:
    return SimpleNamespace(session_hash=key)


def run(do: SpeechTab, choice: str | None = FIRST, upload: str | None = None, key: str = "page", **changes: Any):  # type: ignore[no-untyped-def]
    return do.run(None, choice, upload, *(SETTINGS | changes).values(), request=page(key))


def wavs(do: SpeechTab) -> list[Path]:
    return results_of(do.sessions, ".wav")


def heard(sound: LiveSound | None) -> np.ndarray:
    assert sound is not None
    data, last = sound.after(0)
    assert last
    return np.frombuffer(data, "<i2") / 32767


def test_what_is_heard_is_the_continuation_sample_for_sample(do: SpeechTab, models: Models) -> None:
    steps = list(run(do, variations=2, guidance=1.5))
    one, two = wavs(do)
    assert [one.name, two.name] == ["reader-3080-seed7-variation-1.wav", "reader-3080-seed7-variation-2.wav"]
    assert (steps[-1][0].count("<audio"), steps[-1][0].count("download=")) == (2, 4)
    assert 'data-rate="16000"' in steps[1][1]
    live = heard(do.sessions.live(token(steps)))
    assert len(live) == 3 * 16000
    # The whole decoded at once, apart from the page: pieces put together leave no gap and no click.
    prompt = Prompt.from_file(VOICES / FIRST, 2.0)
    params = SamplingParams(temperature=1.0, top_p=0.95, seed=7, seconds=3.0, guidance=1.5)
    audio = models.pipeline().continue_prompt(prompt, params).audio()
    assert audio.samples.shape == (1, 5 * 16000)
    assert np.abs(live - audio.samples[0, 2 * 16000 :]).max() < 2e-4
    saved, rate = soundfile.read(one)
    assert (rate, soundfile.info(one).subtype) == (16000, "PCM_16")
    assert np.abs(saved - audio.samples[0]).max() < 2e-4
    assert np.abs(soundfile.read(two)[0][2 * 16000 :] - live).max() > 5e-4


def test_sound_is_there_long_before_the_run_ends(do: SpeechTab) -> None:
    steps = run(do, seconds=20.0)
    first = [next(steps) for _ in range(3)]
    sound = do.sessions.live(token(first))
    assert sound is not None
    data, last = sound.after(0)
    assert 0 < len(data) < 2 * 16000 * 15
    assert not last
    assert "new" in first[-1][0]
    steps.close()
    assert sound.after(0)[1]  # an answer that waits for more ends


def test_a_run_without_a_prompt(do: SpeechTab) -> None:
    steps = list(run(do, choice=NO_PROMPT))
    assert "from-scratch-seed7-variation-1.wav" in steps[-1][0]
    live = heard(do.sessions.live(token(steps)))
    assert len(live) == len(soundfile.read(wavs(do)[0])[0]) == 3 * 16000


def test_stop_keeps_what_is_there(do: SpeechTab) -> None:
    steps = run(do, seconds=20.0, variations=4)
    made = [next(steps) for _ in range(3)]
    assert "Stop keeps" in made[-1][1]
    do.stop(page())
    made += steps
    assert "Stopped." in made[-1][1]
    assert made[-1][0].count("<audio") == 4
    lengths = [soundfile.info(path).frames for path in wavs(do)]
    assert 2 * 16000 < lengths[0] < 15 * 16000
    assert max(lengths) - min(lengths) < 16000  # each goes on at its own pace
    assert len(heard(do.sessions.live(token(made)))) == lengths[0] - 2 * 16000


def test_two_pages_and_two_tabs_do_not_mix(do: SpeechTab) -> None:
    one, two = run(do, key="one", seconds=4.0), run(do, key="two", seed=99)
    first = [next(one), next(two), next(one)]
    piano = do.sessions.start_run("one", "piano")
    do.stop(page("two"))
    last_two, last_one = list(two)[-1], [*first[2:], *one]
    assert "Stopped." in last_two[1]
    assert "seed7" in last_one[-1][0]
    assert "seed99" not in last_one[-1][0]
    assert len(heard(do.sessions.live(token(last_one)))) == 4 * 16000
    assert not piano.stop.is_set()
    assert piano.folder.is_dir()
    do.sessions.close("one")
    assert piano.stop.is_set()
    assert do.sessions.live("0" * 32) is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": None}, "seed is empty"),
        ({"used": 0.0}, "how much to use is 0"),
        ({"seconds": -1}, "how long to go on is -1"),
        ({"variations": 5}, "variations is 5"),
        ({"checkpoint": "../speech"}, "there is no checkpoint '../speech'"),
        ({"choice": "../index.json"}, "no prompt is chosen"),
    ],
)
def test_a_bad_setting_is_one_line_and_loses_nothing(do: SpeechTab, changes: dict[str, Any], message: str) -> None:
    last = list(run(do, **changes))[-1]
    assert message in unescape(last[1])
    assert 'role="alert"' in last[1]
    assert isinstance(last[0], dict)  # gr.skip(): the takes stay
    assert last[3]["interactive"] is True


def tone(seconds: float, rate: int = 16000) -> np.ndarray:
    return 0.3 * np.sin(np.arange(round(seconds * rate)) * 0.1)


def write_silence(path: Path) -> None:
    soundfile.write(path, np.zeros(32000), 16000, format="WAV")


def write_short(path: Path) -> None:
    soundfile.write(path, tone(0.05), 16000, format="WAV")


def write_nan(path: Path) -> None:
    soundfile.write(path, np.where(np.arange(32000) == 9, np.nan, tone(2)), 16000, format="WAV", subtype="FLOAT")


def write_text(path: Path) -> None:
    path.write_text("This is no sound.\n" * 20)


def write_video(path: Path) -> None:
    path.write_bytes(b"\0\0\0\x20ftypisom" + bytes(4000))


def write_notes(path: Path) -> None:
    path.write_bytes((VOICES.parent / "satie-gymnopedie.mid").read_bytes())


@pytest.mark.parametrize("write", [write_silence, write_short, write_nan, write_text, write_video, write_notes])
def test_a_bad_file_is_one_line_and_loses_nothing(do: SpeechTab, write: Callable[[Path], None], tmp_path: Path) -> None:
    path = tmp_path / "mine.wav"
    write(path)
    card, _, slider, listed, upload = do.choose_upload(str(path), FIRST, 0.0, 5.0, page())
    said = re.findall(r'role="alert">([^<]*)<', card)
    assert len(said) == 1
    assert said[0].startswith("mine.wav")  # its name, not where the server keeps it
    assert "\n" not in said[0]
    assert "Reader 3080" in card  # what was chosen before still is
    assert upload is None
    assert isinstance(listed, dict)
    assert "maximum" not in slider
    if write is write_notes:
        assert "the tab Piano takes MIDI" in said[0]
    if write is write_silence:
        assert "silent" in said[0]
    # From the microphone: what was uploaded before stays.
    soundfile.write(tmp_path / "good.wav", tone(3), 16000)
    card, *_, kept, emptied = do.choose_recording(str(path), None, str(tmp_path / "good.wav"), 0.0, 2.0, page())
    assert card.count('role="alert"') == 1
    assert "good.wav: 3.0 s" in card
    assert "value" not in kept
    assert emptied is None


@pytest.mark.parametrize(
    ("name", "rate", "channels", "form"),
    [
        ("a.wav", 8000, 1, {"format": "WAV", "subtype": "PCM_U8"}),
        ("b.flac", 48000, 2, {"format": "FLAC"}),
        ("c.mp3", 44100, 2, {"format": "MP3"}),
        ("d.ogg", 24000, 1, {"format": "OGG", "subtype": "VORBIS"}),
        ("e.opus", 16000, 1, {"format": "OGG", "subtype": "OPUS"}),
        ("f.wav", 192000, 6, {"format": "WAV"}),
    ],
)
def test_recordings_of_all_kinds_are_continued(
    do: SpeechTab, tmp_path: Path, name: str, rate: int, channels: int, form: dict[str, str]
) -> None:
    path = tmp_path / name
    soundfile.write(path, np.repeat(tone(3, rate)[:, None], channels, axis=1), rate, **form)
    card, _, slider, listed, upload = do.choose_upload(str(path), FIRST, 0.0, 5.0, page())
    assert f"{name}: 3." in card
    assert "<audio" in card
    assert listed is None
    assert slider["maximum"] == pytest.approx(3, abs=0.5)
    assert "role" not in card.replace('role="img"', "")
    assert "value" not in upload  # gr.skip()
    last = list(run(do, upload=str(path), choice=None, seconds=2.0))[-1]
    assert last[0].count("<audio") == 1
    assert soundfile.info(wavs(do)[0]).frames == 4 * 16000


@pytest.mark.parametrize("seconds", [0.5, 0.7, 0.97])
def test_a_recording_shorter_than_a_second_is_continued_whole(do: SpeechTab, tmp_path: Path, seconds: float) -> None:
    path = tmp_path / "word.wav"
    soundfile.write(path, tone(seconds), 16000)
    card, _, slider, *_ = do.choose_upload(str(path), FIRST, 0.0, 5.0, page())
    assert "word.wav" in card
    assert (slider["minimum"], slider["interactive"]) == (0, False)
    assert 0 < slider["value"] == slider["maximum"] <= 1
    last = list(run(do, upload=str(path), choice=None, used=slider["value"], seconds=2.0))[-1]
    assert soundfile.info(wavs(do)[0]).duration == pytest.approx(2 + seconds, abs=0.1)
    assert "of word.wav" in last[0]
    _, _, slider, _ = do.choose_example(FIRST, page())
    assert (slider["minimum"], slider["value"], slider["interactive"]) == (1, 5.0, True)


def test_an_uploaded_file_is_heard_as_what_was_read_of_it(do: SpeechTab, tmp_path: Path) -> None:
    """Browsers play no AIFF, and what follows the part that is shown is not to be heard."""
    path = tmp_path / "talk.aiff"
    soundfile.write(path, np.tile(tone(1), 70), 16000, format="AIFF")
    card, *_ = do.choose_upload(str(path), FIRST, 0.0, 5.0, page())
    found = re.search(r'src="results/(\w+)/(talk.wav)"', card)
    assert found
    result = do.sessions.result(*found.groups())
    assert result is not None
    played = result.path()
    assert played.is_relative_to(do.sessions.files.results)
    samples, rate = soundfile.read(played)
    assert (rate, len(samples)) == (16000, SHOWN_SECONDS * 16000)
    assert do.change_part(None, str(path), 0.0, 3.0, page()).count(found[0]) == 1  # it is not written again
    soundfile.write(tmp_path / "next.wav", tone(3), 16000)
    do.choose_upload(str(tmp_path / "next.wav"), FIRST, 0.0, 5.0, page())
    assert not played.exists()  # nor kept for a prompt that is gone


def test_a_part_from_the_middle_is_continued_and_silence_before_speech_left_out(do: SpeechTab, tmp_path: Path) -> None:
    quiet, path = np.zeros(2 * 16000, np.float32), str(tmp_path / "late.wav")
    soundfile.write(path, np.concatenate([quiet, tone(4)]), 16000)
    card, start, *_ = do.choose_upload(path, FIRST, 0.0, 5.0, page())
    assert start["value"] == pytest.approx(2.0, abs=0.1)
    assert "From 2.0 s, 4.0 s are used" in card
    list(run(do, upload=path, start=3.0, used=2.0))
    assert soundfile.info(wavs(do)[0]).frames == 5 * 16000


def test_what_a_server_cannot_afford_is_refused(do: SpeechTab, tmp_path: Path) -> None:
    path = tmp_path / "wide.flac"
    soundfile.write(path, np.zeros((8 * 655_000, 8), np.int16), 655_000, subtype="PCM_16")
    card, *_ = do.choose_upload(str(path), FIRST, 0.0, 5.0, page())
    assert "wide.flac has 8 channels of 655,000 samples a second" in unescape(card)


def test_the_card_says_what_was_mended(do: SpeechTab, tmp_path: Path) -> None:
    path = tmp_path / "tilted.wav"
    soundfile.write(path, tone(3) / 2 + 0.3, 16000)
    card, *_ = do.choose_upload(str(path), FIRST, 0.0, 2.0, page())
    assert '<p class="kept">a constant offset of 0.3 is removed</p>' in card


def test_a_long_recording_is_read_from_its_start_alone(do: SpeechTab, tmp_path: Path) -> None:
    path = tmp_path / "lecture.flac"
    soundfile.write(path, np.tile(tone(1, 8000), 700), 8000)
    card, _, slider, *_ = do.choose_upload(str(path), FIRST, 0.0, 5.0, page())
    assert "lecture.flac: the first 60 s" in card
    assert slider["maximum"] == 10
    media = do.read_prompt(None, str(path)).media
    assert isinstance(media, Audio)
    assert media.duration == SHOWN_SECONDS


def test_choosing_and_recording(do: SpeechTab, tmp_path: Path) -> None:
    card, _, slider, upload = do.choose_example("3005-163389-0005.ogg", page())
    assert "Reader 3005: 7.9 s" in card
    assert "Not used" in card
    assert "reader-3005.wav" in card
    assert upload is None
    assert (slider["value"], slider["maximum"]) == (5.0, 8.0)
    assert "Not used" not in do.change_part("3005-163389-0005.ogg", None, 0.0, 8.0, page())
    assert "begins by itself" in do.choose_example(NO_PROMPT, page())[0]
    path = tmp_path / "recording.wav"
    soundfile.write(path, tone(4), 16000)
    card, _, slider, listed, kept, emptied = do.choose_recording(str(path), FIRST, None, 0.0, 5.0, page())
    assert "recording.wav: 4.0 s" in card
    assert slider["value"] == 4.0
    assert (listed, kept, emptied) == (None, str(path), None)
    # It goes on where the speaker stopped, not five seconds after they began.
    soundfile.write(path.with_name("longer.wav"), tone(7), 16000)
    _, start, slider, *_ = do.choose_recording(str(path.with_name("longer.wav")), FIRST, None, 0.0, 5.0, page())
    assert (start["value"], slider["value"]) == (0.0, 7.0)
    soundfile.write(path.with_name("longest.wav"), tone(14), 16000)
    _, start, slider, *_ = do.choose_recording(str(path.with_name("longest.wav")), FIRST, None, 0.0, 5.0, page())
    assert (start["value"], slider["value"]) == (4.0, 10.0)


def test_the_example_voices_are_small_credited_and_of_use() -> None:
    table = json.loads((VOICES / "index.json").read_text(encoding="utf-8"))
    assert table["licence"] == "CC BY 4.0"
    assert "LibriSpeech" in table["corpus"]
    examples = load_examples(VOICES)
    assert len({re.findall(r"speaker (\d+)", example.source)[0] for example in examples}) == len(examples) >= 4
    assert sorted(path.name for path in VOICES.glob("*.ogg")) == sorted(example.file for example in examples)
    assert sum(path.stat().st_size for path in VOICES.iterdir()) < 400_000
    for example in examples:
        audio = read_audio(VOICES / example.file)
        assert 5 <= audio.duration <= 8
        assert audio.duration == pytest.approx(example.seconds, abs=0.05)
        assert audio.sample_rate == 16000
    assert "CC BY 4.0" in TABS["speech"].credit


def test_the_route_gives_sound_as_it_grows() -> None:
    sound = LiveSound()
    sound.push(np.array([0.0, 0.5], np.float32))
    client = TestClient(Starlette(routes=[route({"abc": sound}.get)]))
    first = client.get("/live/abc?from=0&wait=0")
    nothing = client.get("/live/abc?from=4")
    threading.Timer(0.1, lambda: sound.push(np.array([-1.0, 2.0], np.float32))).start()
    second = client.get("/live/abc?from=4")
    assert nothing.content == b""
    assert not any("X-Last" in each.headers for each in (first, nothing, second))
    assert np.frombuffer(first.content + second.content, "<i2").tolist() == [0, 16384, -32767, 32767]
    sound.close()
    again = client.get("/live/abc?from=6")  # as where an answer was lost
    assert (again.content, again.headers["X-Last"]) == (second.content[2:], "1")
    assert client.get("/live/abc?from=8").headers["X-Last"] == "1"
    assert sound.after(0) == (b"", True)  # all was heard
    assert client.get("/live/abd").status_code == 404
    for wrong in ("-1", "x", "9" * 400, ""):
        assert client.get("/live/abc", params={"from": wrong}).status_code == 400


def test_sound_that_is_over_and_not_listened_to_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("ui.live.time.monotonic", lambda: now)
    sound = LiveSound()
    sound.push(np.ones(4, np.float32))
    now += 500
    sound.forget_unheard(60)  # more may come
    sound.close()
    now += 59
    sound.forget_unheard(60)
    assert len(sound.after(2)[0]) == 6  # somebody listens, slowly
    now += 59
    sound.forget_unheard(60)
    assert len(sound.after(4)[0]) == 4
    now += 61
    sound.forget_unheard(60)
    assert sound.after(4) == (b"", True)


def test_what_nobody_takes_of_a_sound_is_held_but_once() -> None:
    """Two hundred who ask for minutes of it and read nothing would otherwise take all memory."""
    sound = LiveSound()
    sound.push(np.zeros(500_000, np.float32))
    sound.close()
    sizes: list[int] = []

    async def receive() -> dict[str, Any]:
        await asyncio.sleep(60)
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sizes.append(len(message.get("body", b"")))

    scope = {"type": "http", "method": "GET", "path": "/live/abc", "query_string": b"wait=0", "headers": []}
    asyncio.run(Starlette(routes=[route({"abc": sound}.get)])(scope, receive, send))
    assert max(sizes) == PIECE_BYTES
    assert sum(sizes) == 1_000_000


def test_a_missing_codec_leaves_the_tab_out_or_is_said(
    folder: Path, tiny_checkpoint: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    alone = tmp_path / "alone"
    alone.mkdir()
    for file in (folder / "speech").iterdir():
        (alone / file.name).write_bytes(file.read_bytes())
    speech = Models(find_checkpoints(alone)["speech"])
    piano = Models(find_checkpoints(tiny_checkpoint)["piano"])
    prompts = {name: tab.warm_up for name, tab in TABS.items()}
    assert list(usable({"piano": piano, "speech": speech}, prompts)) == ["piano"]
    assert "codec-tiny" in caplog.text
    with pytest.raises(ShortcutGenError, match="codec-tiny"):
        usable({"speech": speech}, prompts)
    # The codec's folder itself is no model, and no damaged one either.
    caplog.clear()
    assert list(find_checkpoints(folder)) == ["speech"]
    assert caplog.text == ""


def test_the_page_speaks_of_what_it_has_models_for(models: Models, tiny_checkpoint: Path) -> None:
    piano = Models(find_checkpoints(tiny_checkpoint)["piano"])
    for there in ({"piano": piano}, {"speech": models}, {"piano": piano, "speech": models}):
        words = header(list(there)) + footer(there)
        assert ("a piano performance" in words, "Piano sound" in words) == ("piano" in there,) * 2
        assert ("a spoken sentence" in words, "LibriSpeech" in words) == ("speech" in there,) * 2


def test_a_wrong_source_of_the_voices_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from ui.examples import make_speech

    monkeypatch.setattr(make_speech, "FOLDER", tmp_path / "out")
    assert make_speech.main(["--source", str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_saved_take_is_opened_again(do: SpeechTab, models: Models) -> None:
    list(run(do))
    path = results_of(do.sessions, "-take.json")[0]
    drawing, _, line, *_ = do.open_take(str(path), page("new"))
    assert "1 step opened." in line
    first, second = (do.sessions.steps(key, "speech")[0].made[0] for key in ("page", "new"))
    assert first.ids == second.ids
    assert drawing.count("<audio") == 1
    one, two = (soundfile.read(path)[0] for path in wavs(do))
    assert np.abs(one - two).max() < 1e-3  # decoded in other pieces


def test_the_list_of_models_says_what_a_loss_is_of() -> None:
    """Losses on one codebook and on two stand side by side, and do not compare."""
    for codebooks, said in ((1, "on 1 codebook)"), (2, "on 2 codebooks)")):
        codec, figures = {"codebooks": codebooks}, {"test": {"nll": 3.976}}
        info = CheckpointInfo(model=ModelConfig(), tokenizer="speech", codec=codec, figures=figures)
        assert Entry("speech", Path("speech"), info).label == f"speech (test loss 3.98 {said}"
