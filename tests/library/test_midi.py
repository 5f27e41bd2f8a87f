"""MIDI files with faults that players forgive: the notes are read, and what was mended is said."""

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shortcut_gen.errors import MediaError
from shortcut_gen.media import Score, parse_score
from shortcut_gen.media.midi_notes import MAX_RINGING
from tests.shared import midi_files as mf

THREE = b"".join(mf.on(0, pitch) + mf.off(480, pitch) for pitch in (60, 62, 64))


def notes(score: Score) -> list[tuple[int, int, int]]:
    return [(n.pitch, round(n.start / mf.TICK), round(n.end / mf.TICK)) for n in score.notes]


HEARD = [(60, 0, 480), (62, 480, 960), (64, 960, 1440)]


def test_a_track_plays_by_its_own_program() -> None:
    """Tracks may share a channel: what one says of its instrument is not true of the other."""
    piano = mf.program(0, 0) + THREE
    violin = mf.program(0, 40) + mf.on(0, 80) + mf.off(480, 80)
    for tracks in ((piano, violin), (violin, piano)):
        score = parse_score(mf.file(*tracks))
        assert notes(score) == HEARD
        assert "left out 1 notes of Violin" in score.kept


def test_a_track_without_a_program_takes_the_channels() -> None:
    score = parse_score(mf.file(mf.program(0, 40), mf.on(0, 80) + mf.off(480, 80)))
    assert score.kept == "kept 1 notes of Violin, played as piano"


@pytest.mark.parametrize(
    "event", [mf.control(0, 7, 0xFF), mf.control(0, 64, 0x80), bytes([0, 0xB0, 0x90, 1]), bytes([0, 0xC0, 0x80])]
)
def test_data_above_127_is_clipped_and_said(event: bytes) -> None:
    score = parse_score(mf.file(event + mf.program(0, 0) + mf.control(0, 64, 0) + THREE))
    assert notes(score) == HEARD
    assert score.kept == "clipped 1 value above 127"


def test_a_velocity_above_127_is_the_loudest() -> None:
    assert parse_score(mf.file(mf.on(0, 60, 0xFF) + mf.off(480, 60))).notes[0].velocity == 127


@pytest.mark.parametrize("more", [1, 3, 100, 2**31])
@pytest.mark.parametrize("behind", [b"", mf.chunk(b"MTrk", mf.on(0, 70) + mf.off(480, 70) + mf.END)])
def test_a_length_that_is_too_long_is_no_matter(more: int, behind: bytes) -> None:
    """Whether it reaches beyond the file or into the next track."""
    track = THREE + mf.END
    head = mf.file(kind=1)[:14]
    head = head[:10] + (2 if behind else 1).to_bytes(2, "big") + head[12:]
    data = head + b"MTrk" + (len(track) + more).to_bytes(4, "big") + track + behind
    score = parse_score(data)
    assert [pitch for pitch, *_ in notes(score) if pitch != 70] == [60, 62, 64]
    assert len(score.notes) == (4 if behind else 3)
    assert "1 of" in score.kept
    assert "wrong length" in score.kept


def test_a_length_that_is_too_short_is_no_matter() -> None:
    track = THREE + mf.END
    data = mf.file(THREE)[:14] + b"MTrk" + (len(track) - 9).to_bytes(4, "big") + track
    assert notes(parse_score(data)) == HEARD


def test_bytes_between_tracks_are_skipped_and_said() -> None:
    one = mf.chunk(b"MTrk", THREE + mf.END)
    data = mf.file(THREE, THREE)[:14] + one + b"\x00\xff\x07" + one
    assert parse_score(data).kept == "joined 2 parts into one; skipped 3 bytes between tracks"


def test_chunks_of_another_name_are_passed_over() -> None:
    one = mf.chunk(b"MTrk", THREE + mf.END)
    score = parse_score(mf.file(THREE)[:14] + mf.chunk(b"XFIH", b"\x00MTrk\x00\x00") + one)
    assert (notes(score), score.kept) == (HEARD, "")


def test_a_file_cut_anywhere_keeps_the_notes_before_the_cut() -> None:
    data = mf.file(THREE)
    for end in range(14 + 8 + 8, len(data)):
        score = parse_score(data[:end])
        assert [n.pitch for n in score.notes] == [60, 62, 64][: len(score.notes)]
        assert score.notes
    assert notes(parse_score(data[:-1])) == HEARD
    assert "cut short: it ends inside a track" in parse_score(data[:40]).kept


def test_missing_tracks_are_said() -> None:
    data = mf.file(THREE, THREE)
    assert "cut short: 1 of 2 tracks are there" in parse_score(data[: len(mf.file(THREE))]).kept
    with pytest.raises(MediaError, match="before its first track"):
        parse_score(data[:14])


@pytest.mark.parametrize("controller", [120, 123, 124, 125, 126, 127])
def test_all_notes_off_ends_a_note_struck_again_in_its_tick(controller: int) -> None:
    track = mf.on(0, 60) + mf.on(480, 60) + mf.control(0, controller, 0) + mf.control(9600, 1, 0)
    assert notes(parse_score(mf.file(track))) == [(60, 0, 480), (60, 480, 480)]


def test_all_notes_off_looks_at_a_key_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their cost is that of the keys they end, not of keys times messages."""
    from shortcut_gen.media import midi_notes

    calls = 0
    original = midi_notes._Keyboard._let_go

    def counted(self: midi_notes._Keyboard, *given: object) -> None:
        nonlocal calls
        calls += 1
        original(self, *given)  # type: ignore[arg-type]

    monkeypatch.setattr(midi_notes._Keyboard, "_let_go", counted)
    keys = mf.pedal(0, 127) + b"".join(mf.on(0, 21 + i) for i in range(80))
    score = parse_score(mf.file(keys + mf.control(1, 123, 0) * 2000 + mf.pedal(0, 0)))
    assert len(score.notes) == 80
    assert calls == 80


@pytest.mark.parametrize("messages", [123, 120])
def test_many_messages_are_read_in_a_moment(messages: int) -> None:
    track = b"".join(mf.on(0, 21 + i % 88) for i in range(100)) + mf.control(0, messages, 0) * 30_000
    before = sys.getrecursionlimit()
    assert len(parse_score(mf.file(track)).notes) == 100
    assert sys.getrecursionlimit() == before


def test_a_tempo_of_zero_is_the_usual_one() -> None:
    score = parse_score(mf.file(mf.tempo(0, 0) + THREE))
    assert notes(score) == HEARD
    assert score.kept == "read a tempo of 0 as 120 beats a minute"


def test_a_division_of_zero_is_480() -> None:
    score = parse_score(mf.file(THREE, division=0))
    assert notes(score) == HEARD
    assert score.kept == "read a division of 0 as 480"


@pytest.mark.parametrize("pedal", [b"", mf.pedal(0, 127)])
def test_an_end_of_track_hours_away_ends_no_note_there(pedal: bytes) -> None:
    """What nothing ends rings for a while behind the last event."""
    track = pedal + mf.on(0, 60) + (mf.off(480, 60) if pedal else b"") + mf.length(2**28 - 1) + mf.END[1:]
    last = 480 * mf.TICK if pedal else 0
    assert parse_score(mf.file(track, end=b"")).duration == pytest.approx(last + MAX_RINGING)


def test_a_last_note_that_nothing_ends_lasts_to_the_tracks_end() -> None:
    assert notes(parse_score(mf.file(mf.on(0, 60) + mf.length(960) + mf.END[1:], end=b""))) == [(60, 0, 960)]


def test_too_many_events_are_refused_as_they_are_counted() -> None:
    data = mf.file(mf.control(0, 1, 0) * 40 + THREE)
    assert notes(parse_score(data, most_events=47)) == HEARD
    with pytest.raises(MediaError, match=r"song is a MIDI file of more than 40 events; at most so many are read"):
        parse_score(data, "song", most_events=40)


def test_a_tenth_of_a_second_is_a_score() -> None:
    assert notes(parse_score(mf.file(mf.on(0, 60) + mf.off(96, 60)))) == [(60, 0, 96)]


@given(st.data())
def test_mutated_files_are_read_or_refused_in_a_line(data: st.DataObject) -> None:
    whole = bytearray(mf.file(mf.program(0, 0) + mf.tempo(0, 400_000) + THREE, mf.pedal(0, 127) + THREE))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(8, len(whole) - 1))
        match data.draw(st.sampled_from(["set", "cut", "insert"])):
            case "set":
                whole[at] = data.draw(st.integers(0, 255))
            case "cut":
                del whole[at : at + data.draw(st.integers(1, 6))]
            case _:
                whole[at:at] = data.draw(st.binary(min_size=1, max_size=6))
        if len(whole) < 20:
            break
    try:
        score = parse_score(bytes(whole))
    except MediaError as error:
        said = str(error)
    else:
        said = score.kept
        assert score.notes
        assert all(0 <= n.start <= n.end and 0 < n.velocity < 128 for n in score.notes)
    assert "\n" not in said
