"""The piano roll and the example prompts."""

import pytest

from shortcut_gen.decoding.sampling import SamplingParams
from shortcut_gen.media import Note, Score, read_score
from shortcut_gen.modalities.piano import PianoTokenizer
from shortcut_gen.pipeline import Continuation, Prompt
from ui.examples.listing import EXAMPLES, load_examples
from ui.examples.make import main, perform, pitch_number, read_voice
from ui.examples.scores import PIECES
from ui.notes import counts, row
from ui.piano_figures import Roll, describe, numbers, piano_roll, time_step
from ui.text.pictures import clock, pitch


def note(pitch: int, start: float, end: float, velocity: int = 64) -> Note:
    return Note(pitch=pitch, velocity=velocity, start=start, end=end)


def grown(prompt: tuple[int, ...], ids: tuple[int, ...]) -> Continuation:
    return Continuation(
        prompt=Prompt.empty(),
        prompt_ids=prompt,
        ids=ids,
        seed=1,
        variation=0,
        params=SamplingParams(seconds=30.0),
        tokenizer=PianoTokenizer(),
    )


@pytest.fixture
def score() -> Score:
    return Score(notes=(note(60, 0.0, 1.0, 30), note(64, 0.5, 1.5, 100), note(67, 2.0, 3.0)))


def test_a_prompts_notes_are_in_its_roll_and_a_runs_are_asked_for(score: Score) -> None:
    html = piano_roll(Roll(score=score, seam=2.0, seconds=10.0))
    assert 'data-notes="60,30,0,100,64,100,50,100,67,64,200,100"' in html
    assert 'class="seam" style="left:20.000%"' in html
    html = piano_roll(Roll(score=score, seam=2.0, seconds=10.0), "notes/ab#1", "Growing.")
    assert 'data-from="notes/ab#1"' in html
    assert "data-notes" not in html
    assert 'aria-label="Growing."' in html


def test_the_time_axis_reaches_as_far_as_the_notes() -> None:
    html = piano_roll(Roll(score=Score(notes=(note(60, 0.0, 25.0),)), seam=1.0, seconds=5.0))
    assert 'data-seconds="25.000"' in html


def test_a_note_is_sent_once_when_it_has_ended() -> None:
    """However the ids come, the notes that have ended are the same in the same order, and in the end all are there."""
    tokenizer = PianoTokenizer()
    score = read_score(EXAMPLES / "joplin-entertainer.mid")
    ids = tuple(tokenizer.encode(score))
    seen: list[int] = []
    for count in range(40, len(ids) + 1, 33):
        made = grown(ids[:40], ids[40:count])
        told = row(made, False, len(seen) // 4)
        assert told["after"] == len(seen) // 4
        seen += told["notes"]
        shown = sorted(zip(*[iter(seen + told["open"])] * 4, strict=True))
        assert shown == sorted(zip(*[iter(numbers(made.score.notes))] * 4, strict=True))
    last = row(grown(ids[:40], ids[40:]), True, len(seen) // 4)
    assert last["open"] == []
    assert len(seen) + len(last["notes"]) == 4 * len(score.notes)


@pytest.mark.parametrize(("text", "counts_"), [("", [0]), ("3,x,-1,9999999999", [3, 0, 0, 0]), ("1,2", [1, 2])])
def test_what_a_page_says_it_has(text: str, counts_: list[int]) -> None:
    assert counts(text) == counts_


def test_the_picture_is_told_in_words(score: Score) -> None:
    text = describe(Roll(score=score, seam=2.0, seconds=10.0))
    assert text == "Piano roll: 2 notes of the prompt in 2.0 s, then 1 new note up to 3.0 s; from C4 to G4."
    assert f'role="img" aria-label="{text}"' in piano_roll(Roll(score=score, seam=2.0, seconds=10.0))
    assert "empty" in describe(Roll(score=Score(notes=()), seam=0.0, seconds=10.0))


def test_names_and_marks() -> None:
    assert [pitch(number) for number in (21, 60, 61, 108)] == ["A0", "C4", "C♯4", "C8"]
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
