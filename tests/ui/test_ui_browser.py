"""The page in headless Chromium, against a server of its own with a random model: prompts, and what is made of them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from shortcut_gen.media import Note, Score, read_score
from tests.shared.pages import NEW_NOTES, download, fill, finish, more, save_take, shorter, speech

pytestmark = pytest.mark.browser


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
