"""Piano tokens: exact within a tick and a bin, no note lost, any ids decode, and a grammar that never dead-ends."""

import random
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from shortcut_gen.errors import PromptError
from shortcut_gen.media import Audio, Note, Score, parse_score, read_score
from shortcut_gen.modalities.base import Tokenizer
from shortcut_gen.modalities.piano import (
    MAX_NOTE_SECONDS,
    MAX_SOUNDING,
    NOTE_OFF,
    NOTE_ON,
    TICKS_PER_SECOND,
    TIME_SHIFT,
    VELOCITY,
    VOCAB_SIZE,
    PianoGrammar,
    PianoTokenizer,
    bin_velocity,
    velocity_bin,
)
from tests.shared import midi_files as mf
from training import check_tokens

PIANO = PianoTokenizer()
EXACT = 0.005 + 1e-9


def note(pitch: int, start: float, end: float, velocity: int = 64) -> Note:
    return Note(pitch=pitch, velocity=velocity, start=start, end=end)


def scores(pitches: st.SearchStrategy[int], longest: int = 3_000_000) -> st.SearchStrategy[Score]:
    """Scores with times in whole microseconds, so that many fall within one tick and some are far apart."""
    starts = st.one_of(st.integers(0, 30_000), st.integers(0, 4_000_000), st.sampled_from([20_000_000, 5_000, 15_000]))
    lengths = st.one_of(st.integers(0, 20_000), st.integers(0, longest))
    notes = st.builds(
        lambda pitch, velocity, start, length: note(pitch, start / 1e6, (start + length) / 1e6, velocity),
        pitches,
        st.integers(1, 127),
        starts,
        lengths,
    )
    return st.lists(notes, min_size=1, max_size=40).map(lambda some: Score(notes=tuple(some)))


SCORES = st.one_of(scores(st.integers(0, 127)), scores(st.integers(60, 62)))
IDS = st.lists(st.integers(0, VOCAB_SIZE - 1), max_size=200)


def permits(ids: Sequence[int], grammar: PianoGrammar | None = None) -> bool:
    """True if the grammar allows every id where it stands."""
    grammar = grammar or PianoTokenizer(max_note_seconds=1e6, max_sounding=128).grammar()
    for token in ids:
        if not grammar.allowed()[token]:
            return False
        grammar.advance(token)
    return True


def by_pitch(score: Score) -> list[Note]:
    return sorted(score.notes, key=lambda n: (n.pitch, n.start, n.end))


# The encoding itself


def test_the_symbols_are_magentas() -> None:
    assert isinstance(PIANO, Tokenizer)
    assert (PIANO.name, PIANO.vocab_size) == ("piano", 388)
    assert (NOTE_ON, NOTE_OFF, TIME_SHIFT, VELOCITY, VOCAB_SIZE) == (0, 128, 256, 356, 388)


def test_the_example_of_the_music_transformer_paper() -> None:
    """Figure 7 of arXiv 1809.04281: an arpeggio held by the pedal, then one more note."""
    velocity = 80
    chord = [note(60, 0.0, 2.0, velocity), note(64, 0.5, 2.0, velocity), note(67, 1.0, 2.0, velocity)]
    ids = PIANO.encode(Score(notes=(*chord, note(65, 2.5, 3.0, 100))))
    half, whole = TIME_SHIFT + 49, TIME_SHIFT + 99
    assert ids == [
        *(VELOCITY + velocity_bin(80), 60, half, 64, half, 67, whole, NOTE_OFF + 60, NOTE_OFF + 64, NOTE_OFF + 67),
        *(half, VELOCITY + velocity_bin(100), 65, half, NOTE_OFF + 65),
    ]
    assert PIANO.describe(ids[:3]) == ["velocity 78", "on 60", "wait 0.50 s"]
    assert PIANO.describe(ids[-1:]) == ["off 65"]


def test_every_velocity_falls_in_its_bin_and_a_bin_in_itself() -> None:
    bins = [velocity_bin(velocity) for velocity in range(1, 128)]
    assert bins == sorted(bins)
    assert set(bins) == set(range(32))
    assert all(velocity_bin(bin_velocity(index)) == index and 1 <= bin_velocity(index) <= 127 for index in range(32))
    assert all(abs(bin_velocity(velocity_bin(velocity)) - velocity) <= 2 for velocity in range(1, 128))


@settings(max_examples=300, deadline=None)
@given(SCORES)
@example(Score(notes=(note(60, 1, 1),)))
@example(Score(notes=(note(60, 1, 1), note(60, 1, 1), note(60, 1, 2), note(60, 1.004, 3), note(60, 1.0051, 1.0052))))
@example(Score(notes=tuple(note(48 + k, 0.1, 0.2) for k in range(12))))
@example(Score(notes=(note(60, 0, 0.5), note(60, 20.5, 21), note(127, 0.5, 20.5), note(0, 20.5, 20.5))))
def test_no_note_is_lost_and_all_are_exact(score: Score) -> None:
    ids = PIANO.encode(score)
    decoded = PIANO.decode(ids)
    before, after = by_pitch(score), by_pitch(decoded)
    assert [n.pitch for n in after] == [n.pitch for n in before]
    for index, (old, new) in enumerate(zip(before, after, strict=True)):
        following = before[index + 1] if index + 1 < len(before) and before[index + 1].pitch == old.pitch else None
        end = min(old.end, following.start) if following else old.end  # a note struck again ends first
        assert abs(new.start - old.start) <= EXACT
        assert abs(new.end - end) <= EXACT
    # Notes of one pitch and one onset may change places, so velocities are compared as a bag where that happens.
    assert sorted((n.pitch, velocity_bin(n.velocity)) for n in after) == sorted(
        (n.pitch, velocity_bin(n.velocity)) for n in before
    )
    assert permits(ids)
    assert PIANO.encode(decoded) == ids
    assert PIANO.seconds(ids) == pytest.approx(decoded.duration)


def test_time_does_not_drift_over_an_hour() -> None:
    score = Score(notes=tuple(note(60, k * 0.1234567, k * 0.1234567 + 0.05) for k in range(30_000)))
    decoded = PIANO.decode(PIANO.encode(score))
    assert max(abs(a.start - b.start) for a, b in zip(score.notes, decoded.notes, strict=True)) <= EXACT


def test_a_pedal_half_pressed_reaches_the_tokens(tmp_path: Path) -> None:
    path = tmp_path / "pedal.mid"
    path.write_bytes(
        mf.file(mf.pedal(0, 64) + mf.on(0, 60) + mf.off(96, 60) + mf.pedal(864, 63) + mf.on(0, 62) + mf.off(96, 62))
    )
    assert PIANO.describe(PIANO.encode(read_score(path)))[1:6] == [
        "on 60",
        "wait 1.00 s",
        "off 60",
        "on 62",
        "wait 0.10 s",
    ]


@pytest.mark.parametrize(
    "score",
    [
        Score(notes=()),
        Score(notes=(note(60, -1, 1),)),
        Score(notes=(note(60, 0, float("nan")),)),
        Score(notes=(note(60, 0, float("inf")),)),
        Score(notes=(note(60, 1e9, 1e9),)),
        Score(notes=(note(128, 0, 1),)),
        Audio(np.zeros((1, 8), np.float32), 8000),
        "text",
    ],
)
def test_what_cannot_be_encoded_is_refused_in_one_line(score: Score) -> None:
    with pytest.raises(PromptError) as caught:
        PIANO.encode(score)
    assert "\n" not in str(caught.value)


def test_decoded_notes_are_plain_numbers_whatever_ids_come_in() -> None:
    (decoded,) = PIANO.decode(np.array([VELOCITY + 15, 60, TIME_SHIFT, NOTE_OFF + 60], np.uint16)).notes
    assert decoded == note(60, 0, 0.01, 62)
    assert {type(decoded.pitch), type(decoded.velocity)} == {int}


# Any ids


@settings(deadline=None)
@given(IDS)
def test_any_ids_decode_to_a_score_that_encodes(ids: list[int]) -> None:
    score = PIANO.decode(ids)
    assert all(n.end >= n.start >= 0 and 1 <= n.velocity <= 127 for n in score.notes)
    assert len(score.notes) == sum(token < NOTE_OFF for token in ids)
    if score.notes:
        assert permits(PIANO.encode(score))
        assert len(PIANO.decode(PIANO.encode(score)).notes) == len(score.notes)
    assert len(PIANO.describe(ids)) == len(ids)


@settings(deadline=None)
@given(IDS, st.integers(-1, 220))
def test_clip_is_the_end_of_the_ids_from_a_legal_place(ids: list[int], n: int) -> None:
    clipped = PIANO.clip(ids, n)
    assert len(clipped) <= max(n, 0)
    assert clipped == ids[len(ids) - len(clipped) :]
    if clipped and len(clipped) < len(ids):
        assert ids[-len(clipped) - 1] < VELOCITY  # no velocity is parted from its note


def test_clip_begins_with_a_wait_where_there_is_one() -> None:
    ids = PIANO.encode(Score(notes=tuple(note(60 + k % 5, k * 0.3, k * 0.3 + 0.2) for k in range(50))))
    assert PIANO.clip(ids, len(ids)) == ids
    for n in range(3, len(ids)):
        clipped = PIANO.clip(ids, n)
        assert n - len(clipped) <= 3
        assert len(clipped) == len(ids) or TIME_SHIFT <= clipped[0] < VELOCITY


@settings(deadline=None)
@given(SCORES, st.floats(0, 25))
def test_head_is_a_legal_beginning_no_longer_than_asked(score: Score, seconds: float) -> None:
    ids = PIANO.encode(score)
    head = PIANO.head(ids, seconds)
    assert head == ids[: len(head)]
    assert PIANO.seconds(head) <= seconds + 1e-7
    assert permits(head)
    assert not head or head[-1] < VELOCITY
    if not head:  # nothing has been struck by then
        assert min(n.start for n in PIANO.decode(ids).notes) > seconds or not seconds
    elif len(head) < len(ids):
        assert PIANO.seconds(ids[: len(head) + 1]) > seconds
    assert PIANO.head(ids, 1e6) == ids
    assert PIANO.head(ids, 0) == []


def test_head_takes_what_falls_on_the_very_second() -> None:
    ids = PIANO.encode(Score(notes=(note(60, 0, 0.29), note(62, 0.29, 1))))
    assert PIANO.describe(PIANO.head(ids, 0.29)) == ["velocity 62", "on 60", "wait 0.29 s", "off 60", "on 62"]
    assert PIANO.describe(PIANO.head(ids, 0.28)) == ["velocity 62", "on 60"]
    assert PIANO.head(ids, float("inf")) == ids


@given(st.floats(0, 1, exclude_max=True))
def test_a_start_from_scratch_is_a_velocity_that_the_grammar_takes(uniform: float) -> None:
    start = PIANO.start(uniform)
    assert permits(start)
    assert 30 <= bin_velocity(start[-1] - VELOCITY) <= 90
    assert PIANO.seconds(start) == 0


# Augmentation


@settings(deadline=None)
@given(SCORES, st.integers(0, 2**32 - 1), st.integers(0, 12), st.sampled_from([0.0, 0.05, 0.3]))
def test_augment_keeps_the_notes_and_moves_them_alike(score: Score, seed: int, transpose: int, stretch: float) -> None:
    ids = PIANO.encode_array(score)
    varied = PIANO.augment(ids, np.random.default_rng(seed), transpose, stretch)
    again = PIANO.augment(ids, np.random.default_rng(seed), transpose, stretch)
    np.testing.assert_array_equal(varied, again)
    assert varied.dtype == np.uint16
    assert permits(varied.tolist())
    old, new = ids[(ids < TIME_SHIFT) | (ids >= VELOCITY)], varied[(varied < TIME_SHIFT) | (varied >= VELOCITY)]
    moved = (new.astype(int) - old)[old < TIME_SHIFT]
    assert len(set(moved.tolist())) == 1
    assert abs(moved[0]) <= transpose
    assert ((new % 128)[new < TIME_SHIFT] - (old % 128)[old < TIME_SHIFT].astype(int) == moved[0]).all()
    np.testing.assert_array_equal(new[new >= VELOCITY], old[old >= VELOCITY])
    before, after = PIANO.seconds(ids.tolist()), PIANO.seconds(varied.tolist())
    assert abs(after - before) <= before * stretch + len(score.notes) * 2 / TICKS_PER_SECOND


@settings(deadline=None)
@given(st.lists(st.integers(0, VOCAB_SIZE - 1), max_size=60), st.integers(0, 99))
def test_augment_takes_any_crop(ids: list[int], seed: int) -> None:
    crop = np.array(ids, np.uint16)
    varied = PIANO.augment(crop, np.random.default_rng(seed), 6, 0.05)
    assert (varied < VOCAB_SIZE).all()
    assert ((varied < TIME_SHIFT) | (varied >= VELOCITY)).sum() == ((crop < TIME_SHIFT) | (crop >= VELOCITY)).sum()
    np.testing.assert_array_equal(PIANO.augment(crop, np.random.default_rng(seed), 0, 0.0), crop)


def test_stretched_time_does_not_drift_and_no_two_moments_merge() -> None:
    ids = PIANO.encode_array(Score(notes=tuple(note(60, k * 0.03, k * 0.03 + 0.01) for k in range(5000))))
    before = PIANO.decode(ids.tolist()).notes
    for seed in range(5):
        after = PIANO.decode(PIANO.augment(ids, np.random.default_rng(seed), 0, 0.05).tolist()).notes
        factor = after[-1].start / before[-1].start
        assert 0.95 <= factor <= 1.05
        assert max(abs(b.start - a.start * factor) for a, b in zip(before, after, strict=True)) < 0.021
        assert all(n.end > n.start for n in after)


def test_transposition_stays_on_the_keyboard() -> None:
    ids = PIANO.encode_array(Score(notes=(note(22, 0, 1), note(107, 0, 1))))
    pitches = {
        tuple(sorted(n.pitch for n in PIANO.decode(PIANO.augment(ids, np.random.default_rng(s), 12, 0).tolist()).notes))
        for s in range(60)
    }
    assert pitches == {(21, 106), (22, 107), (23, 108)}


# The grammar


@settings(max_examples=60, deadline=None)
@given(IDS, st.integers(0, 2**32 - 1), st.sampled_from([0.05, 2.0, MAX_NOTE_SECONDS]))
def test_the_grammar_never_dead_ends_and_agrees_with_its_rules(prompt: list[int], seed: int, limit: float) -> None:
    grammar, rng, tick = PianoGrammar(max_note_seconds=limit), random.Random(seed), 0
    sounding: dict[int, int] = {}
    ids = [*prompt]
    for step in range(len(prompt) + 200):
        if step >= len(prompt):
            choices = grammar.allowed().nonzero().flatten().tolist()
            assert choices
            overdue = {pitch for pitch, start in sounding.items() if tick - start >= round(limit * TICKS_PER_SECOND)}
            silent, held = set(range(128)) - set(sounding), {NOTE_OFF + pitch for pitch in sounding}
            if overdue:
                assert set(choices) == {NOTE_OFF + pitch for pitch in overdue}
            elif ids and ids[-1] >= VELOCITY:
                assert set(choices) == silent
            else:
                new = silent | set(range(VELOCITY, VOCAB_SIZE)) if len(sounding) < MAX_SOUNDING else set()
                assert set(choices) == new | held | set(range(TIME_SHIFT, VELOCITY))
            ids.append(rng.choice(choices))
        token = ids[step]
        grammar.advance(token)
        if token < NOTE_OFF:
            sounding.pop(token, None)
            sounding[token] = tick
        elif token < TIME_SHIFT:
            sounding.pop(token - NOTE_OFF, None)
        elif token < VELOCITY:
            tick += token - TIME_SHIFT + 1
        assert grammar.seconds == tick / TICKS_PER_SECOND
        assert grammar.sounding == tuple(sounding)
    assert len(PIANO.decode(ids).notes) == sum(token < NOTE_OFF for token in ids)


def test_all_keys_at_once_leave_a_way_on() -> None:
    grammar = PianoGrammar(max_note_seconds=1.0)
    for pitch in range(128):
        grammar.advance(pitch)
    allowed = grammar.allowed()
    assert not allowed[:NOTE_OFF].any()
    assert not allowed[VELOCITY:].any()
    assert allowed[NOTE_OFF:VELOCITY].all()
    grammar.advance(TIME_SHIFT + 99)
    assert grammar.allowed().nonzero().flatten().tolist() == list(range(NOTE_OFF, TIME_SHIFT))


def test_an_overdue_note_is_closed_and_then_all_goes_on() -> None:
    grammar = PianoTokenizer(max_note_seconds=2.0).grammar()
    for token in (VELOCITY, 60, TIME_SHIFT + 99, 64, TIME_SHIFT + 99):
        assert grammar.allowed()[token]
        grammar.advance(token)
    assert grammar.allowed().nonzero().flatten().tolist() == [NOTE_OFF + 60]
    grammar.advance(NOTE_OFF + 60)
    assert grammar.allowed()[TIME_SHIFT]
    assert grammar.allowed()[NOTE_OFF + 64]
    assert not grammar.allowed()[64]


# Real performances


@pytest.mark.maestro
@pytest.mark.parametrize("index", [0, 321, 1000])
def test_maestro_is_exact(maestro_zip: Path, index: int) -> None:
    with zipfile.ZipFile(maestro_zip) as archive:
        name = sorted(n for n in archive.namelist() if n.endswith(".midi"))[index]
        losses = check_tokens.compare(parse_score(archive.read(name), name))
    assert losses.lost == losses.added == losses.velocity_outside_bin == losses.ungrammatical == 0
    assert max(losses.worst_onset, losses.worst_end) <= EXACT


def test_check_tokens_reads_folders_and_zips_and_names_what_it_cannot(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "midi" / "deeper"
    folder.mkdir(parents=True)
    (folder / "a.mid").write_bytes(mf.file(mf.on(0, 60) + mf.off(3, 60) + mf.on(0, 60) + mf.off(3, 60)))
    (folder / "b.MIDI").write_bytes(b"broken")
    assert check_tokens.main(["--source", str(tmp_path / "midi"), "--workers", "1"]) == 0
    out, err = capfd.readouterr()
    assert "notes lost                    0" in out
    assert "unreadable files              1" in out
    assert "b.MIDI is no MIDI file" in err
    archive = tmp_path / "all.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.write(folder / "a.mid", "x/a.mid")
    assert check_tokens.main(["--source", str(archive), "--workers", "1"]) == 0
    assert "notes                         2\n" in capfd.readouterr().out
    for source in (tmp_path / "none", folder / "a.mid"):
        assert check_tokens.main(["--source", str(source)]) == 2
        assert capfd.readouterr().err.startswith("error: ")


def test_check_tokens_exits_1_where_a_note_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.mid").write_bytes(mf.file(mf.on(0, 60) + mf.off(3, 60)))
    monkeypatch.setattr(check_tokens, "check", lambda *_: check_tokens.Losses(performances=1, notes=2, lost=1))
    assert check_tokens.main(["--source", str(tmp_path)]) == 1
    assert "notes lost                    1" in capfd.readouterr().out


def test_notes_do_not_pile_up() -> None:
    """While so many notes sound as may, only waiting and letting go are left; a velocity would have no note."""
    grammar = PianoGrammar(max_sounding=3)
    for token in (VELOCITY + 16, 60, 64, 67):
        assert grammar.allowed()[token]
        grammar.advance(token)
    left = grammar.allowed().nonzero().flatten().tolist()
    assert left == [NOTE_OFF + 60, NOTE_OFF + 64, NOTE_OFF + 67, *range(TIME_SHIFT, VELOCITY)]
    grammar.advance(NOTE_OFF + 64)
    assert grammar.allowed()[72]
    assert grammar.allowed()[VELOCITY]
