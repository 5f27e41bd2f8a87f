"""Sound of scores: loud enough, not cut off, in time, and without FluidSynth too."""

import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pretty_midi
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shortcut_gen.errors import MediaError, SettingsError
from shortcut_gen.media import Note, Score, one_hand, read_score
from shortcut_gen.media.render import (
    PEAK,
    RELEASE_SECONDS,
    GrowingRender,
    render,
    render_stream,
    renderer_name,
)
from shortcut_gen.media.synthesizer import SOUNDFONT_VARIABLE, fluidsynth_library, warm_up

needs_fluidsynth = pytest.mark.skipif(fluidsynth_library() is None, reason="FluidSynth's library is not installed")
RATE = 16_000  # quicker than 44.1 kHz


@pytest.fixture(autouse=True)
def small_soundfont(monkeypatch: pytest.MonkeyPatch) -> None:
    """pretty_midi's own soundfont: it loads in a moment, and is there on every machine."""
    font = Path(pretty_midi.__file__).with_name("TimGM6mb.sf2")
    monkeypatch.setenv(SOUNDFONT_VARIABLE, str(font))


@pytest.fixture
def no_fluidsynth(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As on a machine where importing fluidsynth raises."""
    fluidsynth_library.cache_clear()
    monkeypatch.setitem(__import__("sys").modules, "fluidsynth", None)
    yield
    fluidsynth_library.cache_clear()


def chord(velocity: int, *pitches: int, start: float = 0.0, end: float = 1.0) -> Score:
    return Score(notes=tuple(Note(pitch=p, velocity=velocity, start=start, end=end) for p in pitches))


def loudness(samples: np.ndarray, start: float, end: float) -> float:
    return float(np.abs(samples[:, int(start * RATE) : int(end * RATE)]).max(initial=0.0))


@needs_fluidsynth
def test_sound_is_stereo_in_time_and_rings_out() -> None:
    audio = render(chord(80, 60, 64, 67, start=1.0, end=2.0), sample_rate=RATE)
    assert audio.samples.dtype == np.float32
    assert audio.samples.shape == (2, round((2 + RELEASE_SECONDS) * RATE))
    assert loudness(audio.samples, 0, 0.99) < 1e-3
    assert 0.02 < loudness(audio.samples, 1.0, 1.2) < PEAK
    assert loudness(audio.samples, 3.45, 3.5) < 0.05 * loudness(audio.samples, 1.0, 1.2)
    assert not np.any(audio.samples[:, -1])
    assert np.any(audio.samples[0] != audio.samples[1])


@needs_fluidsynth
def test_the_same_score_gives_the_same_sound() -> None:
    score = chord(80, 60, 64)
    np.testing.assert_array_equal(render(score, sample_rate=RATE).samples, render(score, sample_rate=RATE).samples)


@needs_fluidsynth
def test_threads_render_side_by_side() -> None:
    some = [chord(80, 60 + k, 64 + k) for k in range(4)]
    alone = [render(score, sample_rate=RATE).samples for score in some]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda score: render(score, sample_rate=RATE).samples, some * 2))
    for one, two in zip(alone * 2, together, strict=True):
        np.testing.assert_array_equal(one, two)


@needs_fluidsynth
def test_the_loudest_chord_is_scaled_not_cut_off() -> None:
    audio = render(chord(127, *range(36, 96, 2), end=0.5), sample_rate=RATE)
    peak = np.abs(audio.samples).max()
    assert peak == pytest.approx(PEAK, abs=1e-4)
    assert (np.abs(audio.samples) > PEAK - 1e-3).sum() < 20  # a flat top would have many


@needs_fluidsynth
def test_no_note_hangs_whatever_overlaps() -> None:
    notes = [Note(pitch=60, velocity=90, start=0.1, end=0.1)] * 3  # no length, three at once
    notes += [Note(pitch=60, velocity=90, start=0.1, end=0.5), Note(pitch=60, velocity=90, start=0.3, end=0.4)]
    audio = render(Score(notes=tuple(notes)), sample_rate=RATE)
    assert loudness(audio.samples, 1.6, 1.9) < 0.02 * loudness(audio.samples, 0.1, 0.4)


@needs_fluidsynth
@pytest.mark.parametrize("block_seconds", [0.01, 0.3, 60.0])
def test_blocks_join_to_the_whole(block_seconds: float) -> None:
    score = Score(notes=(*chord(80, 60, 64).notes, *chord(60, 67, start=0.3).notes))
    blocks = list(render_stream(score, sample_rate=RATE, block_seconds=block_seconds))
    assert {block.sample_rate for block in blocks} == {RATE}
    joined = np.concatenate([block.samples for block in blocks], axis=1)
    np.testing.assert_allclose(joined, render(score, sample_rate=RATE).samples, atol=1e-6)


@needs_fluidsynth
def test_an_empty_score_is_silence() -> None:
    assert np.abs(render(Score(notes=()), sample_rate=RATE).samples).max() < 1e-6


@needs_fluidsynth
def test_the_name_says_what_renders_and_with_which_soundfont() -> None:
    warm_up()
    assert renderer_name().startswith("FluidSynth ")
    assert renderer_name().endswith(", TimGM6mb")


@needs_fluidsynth
def test_a_wrong_soundfont_is_said_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "none.sf2"
    monkeypatch.setenv(SOUNDFONT_VARIABLE, str(path))
    with pytest.raises(MediaError, match="which is no file"):
        render(chord(80, 60), sample_rate=RATE)
    path.write_bytes(b"RIFF no soundfont")
    with pytest.raises(MediaError, match="is no soundfont with a piano"):
        render(chord(80, 60), sample_rate=RATE)
    warm_up()


def test_settings_out_of_range_and_endless_scores_are_refused() -> None:
    with pytest.raises(SettingsError, match="8000 to 96000"):
        render(chord(80, 60), sample_rate=100)
    with pytest.raises(MediaError, match="at most 2 are rendered"):
        render(chord(80, 60, end=10_000.0))
    with pytest.raises(SettingsError, match="block_seconds"):
        next(render_stream(chord(80, 60), block_seconds=0))


@pytest.mark.usefixtures("no_fluidsynth")
def test_without_fluidsynth_midirenderer_sounds_and_it_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        audio = render(chord(90, 60, 64, start=0.5), sample_rate=RATE)
        blocks = list(render_stream(chord(90, 60, 64, start=0.5), sample_rate=RATE))
    assert len([r for r in caplog.records if "FluidSynth cannot be used" in r.message]) == 1
    assert audio.samples.shape == (2, round((1.0 + RELEASE_SECONDS) * RATE))
    assert loudness(audio.samples, 0, 0.45) < 1e-3
    assert loudness(audio.samples, 0.5, 1.0) > 0.02
    assert sum(block.samples.shape[1] for block in blocks) == audio.samples.shape[1]
    assert renderer_name() == "midirenderer, TimGM6mb (FluidSynth's library was not found)"


@pytest.mark.usefixtures("no_fluidsynth")
def test_without_any_renderer_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shortcut_gen.media.render._midirenderer", lambda: None)
    assert renderer_name().startswith("none")
    with pytest.raises(MediaError, match="install FluidSynth's library"):
        render(chord(90, 60))


def test_importing_the_renderer_prints_nothing_where_ci_is_set(root: Path) -> None:
    """Who starts a program of ours reads its output: pyfluidsynth would put a line of its own before it."""
    code = "from shortcut_gen.media.synthesizer import fluidsynth_library; fluidsynth_library()"
    command = [sys.executable, "-W", "ignore", "-c", code]
    environment = os.environ | {"CI": "1", "PYTHONPATH": str(root)}
    done = subprocess.run(command, capture_output=True, env=environment, check=True)
    assert done.stdout == b""


@needs_fluidsynth
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_growing_score_sounds_as_the_whole(data: st.DataObject) -> None:
    """However it is cut before its last tenth of a second, which is faded out; with notes open at the cuts, struck
    again, of no length: not a sample differs."""
    times = st.integers(0, 300).map(lambda tick: tick / 100)
    notes = data.draw(
        st.lists(
            st.tuples(st.integers(40, 44), st.integers(1, 127), times, st.integers(0, 150)), min_size=1, max_size=12
        )
    )
    score = Score(notes=one_hand([Note(pitch=p, velocity=v, start=s, end=s + d / 100) for p, v, s, d in notes]))
    sounds = max(note.end for note in score.notes) + 1.4
    cuts = sorted(min(cut, sounds) for cut in data.draw(st.lists(times, max_size=4)))
    pieces = []
    with GrowingRender(RATE) as growing:
        for cut in cuts:
            # As a tokenizer decodes what there is by then: what still sounds ends there for now.
            known = [replace(note, end=min(note.end, cut)) for note in score.notes if note.start < cut]
            pieces.append(growing.until(Score(notes=tuple(known)), cut))
        pieces.append(growing.rest(score))
    assert np.array_equal(np.concatenate(pieces, axis=1), render(score, sample_rate=RATE).samples)


@needs_fluidsynth
@pytest.mark.parametrize("seam", [4.0, 9.5, 15.25])
def test_what_begins_in_the_middle_sounds_as_if_all_before_had_been_played(root: Path, seam: float) -> None:
    """But for the echo, which FluidSynth lets waver by the time since it began; with long notes, and struck again."""
    score = read_score(root / "ui" / "examples" / "chopin-prelude-e-minor.mid").slice(0.0, seam + 2.0)
    held = Note(pitch=36, velocity=100, start=0.5, end=seam + 1.0)
    struck = Note(pitch=84, velocity=100, start=seam - 3.0, end=seam - 2.9)
    score = Score(notes=one_hand([*score.notes, held, struck, replace(struck, start=seam - 0.5, end=seam + 0.5)]))
    whole = render(score, sample_rate=RATE).samples
    with GrowingRender(RATE) as growing:
        growing.begin(score, seam)
        heard = np.concatenate([growing.until(score, seam + 1.0), growing.rest(score)], axis=1)
        with pytest.raises(ValueError, match="has begun"):
            growing.begin(score, seam)
    behind = whole[:, round(seam * RATE) :]
    assert heard.shape == behind.shape
    assert np.abs(behind).max() > 0.03
    assert np.abs(heard - behind).max() < 0.01  # 0.1 and more where what rings is missing, or a sample late
