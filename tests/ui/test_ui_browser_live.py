"""The page in headless Chromium while something is made: what is heard and drawn, Stop, the microphone."""

import itertools
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from shortcut_gen.media import read_score
from tests.shared.pages import NEW_NOTES, begin, download, fill, finish, shorter, speech

pytestmark = pytest.mark.browser

# The pieces that were played, all their samples, and how far from these the browser's own mixing of them is.
PLAYED = """async () => {
    const played = [...window.pieces];  // LISTEN hears what follows too
    const count = played.reduce((sum, piece) => sum + piece.samples.length, 0);
    const joined = new Float32Array(count);
    const context = new OfflineAudioContext(1, count + 1234, 16000);
    let at = 0;
    for (const { samples } of played) {
        joined.set(samples, at);
        const buffer = new AudioBuffer({ length: samples.length, sampleRate: 16000 });
        buffer.copyToChannel(samples, 0);
        const source = new AudioBufferSourceNode(context, { buffer });
        source.connect(context.destination);
        source.start((at + 1234) / 16000);
        at += samples.length;
    }
    const mixed = (await context.startRendering()).getChannelData(0);
    const error = joined.reduce((most, sample, i) => Math.max(most, Math.abs(sample - mixed[i + 1234])), 0);
    const pieces = played.map(({ when, rate, samples }) => [when, rate, samples.length]);
    return JSON.stringify([pieces, Array.from(joined, sample => Math.round(sample * 32767)), error]);
}"""


def test_the_roll_grows_and_stop_keeps_what_is_there(page: Any, tmp_path: Path) -> None:
    fill(page, "seconds", 120)
    page.locator("#variations label", has_text="4").click()
    began = time.monotonic()
    page.click("#go")
    page.wait_for_function(f"({NEW_NOTES})() > 0", polling=20)
    first = time.monotonic() - began
    seen = page.evaluate(NEW_NOTES)
    page.wait_for_function(f"({NEW_NOTES})() > {seen}", polling=50)
    page.click("#stop")
    page.wait_for_selector(".take audio")
    assert page.locator(".take audio").count() == 4
    assert "Stopped." in page.locator("#status").inner_text()
    assert 0 < read_score(download(page, "MIDI", tmp_path)).duration < 140
    # A second on two idle cores; CI's are not idle.
    assert first < 10, f"the first notes came after {first:.1f} s"


def test_piano_is_heard_while_it_is_made_without_a_gap(page: Any, tmp_path: Path) -> None:
    shorter(page)
    finish(page)
    samples, rate = soundfile.read(download(page, "WAV", tmp_path))
    count = "window.pieces.reduce((sum, piece) => sum + piece.samples.length, 0)"
    page.wait_for_function(f"{count} > 4 * 44100 && {count} === window.before || void (window.before = {count})")
    pieces = page.evaluate("window.pieces.map(({ when, samples }) => [when, samples.length])")
    heard = page.evaluate("window.pieces.flatMap(({ samples }) => Array.from(samples, s => Math.round(s * 32767)))")
    # The file is brought to a common loudness; but for that it is what was heard.
    live, saved = np.array(heard) / 32767, samples[-len(heard) :, 0]
    gain = (live @ saved) / (live @ live)
    assert np.abs(gain * live - saved).max() < 1e-3 * max(gain, 1)
    waits = [round((b[0] - a[0]) * rate - a[1], 6) for a, b in itertools.pairwise(pieces)]
    assert min(waits, default=0) >= 0
    assert np.mean(np.array([0, *waits]) == 0) > 0.5


def test_speech_is_heard_while_it_is_made_without_a_gap(page: Any, tmp_path: Path) -> None:
    tab = speech(page)
    page.locator("#speech-examples label", has_text="Reader 3005").click()
    page.wait_for_function("document.querySelector('#speech-prompt').textContent.includes('Reader 3005: 7.9 s')")
    shorter(page, tab=tab)
    finish(page, tab)
    wav = download(page, "WAV", tmp_path)
    assert wav.name == "reader-3005-seed5-variation-1.wav"
    samples, rate = soundfile.read(wav)
    assert (rate, len(samples)) == (16000, 8 * 16000)
    page.wait_for_function("window.pieces.reduce((sum, piece) => sum + piece.samples.length, 0) === 64000")
    pieces, heard, error = json.loads(page.evaluate(PLAYED))
    assert len(pieces) > 5
    assert {rate for _, rate, _ in pieces} == {16000}  # the browser resamples no piece by itself
    assert np.abs(np.array(heard) / 32767 - samples[4 * 16000 :]).max() < 1e-3
    # Each begins with the sample after the last one of the piece before, but where a busy machine was too slow.
    waits = [round((b[0] - a[0]) * 16000 - a[2], 6) for a, b in itertools.pairwise(pieces)]
    assert min(waits) == 0
    assert np.mean(np.array(waits) == 0) > 0.5
    # What the browser makes of pieces put so is the samples themselves.
    assert error < 1e-3


def test_stop_silences_speech_and_keeps_what_is_there(page: Any, tmp_path: Path) -> None:
    tab = speech(page)
    begin(page, 20, 4, tab)
    page.wait_for_function("window.pieces.length > 1", polling=20)
    page.wait_for_selector("#speech-takes .playhead.on", state="attached")
    page.click(f"#{tab}stop")
    page.wait_for_selector("#speech-takes .take audio")
    assert page.locator("#speech-takes .take audio").count() == 4
    assert "Stopped." in page.locator("#speech-status").inner_text()
    assert page.locator("#speech-takes .playhead.on").count() == 0
    samples, _ = soundfile.read(download(page, "WAV", tmp_path))
    assert 5 * 16000 < len(samples) < 25 * 16000


def test_a_recording_is_continued_in_silence_if_so_wanted(page: Any, tmp_path: Path) -> None:
    tab = speech(page)
    page.click("#record")
    page.wait_for_function("document.querySelector('#record').textContent.includes('(3 s)')")
    page.click("#record")
    page.wait_for_function("document.querySelector('#speech-prompt').textContent.includes('recording.wav: ')")
    assert page.locator("#speech-examples input:checked").count() == 0
    assert "recording" in page.locator("#speech-upload").inner_text()
    assert page.locator("#record").inner_text() == "Record with the microphone"
    fill(page, "speech-seconds", 2)
    page.locator("#speech-aloud input").uncheck()
    finish(page, tab)
    assert page.evaluate("window.pieces.length") == 0
    wav = download(page, "WAV", tmp_path)
    assert wav.name.startswith("recording-seed")
    assert np.abs(soundfile.read(wav)[0]).max() > 0


def test_continue_while_the_microphone_records_goes_on_from_what_was_said(page: Any, tmp_path: Path) -> None:
    tab = speech(page)
    fill(page, "speech-seconds", 2)
    page.click("#record")
    page.wait_for_function("document.querySelector('#record').textContent.includes('(3 s)')")
    finish(page, tab)
    assert page.locator("#record").inner_text() == "Record with the microphone"
    assert "recording.wav: " in page.locator("#speech-prompt").inner_text()
    assert download(page, "WAV", tmp_path).name.startswith("recording-seed")
