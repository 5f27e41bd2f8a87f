"""What the page draws of notes, in headless Chromium."""

import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from tests.shared.pages import begin, fill, finish, look_inside, save_take, settled, shorter, speech, unfolded

pytestmark = pytest.mark.browser

# The colour in the middle of a roll's first note that lies neither on a black key's row nor by a line, and what the
# scheme says it is.
COLOURS = """() => {
    const roll = document.querySelector("#prompt .roll");
    const canvas = roll.querySelector(".field canvas");
    const box = canvas.getBoundingClientRect();
    const scene = window.figures.scene(roll);
    const note = scene.notes.find(({ pitch }) => [4, 7, 9].includes(pitch % 12));
    const [x, y, w, h] = window.figures.place(note, scene, canvas.width, canvas.height);
    const [r, g, b, a] = canvas.getContext("2d").getImageData(x + w / 2, y + h / 2, 1, 1).data;
    const paint = document.createElement("canvas").getContext("2d");
    paint.fillStyle = window.figures.colours(roll).old;
    paint.fillRect(0, 0, 1, 1);
    return { found: [r, g, b], alpha: a, named: [...paint.getImageData(0, 0, 1, 1).data].slice(0, 3),
        sharp: canvas.width / box.width };
}"""


def test_a_roll_is_drawn_from_its_notes_in_the_colours_of_the_scheme(page: Any) -> None:
    light = page.evaluate(COLOURS)
    assert light["found"] == pytest.approx(light["named"], abs=12)
    assert light["alpha"] > 100
    page.emulate_media(color_scheme="dark")
    page.evaluate("document.body.classList.add('dark')")
    page.wait_for_function("getComputedStyle(document.body).getPropertyValue('--old').trim() === '#7db3e4'")
    page.wait_for_timeout(100)
    dark = page.evaluate(COLOURS)
    assert dark["found"] == pytest.approx(dark["named"], abs=12)
    assert dark["found"] != light["found"]
    page.set_viewport_size({"width": 390, "height": 844})
    page.wait_for_timeout(300)
    assert page.evaluate(COLOURS)["sharp"] == pytest.approx(light["sharp"], abs=0.02)


def test_what_grows_is_sent_once_and_not_built_anew(page: Any) -> None:
    answers: list[Any] = []
    page.on("response", lambda answer: answers.append(answer) if "/notes/" in answer.url else None)
    shorter(page)
    begin(page, 60, 2)
    page.wait_for_selector(".take .roll canvas")
    page.evaluate("window.first = document.querySelector('.take .roll')")
    page.wait_for_function("document.querySelector('.take h2 .facts').textContent.includes(' of 60 s')")
    page.wait_for_timeout(1500)
    page.wait_for_function(
        "[...document.querySelectorAll('.take .roll')].every((roll) => roll.figure.over.length > 20)"
    )
    assert page.evaluate("window.first.isConnected")
    page.click("#stop")
    page.wait_for_selector("#takes .take audio")
    page.wait_for_function("document.querySelector('.take .field').getAttribute('aria-label').includes('new note')")
    page.wait_for_timeout(500)
    told = [answer.json() for answer in answers]
    for place in range(2):
        sent = sum(len(each["rows"][place]["notes"]) for each in told if len(each["rows"]) > place) / 4
        roll = f"document.querySelectorAll('.take .roll')[{place}]"
        assert sent == page.evaluate(f"{roll}.figure.over.length") > 20
    assert told[-1]["done"]


# Pixels of a take's roll that have the colour of new notes.
INKED = """() => {
    const canvas = document.querySelector(".take .roll .field > canvas");
    if (!canvas) return 0;
    const paint = document.createElement("canvas").getContext("2d");
    paint.fillStyle = window.figures.colours(canvas.closest(".roll")).new;
    paint.fillRect(0, 0, 1, 1);
    const wanted = paint.getImageData(0, 0, 1, 1).data;
    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    let count = 0;
    for (let i = 0; i < data.length; i += 4)
        count += data[i + 3] > 60 && [0, 1, 2].every(k => Math.abs(data[i + k] - wanted[k]) < 12);
    return count;
}"""


def test_the_next_runs_and_steps_gone_back_to_are_drawn_too(page: Any) -> None:
    """Gradio puts them into the elements of the one before."""
    shorter(page)
    for seed in (5, 6):
        fill(page, "seed", seed)
        finish(page)
        page.wait_for_function(f"({INKED})() > 20")
    for button in ("The step before", "The step after"):
        page.get_by_role("button", name=button).click()
        page.wait_for_timeout(500)
        page.wait_for_function(f"({INKED})() > 20")


def test_a_step_that_is_shown_again_after_a_reload_has_its_notes(page: Any) -> None:
    shorter(page)
    finish(page)
    count = "document.querySelector('.take .roll').figure.over.length"
    page.wait_for_function(f"{count} > 20")
    before = page.evaluate(count)
    page.reload()
    page.wait_for_selector(".take .roll canvas")
    page.wait_for_function(f"{count} === {before}")


# Colours of the middles of notes in a finished take that the model drew, and of the taps they drew on most.
LAYERS = """() => {
    const roll = document.querySelector(".take .roll");
    const canvas = roll.querySelector(".field canvas");
    const scene = window.figures.scene(roll);
    const colours = window.figures.colours(roll);
    const clear = ({ pitch, start, end }) => end - start > 0.2 && [4, 7, 9].includes(pitch % 12);
    const wide = scene.notes.filter((note) => note.drew && clear(note));
    return wide.slice(0, 5).map((note) => {
        const [x, y, w, h] = window.figures.place(note, scene, canvas.width, canvas.height);
        const found = canvas.getContext("2d").getImageData(x + w / 2, y + h / 2, 1, 1).data;
        const { shares } = note.drew;
        const hex = window.figures.shade(colours, shares.indexOf(Math.max(...shares)), shares.length);
        return [[...found].slice(0, 3), [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16))];
    });
}"""


# The colours of new notes where layers are compared with the usual, beside those of the tap that is furthest beyond its
# mean, and how far.
BEYOND = """() => {
    const roll = document.querySelector(".take .roll");
    const scene = window.figures.scene(roll);
    const colours = window.figures.colours(roll);
    const fill = window.figures.fill(roll, scene, colours);
    const drew = scene.notes.filter((note) => note.drew);
    const all = (k) => drew.reduce((sum, note) => sum + note.drew.shares[k], 0);
    const mean = drew[0].drew.shares.map((_, k) => all(k) / drew.length);
    return drew.map((note) => {
        const more = note.drew.shares.map((share, k) => share - mean[k]);
        const k = more.indexOf(Math.max(...more));
        return [fill(note)[0], window.figures.shade(colours, k, more.length), more[k]];
    });
}"""


def test_layers_are_shown_by_the_keyboard_and_saved_as_pictures(page: Any, tmp_path: Path) -> None:
    shorter(page)
    finish(page)
    page.wait_for_selector("#takes .inside:not([hidden])")
    assert not page.locator("#takes .views").is_visible()  # folded, until it is wanted
    assert not page.locator("#takes .strip").count()
    page.locator("#takes .inside > summary").press("Enter")
    page.wait_for_selector("#takes .roll.deep .strip canvas")
    assert "layer 2" in page.locator("#takes .views .key").inner_text()
    assert "Attention, not cause" in page.locator("#takes .views .key").inner_text()
    for shown, colour, deviation in page.evaluate(BEYOND):
        assert shown == colour
        assert deviation > 0
    page.locator("#takes .views input").first.press("ArrowRight")
    page.wait_for_function("document.querySelector('#takes .views input[value=shares]').checked")
    told = page.locator("#takes .strip").get_attribute("aria-label")
    assert "layer 8" in told
    assert "nats" in told
    colours = page.evaluate(LAYERS)
    assert colours
    for found, named in colours:
        assert found == pytest.approx(named, abs=14)
    svg = picture(page, "SVG", tmp_path)
    assert svg.name.endswith("-shares.svg")
    drawing = ElementTree.parse(svg)
    texts = {each.text for each in drawing.iter("{http://www.w3.org/2000/svg}text")}
    assert {"layers", "surprise", "layer 8", "C4"} <= texts
    assert "Attention, not cause" in " ".join(str(text) for text in drawing.getroot().itertext())
    png = picture(page, "PNG", tmp_path).read_bytes()
    assert png.startswith(b"\x89PNG")
    assert int.from_bytes(png[16:20], "big") == 2400


def test_a_take_from_a_file_says_that_there_is_nothing_inside(page: Any, tmp_path: Path) -> None:
    shorter(page)
    finish(page)
    path = save_take(page, tmp_path)
    page.locator("#upload input[type=file]").set_input_files(path)
    page.wait_for_function("document.querySelector('#status').textContent.includes('1 step opened')")
    page.locator("#takes .inside > summary").click()
    page.wait_for_function("document.querySelector('#takes .views .key').textContent.includes('opened from a file')")
    assert page.locator("#takes .views input:visible").count() == 0
    page.locator(".together button", has_text="Once more").click()  # what it then says is so
    page.wait_for_selector("#takes .roll.deep .strip canvas")
    assert page.locator("#takes .views input:visible").count() == 4


# How much an unchosen radio button's edge stands out from what is around it (WCAG 2.2, contrast ratio).
CONTRAST = """(selector) => {
    const radio = document.querySelector(selector);
    const light = (colour) => {
        const parts = colour.match(/[\\d.]+/g).slice(0, 3).map((part) => part / 255);
        const [r, g, b] = parts.map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    let around = radio.parentElement;
    while (/, 0\\)$/.test(getComputedStyle(around).backgroundColor)) around = around.parentElement;
    const style = getComputedStyle(radio);
    const [one, other] = [style.borderTopColor, getComputedStyle(around).backgroundColor].map(light);
    return parseFloat(style.borderTopWidth) >= 1 ? (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05) : 0;
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_what_is_not_chosen_can_be_seen(page: Any, scheme: str) -> None:
    page.emulate_media(color_scheme=scheme)
    page.reload()
    page.wait_for_selector("#go:not([disabled])")
    shorter(page)
    finish(page)
    look_inside(page)
    for field in ("#takes .views", "#examples", "#variations", "#daring"):
        assert page.evaluate(CONTRAST, f"{field} input:not(:checked)") >= 3, field


def picture(page: Any, kind: str, folder: Path) -> Path:
    with page.expect_download() as waiting:
        page.locator(".take .picture:visible", has_text=kind).first.click()
    path = folder / waiting.value.suggested_filename
    waiting.value.save_as(path)
    return path


# Of the strips head by head the colours at the foot and at the head of each, beside those of the lowest and the highest
# tap: in a bin where both have a good share.
ALONG = """() => {
    const roll = document.querySelector(".take .roll");
    const canvas = document.querySelector(".take .along canvas");
    const { heads, taps, headStrips, seam, width } = roll.figure;
    const colours = window.figures.colours(roll);
    const [scale, size] = [canvas.width / canvas.clientWidth, heads.length * taps.length];
    const hex = (name) => [1, 3, 5].map((at) => parseInt(colours[name].slice(at, at + 2), 16));
    const found = [];
    heads.forEach((_, head) => {
        for (let k = 0; k * size < headStrips.length && found.length < 12; k++) {
            const share = (tap) => headStrips.charCodeAt(k * size + head * taps.length + tap) - 35;
            if (headStrips[k * size] === " " || share(0) < 12 || share(taps.length - 1) < 12) continue;
            const x = scale * canvas.clientWidth * (seam + (k + 0.5) * width) / Number(roll.dataset.seconds);
            for (const [y, name] of [[16.5, "tap0"], [1.5, "tap4"]]) {
                const { data } = canvas.getContext("2d").getImageData(x, scale * (head * 21 + y), 1, 1);
                found.push([[...data].slice(0, 3), hex(name)]);
            }
            break;
        }
    });
    return found.length ? found : [[[0], [999]]];
}"""


def test_a_click_on_a_note_says_what_it_attended_to(page: Any, tmp_path: Path) -> None:
    shorter(page)
    finish(page)
    look_inside(page)
    page.locator("#takes .views input[value=surprise]").check()
    page.locator(".take .heads summary").press("Enter")
    high = "document.querySelector('.take').getBoundingClientRect().height"
    before_it = settled(page, high)
    said = page.locator(".take .why .said")
    middle = page.evaluate(
        """() => {
            const roll = document.querySelector(".take .roll");
            const field = roll.querySelector(".field");
            field.scrollIntoView({ block: "center" });
            const box = field.getBoundingClientRect();
            const scene = window.figures.scene(roll);
            const note = scene.notes.filter(({ drew, end }) => drew && end < scene.seconds).at(-1);
            const [x, y, w, h] = window.figures.place(note, scene, box.width, box.height);
            return [box.left + x + w / 2, box.top + y + h / 2];
        }"""
    )
    page.mouse.click(*middle)
    page.wait_for_function("document.querySelector('.why .said').textContent.includes('probability of')")
    assert "Likeliest: " in said.inner_text()
    assert "It looked most at " in said.inner_text()
    assert settled(page, high) == before_it  # nothing moves
    assert page.evaluate("document.querySelector('.take audio').paused")  # the click explains, and does not play
    cells = page.locator(".take .heads tr").nth(1).locator("td").count()
    shares = [int(text.rstrip("%")) for text in page.locator(".take .heads td").all_inner_texts()]
    assert cells == 16
    for head in range(cells):  # each head's shares come to one
        assert sum(shares[head::cells]) == pytest.approx(100, abs=3)
    assert re.search(r"of [A-G]♯?-?\d at \d+\.\d s", page.locator(".take .heads table").get_attribute("aria-label"))
    drawing = ElementTree.parse(picture(page, "SVG", tmp_path))
    texts = [str(each.text) for each in drawing.iter("{http://www.w3.org/2000/svg}text")]
    assert any(text.startswith("Head by head, of ") for text in texts)
    assert any(text.startswith("The same along time") for text in texts)
    for found, named in page.evaluate(ALONG):
        assert found == pytest.approx(named, abs=14)
    before = said.inner_text()
    page.locator(".why button", has_text="Note before").press("Enter")
    page.wait_for_function(
        "before => document.querySelector('.why .said').textContent.includes('probability of')"
        " && document.querySelector('.why .said').textContent !== before",
        arg=before,
    )


# Of a drawing of sound the colours in its wave, well before and after the seam, beside those of the scheme.
WAVES = """() => {
    const roll = document.querySelector("#speech-takes .roll");
    const canvas = roll.querySelector(".field canvas");
    const [scene, colours] = [window.figures.scene(roll), window.figures.colours(roll)];
    const at = (time) => [...canvas.getContext("2d").getImageData(
        canvas.width * time / scene.seconds, canvas.height * 0.15, 1, 1).data].slice(0, 3);
    const hex = (name) => [1, 3, 5].map((k) => parseInt(colours[name].slice(k, k + 2), 16));
    return [[at(scene.seam / 2), hex("old")], [at((scene.seam + scene.seconds) / 2), hex("new")]];
}"""


def test_sound_is_drawn_in_the_browser_and_sent_once(page: Any) -> None:
    tab = speech(page)
    whole = """() => {
        const { figure, dataset } = document.querySelector('#speech-prompt .roll');
        return Math.abs(figure.peaks.length - 40 * dataset.seconds) <= 1 && dataset.seconds;
    }"""
    first = page.wait_for_function(whole).json_value()
    page.locator("#speech-examples label").nth(1).click()
    page.wait_for_function(f"first => ({whole})() && ({whole})() !== first", arg=first)
    shorter(page, tab=tab)
    page.locator("#speech-variations label", has_text="2").click()
    answers: list[Any] = []
    page.on("response", lambda answer: answers.append(answer) if "/notes/" in answer.url else None)
    finish(page, tab)
    for place in range(2):
        page.wait_for_function(
            f"document.querySelectorAll('#speech-takes .roll')[{place}].figure.peaks.length === 320", timeout=20_000
        )
    for found, named in page.evaluate(WAVES):
        assert found == pytest.approx(named, abs=12)
    told = [answer.json() for answer in answers]
    rows = [[each["rows"][place] for each in told if len(each["rows"]) > place] for place in range(2)]
    assert sum(len(row["peaks"]) for row in rows[0]) == 320
    assert 160 <= sum(len(row["peaks"]) for row in rows[1]) < 165  # the prompt is that of the first
    page.locator("#speech-variations label", has_text="1").click()
    fill(page, "speech-seed", 6)
    finish(page, tab)  # Gradio puts it into the elements of the one before
    page.wait_for_function("document.querySelector('#speech-takes .roll').figure.peaks.length === 320")
    for found, named in page.evaluate(WAVES):
        assert found == pytest.approx(named, abs=12)
    said = page.locator("#speech-takes .field").first.get_attribute("aria-label")
    assert said == "Loudness and spectrogram: 4.0 s of the prompt, then 4.0 s new."


def test_speech_has_the_strip_and_pictures_too(page: Any, tmp_path: Path) -> None:
    tab = speech(page)
    shorter(page, tab=tab)
    finish(page, tab)
    look_inside(page, tab)
    views = page.locator("#speech-takes .views label:visible").all_inner_texts()
    assert views == ["Layers", "Raw shares", "Surprise", "Loudness"]
    page.wait_for_selector("#speech-takes .strip[aria-label*='layer 2']")
    page.locator("#speech-takes .heads summary").click()
    page.wait_for_selector("#speech-takes .along canvas")
    assert page.locator("#speech-takes .heads tr").count() == 3
    drawing = ElementTree.parse(picture(page, "SVG", tmp_path))
    texts = {each.text for each in drawing.iter("{http://www.w3.org/2000/svg}text")}
    assert {"1 kHz", "layers", "layer 2", "Head by head, of all new frames, on average"} <= texts
    image = next(drawing.iter("{http://www.w3.org/2000/svg}image"))
    assert image.get("href", "").startswith("data:image/png;base64,")
    assert picture(page, "PNG", tmp_path).read_bytes().startswith(b"\x89PNG")


def test_the_shortcuts_are_those_of_the_model_that_is_chosen(page: Any) -> None:
    tab = speech(page)
    shorter(page, tab=tab)
    shortcuts = page.locator("#tabs .shortcuts:visible")
    shortcuts.locator("button").first.click()
    fill(page, "speech-tap-2", 0.5)
    page.wait_for_function("document.querySelector('#speech-gains textarea, #speech-gains input').value === '1,0.5'")
    page.locator("#speech-checkpoint input").click()
    page.get_by_role("option", name="speech-plain").click()
    page.wait_for_function("document.querySelector('#speech-gains textarea, #speech-gains input').value === '1,1'")
    assert "This model has no shortcuts" in shortcuts.inner_text()
    assert not shortcuts.locator("input").count()
    finish(page, tab)
    assert "s of speech in" in page.locator("#speech-status").inner_text()


def test_a_tap_is_turned_down_and_what_it_costs_is_said(page: Any) -> None:
    shorter(page)
    page.locator("#tabs .shortcuts button").first.click()
    unfolded(page, "#tap-1 input[type=number]")
    fill(page, "tap-1", 0)
    page.wait_for_function("document.querySelector('#gains textarea, #gains input').value === '0,1,1,1'")
    finish(page)
    assert "nats a token" in page.locator("#status").inner_text()
    page.wait_for_selector("#takes .inside:not([hidden])")
    shares = page.evaluate("window.figures.scene(document.querySelector('.take .roll')).notes.at(-1).drew.shares")
    assert shares[0] == pytest.approx(0, abs=0.001)
    assert sum(shares) == pytest.approx(1, abs=0.01)
