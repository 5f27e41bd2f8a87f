"""Scores and sound: MIDI files right, odd and broken; writing whole or not at all."""

import io
import time
import zipfile
from pathlib import Path

import numpy as np
import pretty_midi
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shortcut_gen.errors import MediaError
from shortcut_gen.media import Audio, Note, Score, one_hand, parse_score, playable, read, read_audio, read_score
from tests.shared import midi_files as mf


def notes(data: bytes) -> list[tuple[int, int, int]]:
    """(pitch, start, end) in ticks of mf.TICK."""
    return [(n.pitch, round(n.start / mf.TICK), round(n.end / mf.TICK)) for n in parse_score(data).notes]


# What a well-formed file says


def test_a_note_has_its_pitch_velocity_and_times() -> None:
    score = parse_score(mf.file(mf.on(480, 60, 77) + mf.off(240, 60)))
    assert score.notes == (Note(pitch=60, velocity=77, start=0.5, end=0.75),)
    assert score.kept == ""
    assert score.duration == 0.75


def test_pedal_holds_notes_until_it_comes_up() -> None:
    data = mf.pedal(0, 64) + mf.on(0, 60) + mf.off(10, 60) + mf.pedal(90, 63) + mf.on(100, 62) + mf.off(10, 62)
    assert notes(mf.file(data)) == [(60, 0, 100), (62, 200, 210)]


def test_half_pressed_pedal_holds_nothing() -> None:
    assert notes(mf.file(mf.pedal(0, 63) + mf.on(0, 60) + mf.off(10, 60) + mf.pedal(90, 0))) == [(60, 0, 10)]


def test_pedal_that_moves_while_down_lets_go_of_nothing() -> None:
    track = mf.pedal(0, 127) + mf.on(0, 60) + mf.off(10, 60) + mf.pedal(10, 70) + mf.pedal(10, 100) + mf.pedal(10, 10)
    assert notes(mf.file(track)) == [(60, 0, 40)]


def test_a_note_struck_again_under_the_pedal_ends_first() -> None:
    track = mf.pedal(0, 127) + mf.on(0, 60) + mf.off(10, 60) + mf.on(10, 60) + mf.off(10, 60) + mf.pedal(70, 0)
    assert notes(mf.file(track)) == [(60, 0, 20), (60, 20, 100)]


def test_a_note_struck_again_while_its_key_is_down_ends_first() -> None:
    track = mf.on(0, 60) + mf.on(10, 60) + mf.off(10, 60) + mf.off(10, 60)
    assert notes(mf.file(track)) == [(60, 0, 10), (60, 10, 20)]


def test_an_end_after_its_successor_in_one_tick_ends_the_earlier_note() -> None:
    assert notes(mf.file(mf.on(0, 60) + mf.on(10, 60) + mf.off(0, 60) + mf.off(10, 60))) == [(60, 0, 10), (60, 10, 20)]


def test_a_note_without_length_is_kept() -> None:
    assert notes(mf.file(mf.on(5, 60) + mf.off(0, 60) + mf.on(5, 61) + mf.off(5, 61))) == [(60, 5, 5), (61, 10, 15)]


def test_pedal_works_across_the_tracks_of_a_channel() -> None:
    data = mf.file(mf.pedal(0, 127) + mf.pedal(100, 0), mf.on(0, 60) + mf.off(10, 60))
    assert notes(data) == [(60, 0, 100)]


def test_pedal_leaves_other_channels_alone() -> None:
    data = mf.file(mf.pedal(0, 127, channel=1) + mf.pedal(100, 0, channel=1), mf.on(0, 60) + mf.off(10, 60))
    assert notes(data) == [(60, 0, 10)]


def test_what_sounds_at_the_end_of_the_track_ends_there() -> None:
    end = mf.length(50) + mf.END[1:]
    assert notes(mf.file(mf.pedal(0, 127) + mf.on(0, 60) + mf.off(10, 60) + mf.on(10, 62), end=end)) == [
        (60, 0, 70),
        (62, 20, 70),
    ]


def test_all_notes_off_and_all_sound_off_end_notes() -> None:
    assert notes(mf.file(mf.on(0, 60) + mf.control(10, 123, 0) + mf.on(90, 62) + mf.off(1, 62)))[0] == (60, 0, 10)
    held = mf.pedal(0, 127) + mf.on(0, 60) + mf.off(5, 60) + mf.on(0, 64)
    assert notes(mf.file(held + mf.control(5, 120, 0) + mf.on(90, 62) + mf.off(1, 62)))[:2] == [
        (60, 0, 10),
        (64, 5, 10),
    ]
    assert notes(mf.file(held + mf.control(5, 121, 0) + mf.off(10, 64)))[:2] == [(60, 0, 10), (64, 5, 20)]


def test_running_status_velocity_zero_and_a_missing_end_of_track() -> None:
    track = mf.on(0, 60) + bytes([10, 60, 0, 5, 62, 70, 5, 62, 0])
    assert notes(mf.file(track, end=b"")) == [(60, 0, 10), (62, 15, 20)]
    assert notes(mf.file(track + b"\x20", end=b"")) == [(60, 0, 10), (62, 15, 20)]


def test_tempo_changes_count_from_where_they_stand() -> None:
    data = mf.file(mf.tempo(0, 1_000_000) + mf.tempo(480, 250_000), mf.on(240, 60) + mf.off(480, 60))
    assert parse_score(data).notes[0].start == pytest.approx(0.5)
    assert parse_score(data).notes[0].end == pytest.approx(1.125)


@pytest.mark.parametrize(("frames", "rate"), [(24, 24.0), (25, 25.0), (29, 30_000 / 1_001), (30, 30.0)])
def test_smpte_division_ignores_tempo(frames: int, rate: float) -> None:
    track = mf.tempo(0, 1) + mf.on(0, 60) + mf.off(frames * 40, 60)
    score = parse_score(mf.file(track, division=bytes([256 - frames, 40])))
    assert score.duration == pytest.approx(frames / rate)


def test_type_0_is_read_and_the_patterns_of_type_2_follow_each_other() -> None:
    one, two = mf.on(0, 60) + mf.off(10, 60), mf.on(0, 62) + mf.off(10, 62)
    assert notes(mf.file(one, kind=0)) == [(60, 0, 10)]
    assert notes(mf.file(one, two, kind=2)) == [(60, 0, 10), (62, 10, 20)]
    assert notes(mf.file(one, two, kind=1)) == [(60, 0, 10), (62, 0, 10)]


def test_a_riff_wrapper_alien_chunks_and_junk_behind_are_passed_over() -> None:
    inner = mf.file(mf.on(0, 60) + mf.off(10, 60))
    assert notes(mf.riff(b"RMID", [(b"DISP", b"abc"), (b"data", inner)])) == [(60, 0, 10)]
    assert notes(inner[:14] + mf.chunk(b"XFIH", b"junk") + inner[14:] + b"more junk") == [(60, 0, 10)]


@pytest.mark.parametrize(
    "event",
    [
        mf.meta(0, 0x59, b"\x63\x07"),  # a key with 99 sharps
        mf.meta(0, 0x59, b""),
        mf.meta(0, 0x58, b"\x04"),
        mf.meta(0, 0x54, b"\xff" * 5),
        mf.meta(0, 0x51, b""),
        mf.meta(0, 0x51, b"\x00\x00\x00"),
        mf.meta(0, 0x03, b"\xff\xfe\x80 not utf-8"),
        mf.meta(0, 0x21, b"\x05"),
        mf.meta(0, 0x7F, b"x" * 300),
        mf.meta(0, 0x60, b"unknown"),
        b"\x00\xf0\x03\x01\x02\xf7",
        b"\x00\xf7\x02\xf3\x01",
        mf.control(0, 1, 12) + b"\x00\xe0\x00\x40\x00\xa0\x3c\x10\x00\xd0\x10",
    ],
)
def test_junk_in_other_events_fails_no_file(event: bytes) -> None:
    assert [n[0] for n in notes(mf.file(event + mf.on(0, 60) + mf.off(10, 60)))] == [60]


# What is kept


def test_piano_is_kept_and_the_rest_left_out_and_named() -> None:
    piano = mf.program(0, 2) + mf.on(0, 60) + mf.off(10, 60)
    violin = mf.program(0, 40, 1) + mf.on(0, 70, channel=1) + mf.off(10, 70, channel=1)
    drums = mf.on(0, 36, channel=9) + mf.off(10, 36, channel=9)
    score = parse_score(mf.file(piano, violin, drums))
    assert [n.pitch for n in score.notes] == [60]
    assert score.kept == "kept 1 piano notes; left out 1 notes of Violin; left out 1 drum notes"


def test_without_piano_every_pitched_program_is_kept() -> None:
    tracks = [
        mf.program(0, p, c) + mf.on(0, 60 + c, channel=c) + mf.off(10, 60 + c, channel=c)
        for c, p in enumerate([40, 73, 24, 56])
    ]
    score = parse_score(mf.file(*tracks))
    assert len(score.notes) == 4
    assert score.kept.startswith("kept 4 notes of Violin, Flute, Acoustic Guitar (nylon) and 1 more, played as piano")
    assert "\n" not in score.kept


def test_two_hands_on_two_tracks_join_into_one_keyboard() -> None:
    left = mf.on(0, 60) + mf.off(100, 60)
    right = mf.on(50, 60, channel=1) + mf.off(100, 60, channel=1)
    score = parse_score(mf.file(left, right))
    assert [(n.start, n.end) for n in score.notes] == [(0, 50 * mf.TICK), (50 * mf.TICK, 150 * mf.TICK)]
    assert score.kept == "joined 2 parts into one"


def test_unison_of_two_tracks_loses_no_note() -> None:
    left, right = mf.on(0, 60) + mf.off(100, 60), mf.on(0, 60, channel=1) + mf.off(50, 60, channel=1)
    assert notes(mf.file(left, right)) == [(60, 0, 0), (60, 0, 100)]


# Broken files: one line each


GOOD = mf.file(mf.on(0, 60) + mf.off(10, 60), mf.on(0, 64) + mf.off(10, 64))


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "is empty"),
        (b"MThd", "is no MIDI file"),
        (GOOD[:14], "truncated MIDI file: it ends before its first track"),
        (mf.file(b""), "has no notes"),
        (mf.file(mf.on(0, 36, channel=9) + mf.off(9, 36, channel=9)), "left out 1 drum notes"),
        (mf.file(b"\x00\x90\x3c", end=b""), "no notes to keep (cut short: it ends inside a track)"),
        (mf.file(b"\x00\xff\x03\x50ab", end=b""), "no notes to keep (cut short: it ends inside a track)"),
        (mf.file(b"\x00\x3c\x40"), "data where an event should start"),
        (mf.file(b"\xff\xff\xff\xff\xff\x00"), "longer than four bytes"),
        (mf.file(mf.on(0x0FFFFFFF, 60) + mf.off(0, 60)), "hours; at most 24"),
        (mf.riff(b"RMID", [(b"DISP", b"x")]), "without MIDI data"),
        (b"PK\x03\x04" + bytes(40), "zip archive"),
    ],
)
def test_broken_files_are_refused_in_one_line(tmp_path: Path, data: bytes, said: str) -> None:
    path = tmp_path / "x.mid"
    path.write_bytes(data)
    with pytest.raises(MediaError) as caught:
        read_score(path)
    assert said in str(caught.value)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_wav_called_mid_random_bytes_folder_and_missing_file_are_refused(tmp_path: Path) -> None:
    wav = tmp_path / "w.mid"
    Audio(np.zeros((1, 100), np.float32), 8000).write(wav)
    with pytest.raises(MediaError, match="is a WAV sound file"):
        read_score(wav)
    noise = tmp_path / "noise.mid"
    noise.write_bytes(np.random.default_rng(0).bytes(10_000_000))
    began = time.process_time()
    for reader in (read_score, read):
        with pytest.raises(MediaError, match=r"noise\.mid is n"):
            reader(noise)
    assert time.process_time() - began < 2
    for path, said in [(tmp_path, "is a folder"), (tmp_path / "none.mid", "no such file"), (tmp_path / "\0", "null")]:
        with pytest.raises(MediaError, match=said):
            read(path)


def test_a_file_without_permission_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.mid"
    path.write_bytes(GOOD)

    def denied(*_: object) -> None:  # taking the right away would not stop root
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", denied)
    with pytest.raises(MediaError, match=r"x\.mid cannot be read: permission denied"):
        read_score(path)


def test_a_device_or_a_huge_file_is_refused_unread(tmp_path: Path) -> None:
    if Path("/dev/zero").exists():
        with pytest.raises(MediaError, match="not a regular file"):
            read_score("/dev/zero")
    huge = tmp_path / "huge.mid"
    with huge.open("wb") as file:
        file.truncate(1 << 30)
    with pytest.raises(MediaError, match="at most"):
        read_score(huge)


def read_or_refuse(data: bytes) -> bool:
    """True where data is read as notes or refused in one line; any other error gets out."""
    try:
        return bool(parse_score(data).notes)
    except MediaError as error:
        return "\n" not in str(error)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_in_a_track_give_a_score_or_a_media_error(data: bytes) -> None:
    assert read_or_refuse(mf.file(data, end=b""))


@settings(max_examples=100, deadline=None)
@given(st.integers(0, len(GOOD) - 1), st.integers(0, 255))
def test_a_changed_byte_gives_a_score_or_a_media_error(at: int, byte: int) -> None:
    assert read_or_refuse(GOOD[:at] + bytes([byte]) + GOOD[at + 1 :])


def test_200_000_notes_are_read_in_seconds() -> None:
    track = b"".join(mf.on(3, 21 + k % 88) + mf.off(3, 21 + k % 88) for k in range(200_000))
    began = time.process_time()
    assert len(parse_score(mf.file(track)).notes) == 200_000
    assert time.process_time() - began < 15


# Against pretty_midi


def folded(midi: pretty_midi.PrettyMIDI) -> list[tuple[int, float, float]]:
    """The rule of DESIGN section 4 on pretty_midi's own notes, note by note."""
    (piano,) = midi.instruments
    pedal = sorted((c.time, c.value >= 64) for c in piano.control_changes if c.number == 64)
    times = np.array([time for time, _ in pedal])
    ups = np.array([time for time, down in pedal if not down])
    out = []
    for pitch in range(128):
        struck = sorted((n for n in piano.notes if n.pitch == pitch), key=lambda n: n.start)
        for note, after in zip(struck, [*struck[1:], None], strict=False):
            end, last = note.end, int(np.searchsorted(times, note.end, side="right")) - 1
            if last >= 0 and pedal[last][1]:
                later = ups[ups >= note.end]
                end = later[0] if len(later) else midi.get_end_time()
            out.append((pitch, note.start, min(end, after.start) if after else end))
    return sorted(out, key=lambda n: (n[1], n[0]))


@pytest.mark.maestro
@pytest.mark.parametrize("index", [7, 500])
def test_maestro_reads_as_pretty_midi_with_the_pedal_folded_in(maestro_zip: Path, index: int) -> None:
    with zipfile.ZipFile(maestro_zip) as archive:
        name = sorted(n for n in archive.namelist() if n.endswith(".midi"))[index]
        data = archive.read(name)
    expected = folded(pretty_midi.PrettyMIDI(io.BytesIO(data)))
    score = parse_score(data)
    assert [n.pitch for n in score.notes] == [n[0] for n in expected]
    np.testing.assert_allclose([n.start for n in score.notes], [n[1] for n in expected], atol=1e-9)
    np.testing.assert_allclose([n.end for n in score.notes], [n[2] for n in expected], atol=1e-9)


# Scores and writing

NOTES = st.lists(
    st.builds(
        lambda pitch, velocity, start, length: Note(
            pitch=pitch, velocity=velocity, start=start / 1000, end=(start + length) / 1000
        ),
        st.integers(58, 62),
        st.integers(1, 127),
        st.integers(0, 3000),
        st.integers(0, 2000),
    ),
    min_size=1,
    max_size=40,
)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(NOTES)
def test_every_note_written_is_read_again_by_us_and_by_pretty_midi(tmp_path: Path, some: list[Note]) -> None:
    path = tmp_path / "score.mid"
    score = Score(notes=tuple(some))
    score.write(path)
    again = read_score(path)
    assert len(again.notes) == len(some)
    assert [n.pitch for n in again.notes] == [n.pitch for n in sorted(playable(some), key=lambda n: (n.start, n.pitch))]
    (piano,) = pretty_midi.PrettyMIDI(str(path)).instruments
    assert len(piano.notes) == len(some)
    assert all(n.end > n.start for n in piano.notes)
    for one, two in zip(sorted(playable(some), key=lambda n: (n.start, n.pitch)), again.notes, strict=True):
        assert two.velocity == one.velocity
        assert (two.start, two.end) == pytest.approx((one.start / 1000, one.end / 1000), abs=1e-6)


@given(NOTES)
def test_one_hand_never_overlaps_and_loses_nothing(some: list[Note]) -> None:
    played = one_hand(some)
    assert len(played) == len(some)
    for pitch in range(58, 63):
        line = [n for n in played if n.pitch == pitch]
        assert all(a.end <= b.start for a, b in zip(line, line[1:], strict=False))


def test_slice_cuts_and_moves() -> None:
    score = Score(
        notes=(
            Note(pitch=60, velocity=64, start=0, end=2),
            Note(pitch=62, velocity=64, start=1, end=3),
            Note(pitch=64, velocity=64, start=2, end=4),
            Note(pitch=65, velocity=64, start=3, end=4),
        )
    )
    part = score.slice(1, 2.5)
    assert [(n.pitch, n.start, n.end) for n in part.notes] == [(60, 0, 1), (62, 0, 1.5), (64, 1, 1.5)]
    assert Score(notes=()).duration == 0


def test_sound_is_written_as_16_bits_and_read_again(tmp_path: Path) -> None:
    samples = np.linspace(-1, 1, 2000, dtype=np.float32).reshape(1, 2000)
    path = tmp_path / "a.wav"
    Audio(samples, 22050).write(path)
    assert soundfile.info(path).subtype == "PCM_16"
    again = read(path)
    assert isinstance(again, Audio)
    assert (again.sample_rate, again.samples.shape, again.samples.dtype) == (22050, (1, 2000), np.float32)
    np.testing.assert_allclose(again.samples, samples, atol=1e-4)


TONE = (0.5 * np.sin(np.arange(2400) / 5)).astype(np.float32)


@pytest.mark.parametrize(
    ("channels", "rate", "kind", "subtype"),
    [
        (1, 16_000, "WAV", "PCM_U8"),
        (6, 48_000, "WAV", "PCM_24"),
        (2, 192_000, "WAV", "FLOAT"),
        (1, 8_000, "WAV", "ULAW"),
        (2, 44_100, "FLAC", "PCM_16"),
        (1, 48_000, "OGG", "OPUS"),
        (2, 44_100, "OGG", "VORBIS"),
        (1, 24_000, "MP3", "MPEG_LAYER_III"),
        (8, 96_000, "AIFF", "PCM_16"),
        (1, 1_000, "AU", "PCM_16"),
        (1, 600_000, "WAV", "PCM_16"),
        (2, 16_000, "CAF", "ALAC_16"),
        (1, 16_000, "W64", "PCM_16"),
        (1, 16_000, "RF64", "PCM_16"),
    ],
)
def test_recordings_of_every_usual_kind_are_read(
    tmp_path: Path, channels: int, rate: int, kind: str, subtype: str
) -> None:
    path = tmp_path / "sound"
    soundfile.write(path, np.repeat(TONE[:, None], channels, axis=1), rate, format=kind, subtype=subtype)
    audio = read(path)
    assert isinstance(audio, Audio)
    kept = min(max(rate, 8_000), 48_000)
    assert (audio.sample_rate, audio.samples.dtype, audio.samples.shape[0]) == (kept, np.float32, 1)
    assert (audio.file_rate, audio.file_channels, audio.kept) == (rate, channels, "")
    assert audio.duration == pytest.approx(2400 / rate, abs=(1200 if kind == "MP3" else 1) / rate)
    assert 0.4 < np.abs(audio.samples).max() < 0.65
    part = read_audio(path, seconds=1000 / rate)
    assert part.duration == pytest.approx(1000 / rate, abs=1 / kept)
    # Where a rate is changed, an end is as if silence came.
    heard, close = part.samples.shape[1], 0.0
    if kept != rate:
        heard, close = heard - max(heard // 10, 40), 2e-3
    np.testing.assert_allclose(part.samples[0, :heard], audio.samples[0, :heard], atol=close)


def hour(path: Path) -> Path:
    """A recording of one hour, 8 bits at 8 kHz, that takes no room on the disk."""
    soundfile.write(path, np.zeros(1), 8_000, subtype="PCM_U8")
    with path.open("r+b") as file:
        file.truncate(44 + 3600 * 8_000)
        for place, size in ((4, 36 + 3600 * 8_000), (40, 3600 * 8_000)):
            file.seek(place)
            file.write(size.to_bytes(4, "little"))
    return path


def test_of_an_hour_a_part_is_read_and_the_whole_refused(tmp_path: Path) -> None:
    path = hour(tmp_path / "hour.wav")
    assert read_audio(path, seconds=2.5).duration == 2.5
    for reader in (read, read_audio):
        with pytest.raises(MediaError, match=r"hour\.wav lasts 3,600 s; at most 600 s are read unless a part is asked"):
            reader(path)


def test_a_recording_that_is_cut_short_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    path = tmp_path / "short.wav"
    soundfile.write(path, TONE, 8_000)
    path.write_bytes(path.read_bytes()[:1044])
    assert read_audio(path).samples.shape == (1, 500)
    path.write_bytes(path.read_bytes()[:44])
    with pytest.raises(MediaError, match=r"short\.wav is a sound file without samples"):
        read_audio(path)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_samples_that_are_no_numbers_are_refused(tmp_path: Path, value: float) -> None:
    samples = TONE.copy()
    samples[7] = value
    path = tmp_path / "nan.wav"
    soundfile.write(path, samples, 8_000, subtype="FLOAT")
    said = r"nan\.wav holds samples that are no numbers, from 0 s on; finite ones are needed"
    with pytest.raises(MediaError, match=said):
        read(path)


def test_sound_louder_than_full_scale_is_scaled_down(tmp_path: Path) -> None:
    path = tmp_path / "loud.wav"
    soundfile.write(path, TONE * 6, 8_000, subtype="FLOAT")
    audio = read_audio(path)
    assert np.abs(audio.samples).max() == pytest.approx(1.0)
    np.testing.assert_allclose(audio.samples[0], TONE / np.abs(TONE).max(), atol=1e-6)


def test_more_sound_than_memory_is_refused_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shortcut_gen.media.files.MAX_AUDIO_VALUES", 4000)
    path = tmp_path / "wide.wav"
    soundfile.write(path, np.repeat(TONE[:, None], 2, axis=1), 8_000)
    with pytest.raises(MediaError, match=r"wide\.wav has 2 channels of 8,000 samples a second; less, or"):
        read(path)
    assert read_audio(path, seconds=0.25).samples.shape == (1, 2000)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"\0\0\0\x20ftypisom" + bytes(500), "is an MP4 or QuickTime file (a video, or AAC sound), no sound file"),
        (b"\0\0\0\x08wide\0\0\0\0mdat", "is an MP4 or QuickTime file"),
        (b"\x1aE\xdf\xa3" + bytes(500), "is a Matroska or WebM video"),
        (b"RIFF\x10\0\0\0AVI LIST" + bytes(500), "is an AVI video"),
        (b"FLV\x01" + bytes(500), "is a Flash video"),
        ("Grüße an alle\n".encode() * 900, "is text, no sound file that can be read (WAV, FLAC, Ogg and MP3 can)"),
        (b"RIFF\x10\0\0\0WAVEfmt ", "is no sound file that can be read"),
        (bytes(500), "is no sound file that can be read"),
    ],
    ids=["mp4", "mov", "webm", "avi", "flv", "text", "cut", "zeros"],
)
def test_what_is_no_sound_is_named_in_one_line(tmp_path: Path, data: bytes, said: str) -> None:
    path = tmp_path / "voice.wav"
    path.write_bytes(data)
    for reader, what in ((read_audio, "no sound file"), (read, "neither a MIDI file nor a sound file")):
        with pytest.raises(MediaError) as caught:
            reader(path)
        assert str(caught.value).startswith(f"{path} {said.replace('no sound file', what)}")
        assert "\n" not in str(caught.value)


def test_a_slice_of_sound() -> None:
    audio = Audio(np.arange(200, dtype=np.float32).reshape(2, 100) / 200, 10)
    part = audio.slice(1.0, 2.5)
    np.testing.assert_array_equal(part.samples, audio.samples[:, 10:25])
    assert (part.sample_rate, part.duration) == (10, 1.5)
    assert audio.slice(-1, 99).duration == 10.0
    assert audio.slice(5, 5).samples.shape == (2, 0)
    assert Audio(audio.samples, 10, kept="mended").slice(0, 1).kept == "mended"


def test_read_tells_files_apart_by_content(tmp_path: Path) -> None:
    path = tmp_path / "song.wav"
    path.write_bytes(GOOD)
    assert isinstance(read(path), Score)
    path.write_bytes(mf.riff(b"RMID", [(b"data", GOOD)]))
    assert isinstance(read(path), Score)
    path.write_bytes(b"neither")
    with pytest.raises(MediaError, match="neither a MIDI file nor a sound file"):
        read(path)


@pytest.mark.parametrize("moment", ["write", "replace"])
def test_a_full_disk_leaves_the_old_file_and_nothing_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    path = tmp_path / "score.mid"
    path.write_bytes(b"old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    if moment == "write":
        monkeypatch.setattr("os.fsync", full)
    else:
        monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(MediaError, match=r"score\.mid cannot be written: no space left on device"):
        Score(notes=(Note(pitch=60, velocity=64, start=0, end=1),)).write(path)
    assert [p.name for p in tmp_path.iterdir()] == ["score.mid"]
    assert path.read_bytes() == b"old"


def test_a_missing_folder_is_said_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match=r"a\.wav cannot be written: no such file"):
        Audio(np.zeros((1, 10), np.float32), 8000).write(tmp_path / "no such folder" / "a.wav")
