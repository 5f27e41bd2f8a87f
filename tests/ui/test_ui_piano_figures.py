"""The piano roll and the example prompts."""

import re
import time

import pytest

from shortcut_gen.media import Note, Score, read_score
from ui.examples.listing import EXAMPLES, load_examples
from ui.examples.make import main, perform, pitch_number, read_voice
from ui.examples.scores import PIECES
from ui.piano_figures import Roll, clock, describe, piano_roll, pitch_name, pitch_range, time_step


def note(pitch: int, start: float, end: float, velocity: int = 64) -> Note:
    return Note(pitch=pitch, velocity=velocity, start=start, end=end)


@pytest.fixture
def score() -> Score:
    return Score(notes=(note(60, 0.0, 1.0, 30), note(64, 0.5, 1.5, 100), note(67, 2.0, 3.0)))


def strokes(html: str, name: str) -> list[str]:
    return [stroke for d in re.findall(rf'class="{name}"[^>]* d="([^"]*)"', html) for stroke in d.split("M")[1:]]


def test_notes_before_the_seam_are_the_prompt_and_later_ones_new(score: Score) -> None:
    html = piano_roll(Roll(score=score, seam=2.0, seconds=10.0))
    assert len(strokes(html, "old")) == 2
    assert strokes(html, "new") == ["200 114h100"]
    assert 'class="seam" style="left:20.000%"' in html


def test_louder_notes_are_drawn_darker(score: Score) -> None:
    html = piano_roll(Roll(score=score, seam=2.0, seconds=10.0))
    shades = [float(value) for value in re.findall(r'class="old" opacity="([\d.]+)"', html)]
    assert len(shades) == 2
    assert shades == sorted(shades)


def test_the_time_axis_holds_still_while_notes_arrive(score: Score) -> None:
    one = piano_roll(Roll(score=score, seam=2.0, seconds=10.0))
    more = Score(notes=(*score.notes, note(72, 3.0, 9.0)))
    two = piano_roll(Roll(score=more, seam=2.0, seconds=10.0))
    assert re.findall(r'viewBox="[^"]*"', one) == re.findall(r'viewBox="[^"]*"', two)


def test_the_axes_reach_as_far_as_the_notes() -> None:
    assert pitch_range([]) == (36, 95)
    assert pitch_range([note(21, 0, 1), note(108, 0, 1)]) == (12, 119)
    html = piano_roll(Roll(score=Score(notes=(note(60, 0.0, 25.0),)), seam=1.0, seconds=5.0))
    assert 'data-seconds="25.000"' in html


def test_the_picture_is_told_in_words(score: Score) -> None:
    text = describe(Roll(score=score, seam=2.0, seconds=10.0))
    assert text == "Piano roll: 2 notes of the prompt in 2.0 s, then 1 new note up to 3.0 s; from C4 to G4."
    assert f'role="img" aria-label="{text}"' in piano_roll(Roll(score=score, seam=2.0, seconds=10.0))
    assert "empty" in describe(Roll(score=Score(notes=()), seam=0.0, seconds=10.0))


def test_a_long_roll_is_small_and_quick() -> None:
    notes = tuple(note(36 + i % 60, i * 0.05, i * 0.05 + 0.3, i % 128) for i in range(4000))
    roll = Roll(score=Score(notes=notes), seam=20.0, seconds=200.0)
    began = time.perf_counter()
    html = piano_roll(roll)
    assert time.perf_counter() - began < 0.5
    assert len(html) < 120_000


def test_names_and_marks() -> None:
    assert [pitch_name(pitch) for pitch in (21, 60, 61, 108)] == ["A0", "C4", "C♯4", "C8"]
    assert [clock(seconds) for seconds in (0, 8.4, 60, 125)] == ["0 s", "8 s", "1:00", "2:05"]
    for seconds in (0.5, 7, 35, 61, 240, 9_000):
        assert seconds / time_step(seconds) <= 8


@pytest.mark.parametrize("piece", PIECES, ids=lambda piece: piece.slug)
def test_the_voices_of_a_piece_agree(piece) -> None:  # type: ignore[no-untyped-def]
    ends = {max(n.beat + n.beats for n in read_voice(voice, piece)) for voice in piece.voices}
    longest = max(ends)
    assert longest % piece.bar == 0
    # An inner voice may fall silent early; the outer ones end together.
    assert len([end for end in ends if end == longest]) == 1
    assert sum(max(n.beat + n.beats for n in read_voice(v, piece)) == longest for v in piece.voices) >= 2


def test_pitch_names_of_the_scores() -> None:
    assert [pitch_number(name) for name in ("c4", "bb3", "b3", "f#5", "a0")] == [60, 58, 59, 78, 21]
    with pytest.raises(ValueError, match="h4"):
        pitch_number("h4")


def test_the_committed_examples_are_what_the_script_makes() -> None:
    table = load_examples()
    assert len(table) >= 6
    assert len({example.character for example in table}) == len(table)
    for example, piece in zip(table, PIECES, strict=True):
        score = read_score(EXAMPLES / example.file)
        played = perform(piece).instruments[0].notes
        assert len(score.notes) == len(played)
        assert 12 <= score.duration <= 26
        assert score.duration == pytest.approx(example.seconds, abs=1.0)
        # A hand plays it: no two velocities alike for long, nothing on the clock.
        assert len({n.velocity for n in score.notes}) > 10


def test_the_script_writes_the_same_every_time(tmp_path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr("ui.examples.make.FOLDER", tmp_path)
    main()
    for file in [*(f"{piece.slug}.mid" for piece in PIECES), "index.json"]:
        assert (tmp_path / file).read_bytes() == (EXAMPLES / file).read_bytes()
