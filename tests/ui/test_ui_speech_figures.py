"""Pictures of sound: loudness and spectrogram, whole or growing."""

import base64
import json
import re
import zlib
from pathlib import Path

import numpy as np
import pytest

from shortcut_gen.media import Audio
from ui.notes import sounds
from ui.sessions import Run
from ui.speech_figures import BANDS, FIRST, LEVELS, Analysis, Sketch, columns, describe, drawing, prompt_drawing


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
    assert whole.levels.shape == (len(whole.peaks), BANDS)
    assert len(whole.peaks) == -(-len(samples) // whole.hop)
    # On the edge between two levels a rounding may decide.
    assert np.abs(whole.levels.astype(int) - pieces.levels).max() <= 1
    assert (whole.levels != pieces.levels).mean() < 0.01
    assert whole.seconds == pytest.approx(1.37, abs=1e-3)


def test_a_higher_tone_is_drawn_higher() -> None:
    def row(frequency: float) -> int:
        levels = analysis_of(0.5 * np.sin(2 * np.pi * frequency * np.arange(16000) / 16000)).levels
        return int(levels[20].argmax())

    rows = [row(frequency) for frequency in (150, 500, 1500, 4000, 7000)]
    assert rows == sorted(set(rows))


def test_what_a_drawing_says_of_prompt_and_continuation() -> None:
    sketch = Sketch(sample_rate=16000, seam=2.0, seconds=10.0)
    assert describe(sketch, 3.0).endswith("2.0 s of the prompt, then 1.0 s new.")
    html = drawing(sketch, "said", "notes/x#0")
    assert 'class="seam" style="left:20.000%"' in html
    assert 'data-rate="40.000"' in html
    prompt = prompt_drawing(Audio(tone(3)[None].astype(np.float32), 16000), 0.5, 1.0)
    assert "1.0 s of the prompt, 2.0 s of the file not used" in prompt
    told = json.loads(zlib.decompress(base64.b64decode(re.findall('data-packed="([^"]*)"', prompt)[0])))
    assert len(told["peaks"]) == 120
    assert len(told["spectrum"]) == 120 * BANDS


def test_half_a_minute_is_a_small_drawing() -> None:
    noise = np.random.default_rng(0).standard_normal((1, 30 * 16000)).astype(np.float32) * 0.1
    assert len(prompt_drawing(Audio(noise, 16000), 0.0, 10.0)) < 60_000


def test_a_column_is_told_once_and_a_common_prompt_with_the_first_variation() -> None:
    prompt, rate = tone(2), 16000
    rest = [0.1 * np.random.default_rng(k).standard_normal(3 * rate) for k in range(2)]
    whole = [analysis_of(np.concatenate([prompt, each])) for each in rest]
    growing = [Analysis(rate), Analysis(rate)]
    run = Run(Path(), [], sounds=tuple(growing))
    seen: list[list[int]] = [[], []]
    text = ["", ""]
    for second in range(6):
        for each, new in zip(growing, rest, strict=True):
            if second < 5:
                each.extend(np.concatenate([prompt, new])[second * rate : (second + 1) * rate].astype(np.float32))
            else:
                each.finish()
        for place, row in enumerate(sounds(run, [len(each) for each in seen])):
            known = place if row["after"] <= len(seen[place]) else 0
            seen[place] = seen[known][: row["after"]] + row["peaks"]
            text[place] = text[known][: row["after"] * BANDS] + row["spectrum"]
            if second < 2 and place:
                assert row["peaks"] == []
    for place, each in enumerate(whole):
        assert seen[place] == columns(each).peaks.tolist()
        levels = np.frombuffer(text[place].encode(), np.uint8).reshape(-1, BANDS) - FIRST
        assert np.abs(levels.astype(int) - columns(each).levels).max() <= 1
        assert levels.max() < LEVELS


def test_sounds_of_a_rate_share_what_their_pictures_are_made_with() -> None:
    """A step keeps its sounds for as long as it is kept itself."""
    one, two, other = Analysis(16000), Analysis(16000), Analysis(24000)
    assert one._filters is two._filters
    assert one._filters.shape[0] < other._filters.shape[0]
