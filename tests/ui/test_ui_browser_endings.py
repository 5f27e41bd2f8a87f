"""Drives the real page in headless Chromium: how long it goes on, and Continue and Stop by a key."""

from pathlib import Path
from typing import Any

import mido
import pytest

from shortcut_gen.media import read_score
from tests.shared.pages import download, fill, finish

pytestmark = pytest.mark.browser

FOCUS = "(document.activeElement.closest('[id]') || {}).id"


def test_continue_and_stop_by_a_key_leave_the_focus_where_it_was(page: Any) -> None:
    assert page.locator("#go").get_attribute("aria-keyshortcuts") == "Control+Enter Meta+Enter"
    assert page.locator("#stop").get_attribute("title") == "Escape"
    fill(page, "seconds", 120)
    for place in ("#used input[type=number]", "#examples input", "#go"):
        page.locator(place).first.focus()
        before = page.evaluate(FOCUS)
        page.keyboard.press("Control+Enter")
        page.wait_for_function("document.querySelector('#status').textContent.includes('Generating')")
        page.keyboard.press("Escape")
        page.wait_for_function("document.querySelector('#status').textContent.includes('Stopped')")
        page.wait_for_function("!document.querySelector('#go').disabled")
        assert page.evaluate(FOCUS) == before


def test_a_length_in_bars_and_a_run_to_an_ending(page: Any, tmp_path: Path) -> None:
    """Nothing past the length is heard before it is decided; and what is heard is what the file has."""

    def value(name: str) -> float:
        return float(page.locator(f"#{name} input[type=number]").input_value())

    waltz = mido.MidiFile(ticks_per_beat=480)
    track = mido.MidiTrack()
    waltz.tracks.append(track)
    track += [
        mido.MetaMessage("set_tempo", tempo=mido.bpm2tempo(100)),
        mido.MetaMessage("time_signature", numerator=3, denominator=4),
    ]
    for pitch in (48, 64, 67, 48, 64, 67, 43, 62, 65):
        track += [mido.Message("note_on", note=pitch, velocity=70), mido.Message("note_off", note=pitch, time=480)]
    waltz.save(tmp_path / "waltz.mid")
    assert not page.locator("#bars").is_visible()
    page.locator("#upload input[type=file]").set_input_files(tmp_path / "waltz.mid")
    page.wait_for_selector("#bars:visible")
    assert "100 quarters a minute, 3/4" in page.locator("#bars").inner_text()
    page.wait_for_function("document.querySelector('#bars input').value === '16.67'")  # of 30 s
    fill(page, "bars", 3)
    page.wait_for_function("document.querySelector('#seconds input[type=number]').value === '5.4'")
    fill(page, "seconds", 9)
    page.wait_for_function("document.querySelector('#bars input').value === '5'")
    page.locator("#ending input").check()
    finish(page)
    assert "to an ending" in page.locator("#status").inner_text()
    page.wait_for_function("document.querySelector('.take h2 .facts').textContent.includes(' s new')")
    new = float(page.locator(".take h2 .facts").inner_text().split(" s new")[0])
    assert 9 <= new < 9 + 12 + 3.1
    score = read_score(download(page, "MIDI", tmp_path))
    last = max(note.start for note in score.notes)
    assert score.duration >= last + 1.4
    page.wait_for_function("window.pieces.length > 3")
    page.reload()
    page.wait_for_selector("#bars:visible")
    assert page.locator("#ending input").is_checked()
    assert value("seconds") == 9
    page.locator("#examples label", has_text="Satie").click()
    page.wait_for_selector("#bars", state="hidden")
