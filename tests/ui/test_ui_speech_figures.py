"""Pictures of sound: loudness and spectrogram, whole or growing."""

import io
import re

import numpy as np
import pytest

from shortcut_gen.media import Audio
from ui.speech_figures import BANDS, LEVELS, Analysis, Sketch, describe, drawing, opacity_png, sketch_of


def tone(seconds: float, rate: int = 16000) -> np.ndarray:
    return 0.3 * np.sin(np.arange(round(seconds * rate)) * 0.1)


def analysis_of(samples: np.ndarray, rate: int = 16000, piece: int | None = None) -> Analysis:
    made = Analysis(rate)
    for at in range(0, len(samples), piece or len(samples)):
        made.extend(samples[at : at + (piece or len(samples))].astype(np.float32))
    made.finish()
    return made


@pytest.mark.parametrize("rate", [8000, 16000, 24000, 44100])
def test_sound_that_arrives_in_pieces_looks_the_same(rate: int) -> None:
    samples = np.random.default_rng(0).standard_normal(round(1.37 * rate)) * 0.1
    whole, pieces = analysis_of(samples, rate), analysis_of(samples, rate, piece=577)
    assert whole.peaks.shape == pieces.peaks.shape
    assert whole.bands.shape == (len(whole.peaks), BANDS)
    assert len(whole.peaks) == -(-len(samples) // whole.hop)
    assert np.abs(whole.bands - pieces.bands).max() < 1e-3
    assert whole.seconds == pytest.approx(1.37, abs=1e-3)


def test_a_higher_tone_is_drawn_higher() -> None:
    def row(frequency: float) -> int:
        bands = analysis_of(0.5 * np.sin(2 * np.pi * frequency * np.arange(16000) / 16000)).bands
        return int(bands[20].argmax())

    rows = [row(frequency) for frequency in (150, 500, 1500, 4000, 7000)]
    assert rows == sorted(set(rows))


def test_before_the_seam_is_the_prompt_and_after_it_is_new() -> None:
    sound = analysis_of(tone(3))
    html = drawing(Sketch(analysis=sound, seam=2.0, seconds=10.0))
    assert 'class="seam" style="left:20.000%"' in html
    assert [(name, style) for name, style in re.findall(r'class="spectrum (\w+)" style="([^-]*);', html)] == [
        ("old", "left:0.000%;width:20.000%"),
        ("new", "left:20.000%;width:10.000%"),
    ]
    assert re.findall(r'<path class="(\w+)"', html) == ["old", "new"]
    assert describe(Sketch(analysis=sound, seam=2.0, seconds=10.0)).endswith("2.0 s of the prompt, then 1.0 s new.")
    prompt = drawing(sketch_of(Audio(tone(3)[None].astype(np.float32), 16000), 0.0, 1.0))
    assert 'class="spectrum unused"' in prompt
    assert "2.0 s of the file not used" in prompt
    empty = drawing(Sketch(analysis=Analysis(16000), seam=0.0, seconds=10.0))
    assert "<path" not in empty


def test_the_time_axis_holds_still_while_sound_arrives() -> None:
    boxes = {
        re.findall(r'viewBox="([^"]*)"', drawing(Sketch(analysis=analysis_of(tone(s)), seam=2.0, seconds=10.0)))[0]
        for s in (2, 5, 9)
    }
    assert len(boxes) == 1


def test_half_a_minute_is_a_small_drawing() -> None:
    noise = np.random.default_rng(0).standard_normal(30 * 16000) * 0.1
    assert len(drawing(Sketch(analysis=analysis_of(noise), seam=10.0, seconds=30.0))) < 120_000


def test_opacity_is_a_png_that_holds_the_values() -> None:
    from PIL import Image

    values = np.random.default_rng(0).integers(0, LEVELS, (5, 7)).astype(np.uint8)
    image = Image.open(io.BytesIO(opacity_png(values))).convert("RGBA")
    assert image.size == (7, 5)
    alpha = np.asarray(image)[..., 3]
    assert (alpha == np.rint(values.astype(float) * 255 / (LEVELS - 1))).all()
