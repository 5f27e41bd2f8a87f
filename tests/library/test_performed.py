"""A continuation as a MIDI file keeps of its prompt what the prompt's file had: pedal, keys, tempo, time signature."""

import io
from pathlib import Path
from typing import Any

import mido
import pretty_midi
import pytest

from shortcut_gen.decoding.sampling import SamplingParams
from shortcut_gen.media import Note, Score, parse_score, performed, read_score
from shortcut_gen.modalities.piano import PianoTokenizer
from shortcut_gen.pipeline import Continuation, EncodedPrompt, Pipeline, Prompt


def pedalled(tempo: int = 800_000, bars: tuple[int, int] = (3, 4)) -> bytes:
    """Six notes, a second each apart, each let go after a quarter of one; the pedal is down from 0.5 to 2.5 s."""
    head = mido.MidiTrack(
        [
            mido.MetaMessage("set_tempo", tempo=tempo),
            mido.MetaMessage("time_signature", numerator=bars[0], denominator=bars[1]),
        ]
    )
    a_second = round(480 * 1e6 / tempo)
    events: list[tuple[float, Any]] = [
        (0.5, mido.Message("control_change", control=64, value=90)),
        (2.5, mido.Message("control_change", control=64, value=0)),
        (4.4, mido.Message("control_change", control=64, value=127)),
        (5.9, mido.Message("control_change", control=64, value=0)),
    ]
    for k in range(6):
        events.append((k, mido.Message("note_on", note=60 + k, velocity=70 + k)))
        events.append((k + 0.25, mido.Message("note_off", note=60 + k)))
    track, now = mido.MidiTrack(), 0
    for when, message in sorted(events, key=lambda event: event[0]):
        track.append(message.copy(time=round(when * a_second) - now))
        now = round(when * a_second)
    out = io.BytesIO()
    mido.MidiFile(tracks=[head, track], ticks_per_beat=480).save(file=out)
    return out.getvalue()


def test_reading_keeps_keys_pedal_tempo_and_meter() -> None:
    score = parse_score(pedalled(), played=True)
    played = score.played
    assert played is not None
    assert [note.end for note in score.notes] == pytest.approx([0.25, 2.5, 2.5, 3.25, 4.25, 5.9])
    assert played.ups.tolist() == pytest.approx([k + 0.25 for k in range(6)])
    assert played.pedal.tolist() == [pytest.approx(each) for each in ([0.5, 90], [2.5, 0], [4.4, 127], [5.9, 0])]
    assert played.tempos == ((0.0, 800_000),)
    assert played.meters == ((0.0, 3, 4),)
    assert score.after(1.0).played is None


@pytest.mark.parametrize(("start", "until"), [(0.0, 5.5), (1.0, 4.5), (2.0, 1.2)])
def test_what_is_written_sounds_as_it_did(start: float, until: float) -> None:
    """The pedal is written and the keys are let go as they were, so that nothing is lengthened twice."""
    prompt = parse_score(pedalled(), played=True)
    tokenizer = PianoTokenizer()
    ids = tokenizer.head(tokenizer.encode(prompt.after(start)), until)
    seam = tokenizer.seconds(ids)
    # The model waits a second, strikes a note for a second, and lets go of the prompt's last one half way.
    last = next(note.pitch for note in reversed(prompt.notes) if note.start <= start + until)
    more = [355, 356 + 15, 80, 305, 128 + last, 305, 128 + 80]
    joined = tokenizer.decode(ids + more)
    data = performed(joined, prompt, start, min(seam, until), (seam, "here"))
    back = parse_score(data)
    assert [note.pitch for note in back.notes] == [note.pitch for note in joined.notes]
    assert [note.start for note in back.notes] == pytest.approx([note.start for note in joined.notes], abs=0.006)
    assert [note.end for note in back.notes] == pytest.approx([note.end for note in joined.notes], abs=0.006)
    midi = pretty_midi.PrettyMIDI(io.BytesIO(data))
    pedal = [change for change in midi.instruments[0].control_changes if change.number == 64]
    assert all(change.time <= seam + 0.001 for change in pedal)
    assert pedal[-1].value == 0
    assert {change.value for change in pedal} - {0} <= {90, 127}
    assert midi.get_tempo_changes()[1].tolist() == pytest.approx([75])
    assert [(each.numerator, each.denominator) for each in midi.time_signature_changes] == [(3, 4)]
    written = {note.pitch: note for note in midi.instruments[0].notes}
    key = 62 if last == 63 else 63
    assert written[key].end - written[key].start == pytest.approx(0.25, abs=0.002)  # its key, not the pedal
    texts = [message for track in mido.MidiFile(file=io.BytesIO(data)).tracks for message in track]
    assert [message.text for message in texts if message.type == "marker"] == ["here"]


def test_times_hold_through_tempo_changes() -> None:
    head = mido.MidiTrack([mido.MetaMessage("set_tempo", tempo=400_000 + 50_000 * k, time=480) for k in range(12)])
    track = mido.MidiTrack()
    for k in range(24):
        track += [mido.Message("note_on", note=40 + k, velocity=64), mido.Message("note_off", note=40 + k, time=250)]
    out = io.BytesIO()
    mido.MidiFile(tracks=[head, track], ticks_per_beat=480).save(file=out)
    prompt = parse_score(out.getvalue(), played=True)
    tokenizer = PianoTokenizer()
    joined = tokenizer.decode(tokenizer.encode(prompt.after(2.0)))
    data = performed(joined, prompt, 2.0, joined.duration)
    expected = [note for note in prompt.notes if note.start >= 2.0]
    for notes in (parse_score(data).notes, pretty_midi.PrettyMIDI(io.BytesIO(data)).instruments[0].notes):
        assert [note.start for note in notes] == pytest.approx([note.start - 2.0 for note in expected], abs=0.0011)


def test_parts_that_do_not_share_a_pedal_are_not_given_one() -> None:
    both = mido.MidiTrack(
        [
            *(mido.Message("note_on", note=60 + channel, channel=channel) for channel in (0, 1)),
            *(mido.Message("note_off", note=60 + channel, channel=channel, time=480) for channel in (0, 1)),
        ]
    )
    out = io.BytesIO()
    mido.MidiFile(tracks=[both]).save(file=out)
    assert parse_score(out.getvalue(), played=True).played is None


def test_a_continuation_is_written_so_and_one_without_a_file_as_its_notes_are(
    tiny_checkpoint: Path, tmp_path: Path
) -> None:
    (tmp_path / "prompt.mid").write_bytes(pedalled())
    pipeline = Pipeline.from_pretrained(tiny_checkpoint)
    params = SamplingParams(seconds=3.0, seed=4)
    prompt = Prompt.from_file(tmp_path / "prompt.mid", seconds=5.0)
    made = pipeline.continue_prompt(prompt, params)
    made.write_midi(tmp_path / "made.mid", "here")
    back = read_score(tmp_path / "made.mid")
    assert [note.pitch for note in back.notes] == [note.pitch for note in made.score.notes]
    assert [note.end for note in back.notes] == pytest.approx([note.end for note in made.score.notes], abs=0.006)
    assert back.played is not None
    assert back.played.tempos == ((0.0, 800_000),)
    # Gone on from: the prompt of all that there is begins with the same file.
    rows = [(EncodedPrompt(prompt=prompt, ids=made.prompt_ids + made.ids), 0)]
    *_, last = pipeline.stream_rows(rows, params)
    more: Continuation = last.continuations[0]
    more.write_midi(tmp_path / "more.mid")
    again = read_score(tmp_path / "more.mid")
    assert [note.end for note in again.notes] == pytest.approx([note.end for note in more.score.notes], abs=0.006)
    assert again.played is not None
    assert again.played.pedal[:, 0].max() <= 5.0
    bare = Score(notes=(Note(pitch=60, velocity=70, start=0.0, end=4.0),))
    pipeline.continue_prompt(Prompt(media=bare), params).write_midi(tmp_path / "bare.mid")
    assert parse_score((tmp_path / "bare.mid").read_bytes()).notes[0].pitch == 60
