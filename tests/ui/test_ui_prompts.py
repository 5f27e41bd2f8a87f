"""What is chosen and uploaded as a prompt of the piano tab: the part that is used, what the card says, refusals."""

import io
import re
from html import unescape
from pathlib import Path
from typing import Any

import mido
import pytest
import soundfile

from shortcut_gen.errors import MediaError, PromptError
from shortcut_gen.media import Note, Score, read_score
from shortcut_gen.media.render import RELEASE_SECONDS
from shortcut_gen.pipeline import Pipeline
from tests.shared.results import results_of
from tests.shared.tabs import FIRST, late, page, run
from ui.piano import MAX_BYTES, MAX_EVENTS, PianoTab
from ui.prompts import NO_PROMPT
from ui.sessions import Sessions
from ui.text import runs


def test_a_prompt_can_be_heard(do: PianoTab) -> None:
    card, *_ = do.show("page", FIRST, None)
    found = re.search(r'src="results/(\w+)/([^"]+)"', card)
    assert found
    result = do.sessions.result(*found.groups())
    assert result is not None
    info = soundfile.info(result.path())
    assert info.duration == pytest.approx(do.examples[FIRST].seconds + RELEASE_SECONDS, abs=0.5)


def long_piece(folder: Path) -> str:
    """Five minutes of a scale, a note a second, after four seconds of nothing."""
    notes = tuple(Note(pitch=40 + k % 40, velocity=70, start=4.0 + k, end=4.8 + k) for k in range(300))
    Score(notes=notes).write(folder / "long.mid")
    return str(folder / "long.mid")


def test_any_part_of_a_long_file_is_continued(do: PianoTab, tmp_path: Path) -> None:
    path = long_piece(tmp_path)
    list(run(do, upload=path, start=100.0, used=10.0))
    prompt = [note for note in read_score(results_of(do.sessions, ".mid")[0]).notes if note.start < 9.5]
    assert [note.pitch for note in prompt[:10]] == [40 + k % 40 for k in range(96, 106)]
    assert prompt[0].start == pytest.approx(0.0, abs=0.02)
    card = do.change_part(None, path, 100.0, 10.0, page())
    assert 'class="roll notes overview"' in card
    assert 'data-choose="303.8' in card
    assert "From 100.0 s, 10.0 s are used" in card
    found = re.search(r'src="results/(\w+)/([^"]+)"', card)
    assert found
    result = do.sessions.result(*found.groups())
    assert result is not None
    assert soundfile.info(result.path()).duration < 35  # what is drawn large, and not five minutes


def test_the_card_says_what_is_used_and_where_the_model_goes_on(do: PianoTab, tmp_path: Path) -> None:
    path = tmp_path / "rest.mid"
    notes = tuple(Note(pitch=60, velocity=64, start=float(k), end=k + 0.4) for k in range(9))
    Score(notes=notes).write(path)
    assert "From the beginning, 4.8 s are used" in (card := do.show("page", None, str(path), 0.0, 4.8)[0])
    assert "Its last note begins or ends at 4.4 s; there the model goes on." in card
    assert "5 notes of the prompt in 4.8 s" in card  # the drawing in words
    assert "there the model goes on" not in do.show("page", None, str(path), 0.0, 4.4)[0]


@pytest.mark.parametrize(
    ("lengths", "said"),
    [
        ([8.0], "8 s of music in 1.5 s: 1,690 tokens."),
        ([8.0, 8.2], "2 variations, 8 s of music each, in 1.5 s: 1,690 tokens in all."),
        ([8.0, 3.0], "2 variations, up to 8 s of music each, in 1.5 s: 1,690 tokens in all."),
    ],
)
def test_the_tokens_are_said_to_be_those_of_all_variations(lengths: list[float], said: str) -> None:
    alike = max(lengths) - min(lengths) < 1
    assert runs.music(len(lengths), "8 s", alike, 1690, 1.5, False) == said


def test_silence_before_the_first_note_is_left_out_and_said(do: PianoTab, tmp_path: Path) -> None:
    card, start, used, *_ = do.choose_upload(long_piece(tmp_path), FIRST, 0.0, 20.0, page())
    assert (start["value"], start["maximum"], used["value"]) == (4.0, 302.8, 20.0)
    assert "From 4.0 s, 20.0 s are used" in card


@pytest.mark.parametrize("start", [-1, 400.0, "x", None, float("nan")])
def test_a_start_outside_the_file_is_a_line(do: PianoTab, tmp_path: Path, start: Any) -> None:
    last = list(run(do, upload=long_piece(tmp_path), start=start))[-1]
    assert "where to begin is" in last[1]


def test_what_the_model_cannot_see_is_said(do: PianoTab, tmp_path: Path) -> None:
    path = long_piece(tmp_path)
    assert "of which the model sees the last" in do.change_part(None, path, 0.0, 120.0, page())


def test_an_upload_goes_before_the_list_and_says_what_was_kept(do: PianoTab, tmp_path: Path) -> None:
    import pretty_midi

    midi = pretty_midi.PrettyMIDI()
    for program, is_drum in ((0, False), (40, False), (0, True)):
        instrument = pretty_midi.Instrument(program=program, is_drum=is_drum)
        instrument.notes.append(pretty_midi.Note(80, 60 + program % 7, 0.0, 2.0))
        midi.instruments.append(instrument)
    midi.write(str(tmp_path / "band.mid"))
    card, _, slider, listed, _ = do.choose_upload(str(tmp_path / "band.mid"), FIRST, 0.0, 20.0, page())
    assert listed is None
    assert "band.mid: 1 note," in card
    assert 'class="kept"' in card
    assert slider["maximum"] == pytest.approx(2.0, abs=0.1)
    last = list(run(do, upload=str(tmp_path / "band.mid"), used=2.0))[-1]
    assert "band-seed7-variation-1" in last[0]


def test_a_wav_called_mid_is_refused_in_one_line(do: PianoTab, tmp_path: Path) -> None:
    wav = io.BytesIO()
    soundfile.write(wav, [0.0] * 1000, 8000, format="WAV")
    path = tmp_path / "song.mid"
    path.write_bytes(wav.getvalue())
    card, _, slider, listed, upload = do.choose_upload(str(path), FIRST, 0.0, 20.0, page())
    assert card.count('role="alert"') == 1
    assert ">song.mid" in card  # its name, not where the server keeps it
    assert "J. S. Bach" in card  # what was chosen before still is
    assert upload is None
    assert isinstance(listed, dict)
    assert "maximum" not in slider
    with pytest.raises((MediaError, PromptError)):
        do.read_prompt(None, str(path))


@pytest.mark.parametrize("seconds", [0.1, 0.5, 1.0])
def test_a_score_shorter_than_a_second_is_continued_whole(do: PianoTab, tmp_path: Path, seconds: float) -> None:
    Score(notes=(Note(pitch=60, velocity=80, start=0.0, end=seconds),)).write(tmp_path / "note.mid")
    path = str(tmp_path / "note.mid")
    card, _, slider, *_ = do.choose_upload(path, FIRST, 0.0, 20.0, page())
    assert "note.mid: 1 note" in card
    assert (slider["minimum"], slider["interactive"]) == (0, False)
    assert 0 < slider["value"] == slider["maximum"]
    last = list(run(do, upload=path, choice=None, used=slider["value"]))[-1]
    assert "of note.mid" in last[0]
    assert len(read_score(results_of(do.sessions, ".mid")[0]).notes) >= 1
    _, _, slider, _ = do.choose_example(FIRST, page())
    assert (slider["minimum"], slider["value"], slider["interactive"]) == (1, 20.0, True)


def test_files_of_the_wrong_kind_or_size_say_so(do: PianoTab, tmp_path: Path) -> None:

    soundfile.write(tmp_path / "talk.wav", [0.1] * 9000, 8000)
    (tmp_path / "big.mid").write_bytes(b"MThd" + bytes(MAX_BYTES))
    crowd = mido.MidiFile(tracks=[mido.MidiTrack([mido.Message("note_on", note=60)] * (MAX_EVENTS + 9))])
    crowd.save(tmp_path / "crowd.kar")
    for name, line in {
        "talk.wav": "talk.wav is a sound file; a MIDI file is needed (the tab Speech takes sound)",
        "big.mid": "big.mid has 4,000,004 bytes; at most 4,000,000 of MIDI are taken here",
        "crowd.kar": "200,000",
    }.items():
        card = do.choose_upload(str(tmp_path / name), FIRST, 0.0, 20.0, page())[0]
        assert line in unescape(card)
        assert str(tmp_path) not in card


def test_a_moved_slider_reads_no_file_again(do: PianoTab, tmp_path: Path) -> None:
    path = tmp_path / "note.mid"
    Score(notes=(Note(pitch=60, velocity=80, start=0.0, end=9.0),)).write(path)
    do.choose_upload(str(path), FIRST, 0.0, 20.0, page())
    path.unlink()
    assert "note.mid: 1 note" in do.change_part(None, str(path), 0.0, 3.0, page())
    assert "how much to use is 'x'" in unescape(do.change_part(None, str(path), 0.0, "x", page()))  # type: ignore[arg-type]


def test_a_part_is_encoded_once_for_its_card_and_its_run(
    do: PianoTab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[float, float | None]] = []
    encode = Pipeline.encode
    monkeypatch.setattr(
        Pipeline, "encode", lambda p, prompt: seen.append((prompt.start, prompt.seconds)) or encode(p, prompt)
    )  # type: ignore[func-returns-value]
    path = long_piece(tmp_path)
    do.choose_upload(path, FIRST, 0.0, 20.0, page())
    do.change_part(None, path, 4.0, 20.0, page())  # what Gradio sends as its sliders have moved
    do.change_part(None, path, 50.0, 5.0, page())
    list(run(do, upload=path, start=50.0))
    assert seen == [(4.0, 20.0), (50.0, 5.0)]


def test_a_reading_that_gets_no_turn_says_so(
    do: PianoTab, sessions: Sessions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ui.folders.READING_WAIT", 0.05)
    with sessions.files.reading(), sessions.files.reading():
        card = do.choose_upload(late(tmp_path), FIRST, 0.0, 20.0, page())[0]
    assert "the server is busy" in card
    assert "late.mid" in do.choose_upload(late(tmp_path), FIRST, 0.0, 20.0, page())[0]


def test_notes_of_no_length_are_a_prompt_too(do: PianoTab, tmp_path: Path) -> None:
    Score(notes=(Note(pitch=60, velocity=80, start=0.0, end=0.0),)).write(tmp_path / "click.mid")
    card, _, slider, *_ = do.choose_upload(str(tmp_path / "click.mid"), FIRST, 0.0, 20.0, page())
    assert "click.mid: 1 note" in card
    assert slider["minimum"] < slider["maximum"]


def test_choosing_an_example_draws_it_and_puts_the_upload_away(do: PianoTab) -> None:
    card, _, slider, upload = do.choose_example("satie-gymnopedie.mid", page())
    assert "E. Satie" in card
    assert "Not used" in card
    assert upload is None
    assert slider["value"] == 20.0
    card, _, slider, _ = do.choose_example("joplin-entertainer.mid", page())
    assert "Not used" not in card
    assert slider["value"] == slider["maximum"] == pytest.approx(18, abs=0.3)
    assert "begins by itself" in do.choose_example(NO_PROMPT, page())[0]
    assert do.clear_upload(page())[3] == FIRST
