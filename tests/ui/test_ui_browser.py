"""Drives the real page in headless Chromium, against a server of its own with a random model."""

import contextlib
import importlib.resources
import itertools
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from shortcut_gen.media import Note, Score, read_score
from tests.shared.pages import download, fill, finish, more, save_take, shorter, speech

pytestmark = pytest.mark.browser

FILE = 2
"""Where a run's values have the uploaded file."""
NEW_NOTES = """() => [...document.querySelectorAll('.take .roll')].reduce((sum, roll) => sum
    + window.figures.scene(roll).notes.filter(({ start }) => start >= Number(roll.dataset.seam)).length, 0)"""

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


def test_an_example_is_continued_heard_and_downloaded(page: Any, tmp_path: Path) -> None:
    page.locator("#examples label", has_text="Entertainer").click()
    page.wait_for_function("document.querySelector('#prompt').textContent.includes('Joplin')")
    shorter(page)
    finish(page)
    page.wait_for_function(f"({NEW_NOTES})() > 0")
    page.evaluate("document.querySelector('.take audio').preload = 'metadata'")  # as it would on being played
    duration = page.wait_for_function("document.querySelector('.take audio').duration").json_value()
    assert duration > 7
    midi, wav = download(page, "MIDI", tmp_path), download(page, "WAV", tmp_path)
    assert midi.name == "s-joplin-the-entertainer-seed5-variation-1.mid"
    score = read_score(midi)
    assert len(score.notes) > 20
    samples, rate = soundfile.read(wav)
    assert rate == 44100
    assert len(samples) / rate == pytest.approx(duration, abs=0.1)
    assert np.abs(samples).max() > 0.01
    # Clicking on the roll plays from there, with the playhead where the click was.
    box = page.locator(".take .field").bounding_box()
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + 20)
    page.wait_for_function("document.querySelector('.take audio').currentTime > 3")
    page.wait_for_selector(".playhead.on")  # shown when the sound begins, a moment after its place is set


def test_the_same_seed_gives_the_same_file(page: Any, tmp_path: Path) -> None:
    shorter(page, seed=11)
    made = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        finish(page)
        made.append(download(page, "MIDI", tmp_path / name).read_bytes())
    assert made[0] == made[1]
    assert "seed 11" in page.locator(".take h2").inner_text()


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


def test_a_wav_called_mid_shows_one_message_and_loses_nothing(page: Any, tmp_path: Path) -> None:
    shorter(page)
    finish(page)
    path = tmp_path / "song.mid"
    soundfile.write(path.with_suffix(".wav"), np.zeros(4000), 8000)
    path.with_suffix(".wav").rename(path)
    page.locator("#upload input[type=file]").set_input_files(path)
    page.wait_for_selector("#prompt [role=alert]")
    assert page.locator("[role=alert]").count() == 1
    message = page.locator("[role=alert]").inner_text()
    assert message.startswith("song.mid")
    assert "\n" not in message
    assert page.locator("#examples input:checked").count() == 1
    assert page.locator(".take audio").count() == 1


def test_two_pages_at_once_keep_to_themselves(page: Any, server: str) -> None:
    other = page.context.new_page()
    other.goto(server)
    other.wait_for_selector("#go:not([disabled])")
    shorter(page, seed=1)
    shorter(other, seed=2)
    page.click("#go")
    finish(other)
    page.wait_for_selector(".take audio")
    assert "seed 1" in page.locator(".take h2").inner_text()
    assert "seed 2" in other.locator(".take h2").inner_text()


def test_a_part_is_chosen_by_dragging_over_the_prompt(page: Any, tmp_path: Path) -> None:
    notes = tuple(Note(pitch=40 + k % 40, velocity=70, start=0.5 * k, end=0.5 * k + 0.4) for k in range(400))
    Score(notes=notes).write(tmp_path / "long.mid")
    page.locator("#upload input[type=file]").set_input_files(tmp_path / "long.mid")
    page.wait_for_selector("#prompt .overview")
    field = page.locator("#prompt .overview .field")
    field.scroll_into_view_if_needed()
    box = field.bounding_box()
    at = [box["x"] + share * box["width"] for share in (0.5, 0.6)]
    page.mouse.move(at[0], box["y"] + 10)
    page.mouse.down()
    page.mouse.move(at[1], box["y"] + 10, steps=4)
    page.mouse.up()
    page.wait_for_function("document.querySelector('#prompt').textContent.includes('From 10')")
    start, used = (float(page.locator(f"#{name} input[type=number]").input_value()) for name in ("start", "used"))
    assert (start, used) == (pytest.approx(100, abs=1), pytest.approx(20, abs=1))
    assert page.evaluate("document.querySelectorAll('#prompt audio').length") == 1
    fill(page, "seconds", 4)
    finish(page)
    prompt = [note.pitch for note in read_score(download(page, "MIDI", tmp_path)).notes[:5]]
    first = int(np.ceil(start / 0.5 - 1e-6))
    assert prompt == [40 + k % 40 for k in range(first, first + 5)]


@pytest.mark.parametrize(("width", "height"), [(1280, 900), (390, 844)])
def test_continue_and_stop_are_always_in_reach(page: Any, width: int, height: int) -> None:
    page.set_viewport_size({"width": width, "height": height})
    for where in ("0", "document.body.scrollHeight"):
        page.evaluate(f"scrollTo(0, {where})")
        page.wait_for_timeout(200)
        for button in ("#go", "#stop"):
            box = page.locator(button).bounding_box()
            assert 0 <= box["y"] <= height - box["height"]
    # At the end of the page they cover nothing.
    foot, bar = page.locator("#bottom details").bounding_box(), page.locator("#tabs .transport:visible").bounding_box()
    assert foot["y"] + foot["height"] <= bar["y"] or foot["y"] >= bar["y"] + bar["height"]


def test_variations_are_gone_on_from_undone_and_there_after_a_reload(page: Any, tmp_path: Path) -> None:
    shorter(page)
    page.locator("#variations label", has_text="2").click()
    finish(page)
    assert page.locator("#steps .tree").count() == 0
    second = page.locator(".take .onward").nth(1)
    second.locator("input").focus()
    for _ in range(10):
        page.keyboard.press("ArrowLeft")
    at = float(second.locator("output").inner_text().removesuffix(" s"))
    second.locator("button").press("Enter")
    page.wait_for_selector("#steps .node[data-show='2'][aria-current]")
    seam = float(page.locator(".take .roll").first.get_attribute("data-seam"))
    assert at - 1.1 < seam <= at
    assert page.locator(".take").count() == 2
    page.locator("#steps .side", has_text="Undo").click()
    page.wait_for_selector("#steps .node[data-show='1'][aria-current]")
    assert float(page.locator(".take .roll").first.get_attribute("data-seam")) < seam
    page.reload()
    page.wait_for_selector("#steps .node[data-show='1'][aria-current]")
    page.locator("#steps .node", has_text="2").click()
    page.wait_for_selector("#steps .node[data-show='2'][aria-current]")
    score = read_score(download(page, "MIDI", tmp_path))
    assert score.duration > seam + 3


def test_a_link_sets_the_fields_and_a_reload_keeps_them(page: Any, server: str, tmp_path: Path) -> None:
    def value(name: str) -> str:
        return str(page.locator(f"#{name} input[type=number]").input_value())

    page.goto(f"{server}/?tab=piano&prompt=satie-gymnopedie.mid&used=6&seconds=5&seed=77&variations=2")
    page.wait_for_function("document.querySelector('#prompt')?.textContent.includes('Satie')")
    more(page)
    page.wait_for_function("document.querySelector('#seed input')?.value === '77'")
    assert (value("used"), value("seconds")) == ("6", "5")
    assert not page.locator("#fresh input").is_checked()
    assert page.locator(".take").count() == 0  # it does not run by itself
    finish(page)
    assert page.locator(".take").count() == 2
    assert "seed=77" in page.locator("[data-link]").get_attribute("data-link")
    Score(notes=(Note(pitch=60, velocity=80, start=0.0, end=9.0),)).write(tmp_path / "mine.mid")
    page.locator("#upload input[type=file]").set_input_files(tmp_path / "mine.mid")
    page.wait_for_function("document.querySelector('#prompt').textContent.includes('mine.mid: 1 note')")
    fill(page, "used", 7)
    fill(page, "seconds", 9)
    page.wait_for_timeout(500)
    page.reload()
    page.wait_for_function("document.querySelector('#prompt')?.textContent.includes('mine.mid: 1 note')")
    page.wait_for_function("document.querySelectorAll('.take').length === 2")
    more(page)
    assert (value("used"), value("seconds"), value("seed")) == ("7", "9", "77")
    assert page.locator("#upload").inner_text().count("mine") == 1
    fill(page, "seconds", 4)
    finish(page)
    assert "of mine.mid" in page.locator(".take").first.inner_text()
    page.goto(f"{server}/?tab=speech&seed=x")
    page.wait_for_selector("#speech-status [role=alert]")
    assert "seed is 'x'" in page.locator("#speech-status").inner_text()


def test_a_take_is_saved_and_opened(page: Any, tmp_path: Path) -> None:
    shorter(page)
    finish(page)
    path = save_take(page, tmp_path)
    shorter(page, seed=9)
    finish(page)
    page.locator("#upload input[type=file]").set_input_files(path)
    page.wait_for_function("document.querySelector('#status').textContent.includes('1 step opened')")
    assert page.locator("#steps .node").count() == 3
    assert "seed 5" in page.locator(".take h2").inner_text()
    page.wait_for_function("document.querySelector('#seed input').value === '5'")
    page.locator(".together button", has_text="Once more").click()
    page.wait_for_selector("#steps .node[data-show='4'][aria-current]")
    assert "seed 5" in page.locator(".take h2").inner_text()


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
    fill(page, "speech-seconds", 20)
    page.locator("#speech-variations label", has_text="4").click()
    page.click(f"#{tab}go")
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


def test_text_called_wav_shows_one_message_and_loses_nothing(page: Any, tmp_path: Path) -> None:
    tab = speech(page)
    shorter(page, tab=tab)
    finish(page, tab)
    path = tmp_path / "talk.wav"
    path.write_text("words, not sound\n" * 9)
    page.locator("#speech-upload input[type=file]").set_input_files(path)
    page.wait_for_selector("#speech-prompt [role=alert]")
    assert page.locator("[role=alert]").count() == 1
    assert page.locator("[role=alert]").inner_text().startswith("talk.wav is text")
    assert page.locator("#speech-examples input:checked").count() == 1
    assert page.locator("#speech-takes .take audio").count() == 1


def test_the_tabs_of_a_page_keep_each_others_results(page: Any) -> None:
    shorter(page)
    finish(page)
    heard = page.locator("#takes audio").get_attribute("src")
    tab = speech(page)
    shorter(page, tab=tab)
    finish(page, tab)
    assert page.request.get(f"{page.url.rstrip('/')}/{heard}").status == 200
    spoken = page.locator("#speech-takes audio").get_attribute("src")
    assert page.request.get(f"{page.url.rstrip('/')}/{spoken}").status == 200


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits_and_is_labelled(page: Any, width: int, scheme: str) -> None:
    page.set_viewport_size({"width": width, "height": 844})
    page.emulate_media(color_scheme=scheme)
    page.reload()
    page.wait_for_selector("#go:not([disabled])")
    shorter(page)
    page.locator("#variations label", has_text="2").click()
    finish(page)
    check_looks(page, width)
    tab = speech(page)
    shorter(page, tab=tab)
    page.locator("#speech-variations label", has_text="2").click()
    finish(page, tab)
    check_looks(page, width)


def test_safer_and_bolder_stand_for_what_is_folded_away(page: Any) -> None:
    more(page)

    def numbers() -> list[str]:
        return [page.locator(f"#{name} input[type=number]").input_value() for name in ("temperature", "top-p")]

    assert numbers() == ["1", "0.98"]
    page.locator("#daring label", has_text="safer").click()
    page.wait_for_function("document.querySelector('#temperature input[type=number]').value === '0.9'")
    assert numbers() == ["0.9", "0.95"]
    fill(page, "temperature", 1)  # no word for this pair
    page.wait_for_function("!document.querySelector('#daring input:checked')")
    fill(page, "top-p", 0.98)
    page.wait_for_function(
        "document.querySelector('#daring input:checked').closest('label').innerText.includes('usual')"
    )


AXE = Path(str(importlib.resources.files("axe_playwright_python"))) / "axe.min.js"


def check_looks(page: Any, width: int) -> None:
    """Nothing reaches over the side, and what can be used has a name for those who cannot see it."""
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    unnamed = page.evaluate(
        """() => [...document.querySelectorAll('main input:not([type=file]), main button, main audio')]
            .filter(e => e.offsetParent && !(e.labels && e.labels.length) && !e.getAttribute('aria-label')
                && !e.textContent.trim() && !e.title)
            .map(e => e.outerHTML.slice(0, 120))"""
    )
    assert unnamed == []
    # By script, as the page's Content-Security-Policy forbids an element of ours.
    page.evaluate(AXE.read_text(encoding="utf-8"))
    found = page.evaluate("axe.run()")
    assert [(each["id"], [node["target"] for node in each["nodes"]]) for each in found["violations"]] == []


def test_a_click_while_others_are_served_says_so_and_can_be_taken_back(page: Any, browser: Any, server: str) -> None:
    others = [browser.new_context().new_page() for _ in range(2)]
    for other in others:
        other.goto(server)
        other.wait_for_selector("#go:not([disabled])")
        fill(other, "seconds", 120)
        other.locator("#variations label", has_text="4").click()
        other.click("#go")
        other.wait_for_function("document.querySelector('#status').textContent.includes('Generating')")
    page.click("#go")
    page.wait_for_function("document.querySelector('#status').textContent.includes('yours begins when')")
    page.click("#stop")
    page.wait_for_function("document.querySelector('#status').textContent.includes('Stopped before it began')")
    assert page.locator("#go:not([disabled])").count() == 1
    for other in others:
        other.click("#stop")
        other.context.close()


def test_four_tabs_of_one_browser_leave_each_other_connections(page: Any, server: str) -> None:
    """A browser opens six to a host. With --runs 2 two of the tabs are served, and two wait for their turn."""
    tabs = [page, *(page.context.new_page() for _ in range(3))]
    for other in tabs[1:]:
        other.goto(server)
        other.wait_for_selector("#go:not([disabled])")
    for each in tabs:
        fill(each, "seconds", 120)
        each.click("#go")
        each.wait_for_selector("#status .busy")
    for each in tabs[:2]:
        each.wait_for_function("window.pieces === undefined || window.pieces.length > 3")
    for each in reversed(tabs):
        each.click("#stop")
        each.wait_for_function("document.querySelector('#status').textContent.includes('Stopped')", timeout=10_000)
    for other in tabs[1:]:
        other.close()


def test_a_short_prompt_and_the_next_one(page: Any, tmp_path: Path) -> None:
    """The slider follows each prompt, and what was made of the one before keeps its name."""
    Score(notes=(Note(pitch=60, velocity=80, start=0.0, end=0.4),)).write(tmp_path / "dot.mid")
    fill(page, "seconds", 4)
    page.locator("#upload input[type=file]").set_input_files(tmp_path / "dot.mid")
    page.wait_for_function("document.querySelector('#prompt').textContent.includes('dot.mid: 1 note')")
    assert page.locator("#used input[type=number]").is_disabled()
    finish(page)
    assert "of dot.mid" in page.locator(".take").inner_text()
    page.locator("#examples label", has_text="Moonlight").click()
    page.wait_for_function("document.querySelector('#prompt').textContent.includes('Beethoven')")
    page.wait_for_function("document.querySelector('#used input[type=number]').value === '20'")
    assert "of dot.mid" in page.locator(".take").inner_text()


def test_another_browser_ends_no_run_and_a_wrong_value_is_a_line(
    page: Any, browser: Any, server: str, log: Path
) -> None:
    """Through the page's own addresses, by someone who knows the hash of its page."""
    asked: list[dict[str, Any]] = []
    page.on("request", lambda r: asked.append(r.post_data_json) if "/queue/join" in r.url else None)
    shorter(page)
    finish(page)
    mine = asked[-1]
    join, predict = f"{server}/gradio_api/queue/join", f"{server}/gradio_api/run/predict"
    stranger = browser.new_context()
    stranger.request.get(server)
    for path in ("queue/join", "cancel", "reset"):
        answer = stranger.request.post(f"{server}/gradio_api/{path}", data=mine | {"event_id": "x"})
        assert answer.status == 403
    assert stranger.request.get(f"{server}/alive/{mine['session_hash']}").status == 403
    stranger.close()
    for place in range(len(mine["data"])):
        for wrong in (None, True, -1, 1e300, "x", "../..", "", 0.5):
            data = list(mine["data"])
            data[place] = wrong
            refused = place == FILE and wrong is not None
            assert page.request.post(join, data=mine | {"data": data}).status == (422 if refused else 200)
    for number in range(40):  # whatever events there are, given what they are not sent
        for values in ([], ["x"], ["x"] * 3, [None] * 4, [{}] * 5, [[]] * 10):
            answer = page.request.post(predict, data=mine | {"fn_index": number, "data": values})
            assert answer.status in (200, 404, 422), answer.text()
    shorter(page, seed=9)
    finish(page)
    assert "Traceback" not in log.read_text()


def test_the_picture_follows_the_slider_however_it_is_moved(page: Any) -> None:
    def seam() -> str:
        return str(page.locator("#prompt .seam").get_attribute("style"))

    before = seam()
    slider = page.locator("#used input[type=range]")
    slider.focus()
    for _ in range(8):
        page.keyboard.press("ArrowLeft")
    page.wait_for_function(f"document.querySelector('#prompt .seam').getAttribute('style') !== '{before}'")
    after = seam()
    field = page.locator("#used input[type=number]")
    field.fill("9999")
    field.press("Tab")
    page.wait_for_function("Number(document.querySelector('#used input[type=number]').value) < 30")
    page.wait_for_function("document.querySelectorAll('#prompt [role=alert]').length === 0")
    assert page.locator("#prompt .card").count() == 1
    fill(page, "used", 5)
    page.wait_for_function(
        f"(document.querySelector('#prompt .seam')?.getAttribute('style') ?? '{after}') !== '{after}'"
    )


def test_the_examples_are_one_group_for_the_keyboard(page: Any) -> None:
    page.locator("#examples input").first.focus()
    page.keyboard.press("ArrowDown")
    page.wait_for_function("document.querySelector('#prompt').textContent.includes('Mozart')")
    assert page.evaluate("document.querySelectorAll('#examples input:checked').length") == 1


def test_a_request_that_is_refused_says_why_on_the_page(page: Any, log: Path) -> None:
    page.context.clear_cookies()
    page.click("#go")
    page.wait_for_selector(".refused[role=alert]")
    assert "cookie is missing; reload the page" in page.locator(".refused").inner_text()


def test_broken_requests_leave_no_traceback(server: str, log: Path) -> None:
    httpx = pytest.importorskip("httpx")
    form = b'--xx\r\nContent-Disposition: form-data; name="files"\r\n\r\na\r\n--xx--\r\n'
    with httpx.Client(base_url=server) as client:
        client.get("/")
        kind = {"Content-Type": "multipart/form-data; boundary=xx"}
        assert client.post("/gradio_api/upload", headers=kind, content=form).status_code == 400
        with contextlib.suppress(httpx.HTTPError):  # it breaks off, or waits for news that do not come
            client.get("/gradio_api/queue/data?session_hash=nothing1", timeout=5)
    assert "Traceback" not in log.read_text()
