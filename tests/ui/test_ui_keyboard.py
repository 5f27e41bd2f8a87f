"""The keyboard's samples and their addresses, without a browser."""

import io
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray
from starlette.applications import Starlette
from starlette.testclient import TestClient

from shortcut_gen.errors import MediaError
from shortcut_gen.media import Note, Score
from shortcut_gen.media.render import render, renderer_name
from ui import keyboard
from ui.app import STATIC
from ui.guard import Guard, Policy
from ui.keyboard import PITCHES, SAMPLE_RATE, VELOCITIES, Bank, compress, make, panel, routes, strike
from ui.models import Models, find_checkpoints
from ui.piano import MAX_EVENTS, PianoTab
from ui.sessions import Sessions

FIRST = "bach-prelude-c.mid"
fluidsynth = pytest.mark.skipif(not renderer_name().startswith("FluidSynth"), reason="FluidSynth's library is not here")


def loudness(samples: NDArray[np.float32]) -> float:
    """Of the first half second, in dB."""
    return float(10 * np.log10((samples[:, : SAMPLE_RATE // 2] ** 2).mean()))


def client(bank: Bank) -> TestClient:
    return TestClient(Starlette(routes=routes(bank)))


@fluidsynth
@pytest.mark.parametrize("pitch", [PITCHES[0], 60, PITCHES[-1]])
def test_a_sample_begins_at_once_and_dies_away(pitch: int) -> None:
    sound, rate = soundfile.read(io.BytesIO(make(pitch, 108)), dtype="float32")
    assert rate == SAMPLE_RATE
    loud = np.abs(sound).max(axis=1)
    assert 0.05 < loud.max() < 0.8  # several at once do not overload
    assert np.argmax(loud > 0.05 * loud.max()) < 0.006 * rate  # 6 ms of the 30 that there are
    assert loud[-50:].max() < 0.01 * loud.max()
    assert 0.5 <= len(sound) / rate <= 6


def test_samples_stay_what_they_were_when_compressed() -> None:
    samples = strike(60, 72)
    sound, _ = soundfile.read(io.BytesIO(compress(samples)), dtype="float32")
    assert len(sound) == samples.shape[1]
    assert np.sqrt(((sound.T - samples) ** 2).mean()) < 0.05 * np.sqrt((samples**2).mean())


@fluidsynth
@pytest.mark.parametrize("velocity", [24, 54, 90, 127])
def test_between_samples_the_page_plays_as_loud_as_the_renderer(velocity: int) -> None:
    louder = re.search(r"LOUDER = ([\d.]+)", (STATIC / "keyboard-sound.js").read_text())
    assert louder
    nearest = min(VELOCITIES, key=lambda each: abs(each - velocity))
    score = Score(notes=(Note(pitch=60, velocity=velocity, start=0, end=1),))
    there = loudness(render(score, sample_rate=SAMPLE_RATE).samples)
    here = loudness(strike(60, nearest)) + 20 * float(louder[1]) * np.log10(velocity / nearest)
    assert here == pytest.approx(there, abs=2)


def test_the_page_is_told_of_samples_that_are_there() -> None:
    page = client(Bank(lambda pitch, velocity: f"{pitch} {velocity}".encode()))
    told = page.get("/static/keyboard.json").json()
    assert told == {"pitches": list(PITCHES), "velocities": list(VELOCITIES), "problem": ""}
    answer = page.get("/static/keyboard/21-36.ogg")
    assert (answer.content, answer.headers["content-type"]) == (b"21 36", "audio/ogg")
    for wrong in ("22-36", "21-37", "21", "21-36-1", "-21-36"):
        assert page.get(f"/static/keyboard/{wrong}.ogg").status_code == 404


def test_pages_that_ask_at_once_share_the_work() -> None:
    made: list[int] = []
    busy = threading.Lock()

    def slow(pitch: int, velocity: int) -> bytes:
        assert busy.acquire(blocking=False), "two are made at a time"
        time.sleep(0.05)
        made.append(pitch)
        busy.release()
        return b"sound"

    with client(Bank(slow)) as page, ThreadPoolExecutor(8) as pool:
        wanted = [f"/static/keyboard/{pitch}-72.ogg" for pitch in (60, 63)] * 8
        answers = list(pool.map(page.get, wanted))
    assert {answer.status_code for answer in answers} == {200}
    assert sorted(made) == [60, 63]


def test_without_a_renderer_the_page_is_told_why() -> None:
    def nothing(pitch: int, velocity: int) -> bytes:
        raise MediaError("no sound can be rendered")

    page = client(Bank(nothing))
    assert page.get("/static/keyboard.json").json()["problem"] == "no sound can be rendered"
    answer = page.get("/static/keyboard/60-72.ogg")
    assert (answer.status_code, answer.text) == (503, "no sound can be rendered")


def test_the_guard_lets_the_samples_in(tmp_path: Path) -> None:
    app = Starlette(routes=routes(Bank(lambda pitch, velocity: b"sound")))
    page = TestClient(Guard(app, Policy(), tmp_path, dict), base_url="http://127.0.0.1:7860")
    assert page.get("/static/keyboard.json").status_code == 200
    assert page.get("/static/keyboard/60-72.ogg").content == b"sound"
    assert page.get("/static/keyboard/60-72.ogg", headers={"Origin": "http://evil.example"}).status_code == 403


def test_the_limits_of_a_recording_are_those_of_an_upload() -> None:
    take = (STATIC / "keyboard-take.js").read_text()
    assert f"MOST = {MAX_EVENTS:_};" in take
    assert panel().count('id="play"') == 1
    assert keyboard.PAGE.parent == STATIC


def test_a_recording_is_used_to_its_end(tiny_checkpoint: Path, tmp_path: Path) -> None:
    sessions = Sessions()
    try:
        do = PianoTab(Models(find_checkpoints(tiny_checkpoint)["piano"]), sessions)
        notes = tuple(Note(pitch=60, velocity=80, start=float(at), end=at + 0.5) for at in range(40))
        path = tmp_path / "played.mid"
        Score(notes=notes).write(path)
        page: Any = SimpleNamespace(session_hash="page")
        card, start, slider, choice, upload, emptied = do.choose_recording(str(path), FIRST, None, 0.0, 5.0, page)
        assert "played.mid: 40 notes" in card
        assert slider["value"] == slider["maximum"] == pytest.approx(39.5, abs=0.06)  # an upload's first 20 s are used
        assert start["value"] == 0
        assert (choice, upload, emptied) == (None, str(path), None)
        long = tmp_path / "long.mid"
        Score(notes=(*notes, Note(pitch=62, velocity=80, start=299.0, end=300.0))).write(long)
        _, start, slider, *_ = do.choose_recording(str(long), FIRST, None, 0.0, 5.0, page)
        assert (start["value"], slider["value"]) == (pytest.approx(180, abs=0.1), 120)
        broken = tmp_path / "broken.mid"
        broken.write_bytes(b"no MIDI")
        card, *_, emptied = do.choose_recording(str(broken), FIRST, None, 0.0, 5.0, page)
        assert 'role="alert">broken.mid' in card
        assert "Prelude" in card  # the prompt before it stays
        assert emptied is None
    finally:
        sessions.clear()
