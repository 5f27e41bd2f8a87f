"""Faults of a continuation: each is found in an excerpt made to have it, and none in music that has none."""

import numpy as np
import pytest

from shortcut_gen.media import Audio, Note, Score
from training.scoring.faults import CLICK, of_notes, of_sound, outside
from training.scoring.music import Excerpt

SECONDS = 30.0


def notes(*groups: tuple[float, float, float, list[int]]) -> Excerpt:
    """Groups of (first onset, last, seconds between onsets, pitches by turns), each note as long as its gap."""
    made = [
        Note(pitch=pitches[k % len(pitches)], velocity=64, start=float(at), end=min(float(at) + gap, SECONDS))
        for start, end, gap, pitches in groups
        for k, at in enumerate(np.arange(start, end, gap))
    ]
    return Excerpt.of(Score(notes=tuple(sorted(made, key=lambda note: (note.start, note.pitch)))), 0.0, SECONDS)


STEADY = notes((0, 30, 0.25, [60, 64, 67, 72, 69]))


@pytest.mark.parametrize(
    ("excerpt", "fault", "value"),
    [
        (notes((0, 10, 0.25, [60, 64, 67]), (16, 30, 0.25, [60, 64, 67])), "silence", 6.0),
        (notes((0, 30, 0.25, [60, 64, 67]), (2, 3, 9.0, [40])), "held", 1),
        (notes((0, 30, 0.25, [60, 64, 67]), (10, 11, 0.1, [70])), "again", 10),
        (notes((0, 20, 0.25, [60, 64, 67]), (20, 30, 2.0, [60, 64, 67])), "thinning", -3.0),
        (notes(*[(0, 30, 0.25, [60 + k]) for k in range(12)]), "piling", 12),
        (notes((0, 21, 0.25, [60, 64, 67])), "stops", 9.25),
        (notes((0, 15, 0.25, [60, 64, 67]), (15, 30, 0.25, [60, 62])), "stuck", 15.0),
    ],
)
def test_a_fault_is_found_where_it_is(excerpt: Excerpt, fault: str, value: float) -> None:
    measures, usual = of_notes(STEADY, excerpt), of_notes(STEADY, STEADY)
    assert measures[fault] == pytest.approx(value, abs=0.5)
    assert fault in outside([measures], [usual])[0]
    assert outside([usual], [usual]) == [{}]


def test_nothing_at_all_is_silence() -> None:
    nothing = Excerpt.of(Score(notes=()), 0.0, SECONDS)
    measures = of_notes(STEADY, nothing)
    assert measures["silence"] == measures["stops"] == SECONDS
    assert np.isfinite(list(measures.values())).all()


def test_what_is_wrong_with_sound_is_heard() -> None:
    rate = 8000
    tone = 0.5 * np.sin(2 * np.pi * 220 * np.arange(4 * rate) / rate)
    broken = tone.copy()
    broken[rate : 2 * rate] = 0
    broken[3 * rate] = 1.0
    fine, found = (of_sound(Audio(np.stack([samples] * 2).astype(np.float32), rate)) for samples in (tone, broken))
    assert (fine["clicks"], fine["quiet seconds"], fine["at full scale"]) == (0, 0, 0)
    assert fine["peak"] == pytest.approx(0.5, abs=0.01)
    assert found["clicks"] >= 1 > CLICK
    assert found["quiet seconds"] == pytest.approx(1, abs=0.1)
    assert found["at full scale"] > 0
    assert found["seconds"] == 4
