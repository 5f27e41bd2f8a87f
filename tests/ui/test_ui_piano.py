"""The piano tab, and what all tabs share: sessions and models. Without a browser."""

import io
import math
import re
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from html import unescape
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import mido
import numpy as np
import pyloudnorm
import pytest
import soundfile
from safetensors.torch import load_file, save_file
from starlette.applications import Starlette
from starlette.testclient import TestClient

from shortcut_gen.errors import CheckpointError, MediaError, PromptError, SettingsError
from shortcut_gen.media import Audio, Note, Score, read_score
from shortcut_gen.media.render import RELEASE_SECONDS
from shortcut_gen.pipeline import Pipeline, Progress, Prompt
from tests.shared.results import results_of
from tests.shared.tabs import FIRST, SETTINGS, go_on, page, run
from ui import sessions as sessions_module
from ui.__main__ import check_port, main
from ui.guard import COOKIE
from ui.loudness import MOST_GAIN, leveled
from ui.models import Models, find_checkpoints
from ui.piano import MAX_BYTES, MAX_EVENTS, PianoPerformance, PianoTab
from ui.prompts import NO_PROMPT
from ui.results import Made, Result, route
from ui.sessions import Admission, Sessions
from ui.text import runs
from ui.values import number, whole


def texts(steps: list[tuple[Any, ...]]) -> str:
    return "\n".join(str(value) for step in steps for value in step[:2])


def files(do: PianoTab, suffix: str) -> list[Path]:
    return results_of(do.sessions, suffix)


def test_a_run_draws_then_writes_midi_and_sound(do: PianoTab) -> None:
    steps = list(run(do, variations=2))
    last = steps[-1]
    assert last[0].count("<audio") == 2
    assert "tokens" in last[1]
    assert last[3]["interactive"] is True
    assert last[4]["interactive"] is False
    midis, wavs = files(do, ".mid"), files(do, ".wav")
    assert [path.name for path in midis] == [
        "j-s-bach-prelude-in-c-major-bwv-846-seed7-variation-1.mid",
        "j-s-bach-prelude-in-c-major-bwv-846-seed7-variation-2.mid",
    ]
    for midi, wav in zip(midis, wavs, strict=True):
        assert read_score(midi).duration > 6
        info = soundfile.info(wav)
        assert (info.samplerate, info.channels, info.subtype) == (44100, 2, "PCM_16")
        assert info.duration > 6
        assert midi.name in last[0]
        assert wav.name in last[0]


def test_the_same_seed_gives_the_same_notes(do: PianoTab) -> None:
    for seed in (7, 7, 8):
        list(run(do, key="a", seed=seed))
    one, two, other = (step.made[0].ids for step in do.sessions.steps("a", "piano"))
    assert one == two != other


def test_a_new_seed_is_drawn_and_shown(do: PianoTab) -> None:
    seeds = {next(run(do, key=key, fresh_seed=True))[2] for key in "abc"}
    assert len(seeds) == 3


def test_a_run_without_a_prompt(do: PianoTab) -> None:
    last = list(run(do, choice=NO_PROMPT))[-1]
    assert "<audio" in last[0]
    assert "from-scratch-seed7-variation-1" in last[0]
    assert ">from scratch<" in last[0]


def test_stop_keeps_what_is_there(do: PianoTab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shortcut_gen.decoding.shared.AHEAD", 64)  # or so small a model is done before it is stopped
    steps = run(do, seconds=120.0, variations=4)
    drawn = [next(steps) for _ in range(3)][-1]
    assert "Stop keeps" in drawn[1]
    stopping = do.stop(page())
    assert "Stopping." in stopping[0]
    assert "value" not in do.stopped(page())[1]  # it goes on: the page waits for the run's own last line
    last = list(steps)[-1]
    said = re.findall(r"([0-9.]+) s of variation", last[1])
    # Where the answer to Stop comes after that line, the page is told again, and does not say that it stops for ever.
    line, go, halt = do.stopped(page())
    assert re.findall(r"([0-9.]+) s of variation", line) == said
    assert (go["interactive"], halt["interactive"]) == (True, False)
    assert len(said) == 4
    assert last[0].count("<audio") == 4
    lengths = [read_score(path).duration for path in files(do, ".mid")]
    assert all(length < 100 for length in lengths)
    # The picture spans what there is, not what was asked for.
    spans = {float(seconds) for seconds in re.findall(r'class="roll notes" data-seconds="([0-9.]+)"', last[0])}
    assert max(spans) == pytest.approx(5 + max(map(float, said)), abs=1.1)


def token(steps: list[tuple[Any, ...]]) -> str:
    """What the page was told to ask for."""
    found = {t for step in steps for t in re.findall(r'data-live="live/(\w+)"', str(step[1]))}
    assert len(found) == 1
    return found.pop()


@pytest.mark.parametrize("ending", [False, True])
def test_what_is_heard_while_it_is_made_is_the_continuation(do: PianoTab, ending: bool) -> None:
    """Sample for sample what a rendering of the whole has there, and so without a click where pieces join."""
    steps = list(run(do, seconds=6.0, ending=ending))
    assert 'data-rate="44100" data-channels="2"' in "".join(str(step[1]) for step in steps)
    sound = do.sessions.live(token(steps))
    assert sound is not None
    data, last = sound.after(0)
    assert last
    live = np.frombuffer(data, "<i2").reshape(-1, 2) / 32767
    whole, _ = soundfile.read(files(do, ".wav")[0])
    assert 6 < len(live) / 44100 < 8.6 + 15 * ending
    saved = whole[-len(live) :]  # brought to a common loudness
    gain = (live * saved).sum() / (live * live).sum()
    assert np.abs(gain * live - saved).max() < 1e-3 * max(gain, 1)


def test_sound_is_there_while_notes_still_come(do: PianoTab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ui.piano.PIECE_SECONDS", 0.0)
    monkeypatch.setattr("shortcut_gen.decoding.shared.AHEAD", 64)
    monkeypatch.setattr(PianoPerformance, "redraw_seconds", 0.0)
    steps = run(do, seconds=120.0)
    first = [next(steps) for _ in range(3)]
    sound = do.sessions.live(token(first))
    assert sound is not None
    with ThreadPoolExecutor(1) as beside:
        rest = beside.submit(list, steps)
        while not sound.after(0)[0] and not rest.done():
            time.sleep(0.01)
        assert not sound.after(0)[1]
        do.stop(page())
        assert "Stopped." in rest.result()[-1][1]
    assert sound.after(0)[1]  # an answer that waits for more ends


def test_a_variation_says_how_much_of_it_training_has_too(root: Path, sessions: Sessions) -> None:
    """With the index that is shipped; the tiny models of the other tests have none."""
    shipped = PianoTab(Models(find_checkpoints(root / "checkpoints" / "piano")["piano"]), sessions)
    last = list(run(shipped, seconds=30.0))[-1]
    assert re.search(r"<summary>(No sign of copying|Maybe copied): [^<]* notes in a row", last[0]), last[0]
    assert "performances of other works" in last[0].partition("<summary>")[2].partition("<p>")[2]


def test_without_fluidsynth_a_run_is_seen_and_not_heard(do: PianoTab, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_: int) -> None:
        raise MediaError("FluidSynth's library is needed")

    monkeypatch.setattr("ui.piano.GrowingRender", missing)
    steps = list(run(do))
    assert "data-live" not in "".join(str(step[1]) for step in steps)
    assert "tokens" in steps[-1][1]


def test_files_are_as_loud_as_each_other_and_the_seam_is_marked(do: PianoTab) -> None:
    list(run(do, seconds=6.0))
    by_name = {
        path.name.split("variation-1")[1]: path for path in results_of(do.sessions, "") if "variation" in path.name
    }
    assert set(by_name) == {".mid", ".wav", "-new.mid", "-new.wav"}
    levels = []
    for name in (".wav", "-new.wav"):
        samples, rate = soundfile.read(by_name[name])
        levels.append(pyloudnorm.Meter(rate).integrated_loudness(samples))
        assert np.abs(samples).max() <= 0.9901
    assert levels == [pytest.approx(-18, abs=0.3)] * 2 or min(levels) < -18  # where peaks allow no more
    messages = list(mido.MidiFile(by_name[".mid"]))
    [seam] = [k for k, message in enumerate(messages) if message.type == "marker"]
    made = do.sessions.steps("page", "piano")[0].made[0]
    assert sum(message.time for message in messages[: seam + 1]) == pytest.approx(made.seam_seconds, abs=0.001)
    new, rest = read_score(by_name["-new.mid"]), read_score(by_name[".mid"]).after(made.seam_seconds - 0.005)
    assert [note.pitch for note in new.notes] == [note.pitch for note in rest.notes]
    assert [note.start for note in new.notes] == pytest.approx([note.start for note in rest.notes], abs=0.01)


@pytest.mark.parametrize("scale", [1e-4, 0.05, 0.9])
def test_loudness_is_common_and_silence_stays(scale: float) -> None:
    sound = np.sin(np.arange(44100 * 2) * 0.05).astype(np.float32)
    given = np.float32(scale) * np.stack([sound, sound])
    before, after = (
        pyloudnorm.Meter(44100).integrated_loudness(each.T) for each in (given, leveled(Audio(given, 44100)).samples)
    )
    assert after == pytest.approx(min(-18, before + MOST_GAIN), abs=0.2)
    for quiet in (np.zeros((2, 44100), np.float32), scale * np.ones((2, 100), np.float32)):
        assert np.array_equal(leveled(Audio(quiet, 44100)).samples, quiet)


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
    prompt = [note for note in read_score(files(do, ".mid")[0]).notes if note.start < 9.5]
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


def test_a_file_that_cannot_be_made_says_why(tmp_path: Path) -> None:
    def full(_: Path) -> None:
        raise MediaError("song.wav cannot be written (No space left on device)")

    found = {"song.wav": Result(tmp_path / "song.wav", full), "gone.wav": Result(tmp_path / "gone/gone.wav", full)}
    client = TestClient(Starlette(routes=[route(lambda token, name: found.get(name), Made(10**6))]))
    answer = client.get("/results/0a/song.wav")
    assert (answer.status_code, answer.text) == (507, "song.wav cannot be written (No space left on device)")
    assert client.get("/results/0a/gone.wav").status_code == 404
    assert client.get("/results/0a/other.wav").status_code == 404


def test_a_file_is_made_once_and_can_be_asked_for_in_parts(tmp_path: Path) -> None:
    made = []

    def write(path: Path) -> None:
        made.append(path)
        path.write_bytes(b"0123456789")

    result = Result(tmp_path / "song.wav", write)
    client = TestClient(Starlette(routes=[route(lambda token, name: result, Made(10**6))]))
    assert client.get("/results/0a/song.wav").content == b"0123456789"
    part = client.get("/results/0a/song.wav", headers={"Range": "bytes=2-4"})
    assert (part.status_code, part.content) == (206, b"234")
    assert len(made) == 1


def test_two_pages_do_not_mix(do: PianoTab) -> None:
    one, two = run(do, key="one", seconds=30.0), run(do, key="two", seed=99)
    next(one), next(two)
    do.stop(page("two"))  # stops nothing of the first page
    last_two = list(two)[-1]
    last_one = list(one)[-1]
    assert "Stopped." in last_two[1]
    assert "Stopped." not in last_one[1]
    assert "seed7" in last_one[0]
    assert "seed99" not in last_one[0]


def test_the_oldest_steps_make_room(do: PianoTab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions_module, "KEEP_STEPS", 2)
    for _ in range(4):
        list(run(do))
    assert [step.number for step in do.sessions.steps("page", "piano")] == [3, 4]
    assert len(list(do.sessions.files.results.iterdir())) == 2


def test_a_variation_is_gone_on_from_with_the_ids_it_has(do: PianoTab) -> None:
    list(run(do, variations=2))
    last = go_on(do, "1.2", seed=9)[-1]
    first, second = do.sessions.steps("page", "piano")
    before, after = first.made[1], second.made[0]
    assert after.prompt_ids == before.prompt_ids + before.ids
    assert second.parent == (1, 2)
    assert "of J. S. Bach, Prelude in C major, BWV 846, on from variation 2 of step 1, " in last[0]
    assert 'data-show="1"' in last[5]
    assert 'aria-label="Step 2: 1 variation from variation 2 of step 1, seed 9" aria-current=true' in last[5]
    earlier = go_on(do, "2.1@6.5")[-1]
    third = do.sessions.steps("page", "piano")[-1]
    assert third.made[0].prompt_ids == after.prompt_ids[: len(third.made[0].prompt_ids)]
    assert 5.5 < third.made[0].seam_seconds <= 6.5
    assert "Undo" in earlier[5]


@pytest.mark.parametrize("origin", ["", None, 7, "x", "9.1", "1.5", "1", "1.1@0.001", "-1.1", "9.0", "1.1@nan"])
def test_what_cannot_be_gone_on_from_is_a_line(do: PianoTab, origin: Any) -> None:
    list(run(do))
    last = go_on(do, origin)[-1]
    assert "status error" in last[1]
    assert len(do.sessions.steps("page", "piano")) == 1


def test_steps_are_undone_and_redone_and_a_reload_brings_them_back(
    do: PianoTab, sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ui.steps.CLOSES_WITHIN", 0.0)

    def opened(key: str, browser: str) -> Any:
        return SimpleNamespace(session_hash=key, cookies={COOKIE: browser})

    token = do.begin(opened("old", "me"))[3]
    list(do.run(token, FIRST, None, *SETTINGS.values(), request=opened("old", "me")))
    token = do.begin(opened("old", "me"))[3]
    last = list(do.run(token, FIRST, None, *(SETTINGS | {"seed": 8}).values(), request=opened("old", "me")))[-1]
    drawing, steps, _ = do.show_step("back", page("old"))
    assert "seed 7" in drawing
    assert "there is no step" in do.show_step("back", page("old"))[2]
    assert do.show_step("forward", page("old"))[0] == last[0]
    assert do.show_step("1", page("old"))[0] == drawing
    assert "step 7 is not there" in do.show_step("7", page("old"))[2]
    sessions.alive("old")
    assert do.restore(opened("new", "me"))[0] == gr.skip()  # the old page is still open: this is a second one
    sessions.close("old")
    assert do.restore(opened("stranger", "you"))[0] == gr.skip()
    assert do.restore(opened("new", "me")) == (drawing, steps)
    sessions.alive("new")
    # It is reloaded while a run goes on: that ends, and the steps are there.
    begun = do.begin(opened("new", "me"))[3]
    steps_of_run = do.run(begun, FIRST, None, *(SETTINGS | {"seconds": 120.0}).values(), request=opened("new", "me"))
    next(steps_of_run), next(steps_of_run)
    sessions.close("new")
    assert do.restore(opened("newer", "me")) == (drawing, steps)
    list(steps_of_run)
    assert [step.number for step in sessions.steps("newer", "piano")] == [1, 2, 3]
    assert sessions.shown("newer", "piano").number == 3  # type: ignore[union-attr]
    sessions.alive("newer")
    assert do.restore(opened("third", "me"))[0] == gr.skip()


def test_files_have_a_limit_together_and_are_made_again(tmp_path: Path) -> None:
    made, results = Made(25), []
    for name in "abc":
        results.append(Result(tmp_path / name, lambda path: path.write_bytes(bytes(10)) and None))
        made.used(results[-1].path())
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["b", "c"]
    assert results[0].path().read_bytes() == bytes(10)


def late(folder: Path) -> str:
    Score(notes=(Note(pitch=60, velocity=80, start=3.0, end=4.0),)).write(folder / "late.mid")
    return str(folder / "late.mid")


def test_a_run_that_fails_leaves_the_results_before_it(do: PianoTab, tmp_path: Path) -> None:
    list(run(do))
    wavs = files(do, ".wav")
    assert len(wavs) == 1
    list(run(do, seed=None))
    list(run(do, upload=late(tmp_path), used=1.0))  # nothing sounds so early: refused after the run has begun
    assert files(do, ".wav") == wavs
    list(run(do, seed=8))
    assert sorted(path.name.endswith("seed8-variation-1.wav") for path in files(do, ".wav")) == [False, True]


def test_closing_the_generator_ends_the_run(do: PianoTab) -> None:
    steps = run(do, seconds=120.0)
    next(steps), next(steps), next(steps)
    steps.close()
    assert files(do, ".wav") == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": None}, "seed is empty"),
        ({"seed": -1}, "seed is -1"),
        ({"seed": 1.5}, "seed is 1.5"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"top_p": 0}, "top-p is 0"),
        ({"top_k": 2.5}, "top-k is 2.5; a whole number from 0 to 256"),
        ({"min_p": 1}, "min-p is 1; a number from 0 to 0.5"),
        ({"guidance": 2.5}, "hold to the prompt is 2.5; a number from 0 to 2"),
        ({"seconds": -3}, "how long to go on is -3"),
        ({"seconds": None}, "how long to go on is empty"),
        ({"seconds": 1e9}, "how long to go on is 1000000000.0; a number from 2 to 120"),
        ({"used": 0.0}, "how much to use is 0"),
        ({"used": "much"}, "how much to use is 'much'"),
        ({"used": 1e6}, "how much to use is 1000000.0"),
        ({"variations": 9}, "variations is 9"),
        ({"variations": "two"}, "variations is 'two'"),
        ({"temperature": 99}, "temperature is 99; a number from 0 to 2"),
        ({"temperature": True}, "temperature is True"),
        ({"fresh_seed": 1}, "a new seed is 1"),
        ({"seed": 2**31}, "seed is 2147483648"),
        ({"checkpoint": 7}, "there is no checkpoint 7"),
        ({"choice": 7}, "no prompt is chosen"),
        ({"checkpoint": "../piano"}, "there is no checkpoint '../piano'"),
        ({"choice": "../secret.mid"}, "no prompt is chosen"),
    ],
)
def test_a_bad_setting_is_one_line_and_loses_nothing(do: PianoTab, changes: dict[str, Any], message: str) -> None:
    last = list(run(do, **changes))[-1]
    assert message in unescape(last[1])
    assert 'role="alert"' in last[1]
    assert isinstance(last[0], dict)  # gr.skip(): the takes stay
    assert last[3]["interactive"] is True


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
    assert len(read_score(files(do, ".mid")[0]).notes) >= 1
    _, _, slider, _ = do.choose_example(FIRST, page())
    assert (slider["minimum"], slider["value"], slider["interactive"]) == (1, 20.0, True)


def test_files_of_the_wrong_kind_or_size_say_so(do: PianoTab, tmp_path: Path) -> None:
    import mido

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


def test_a_run_waits_for_its_turn_and_can_be_stopped_before_it(do: PianoTab, sessions: Sessions) -> None:
    begun = []
    for key in "ab":
        line, _, _, token = do.begin(page(key))
        assert "Reading" in line
        begun.append(sessions.start_run(key, "piano", token))
    line, go, halt, first = do.begin(page("c"))
    assert "You are the next: yours begins when others are done" in line
    assert (go["interactive"], halt["interactive"]) == (False, True)
    line, go, halt = do.stop(page("c"))
    assert "Stopped before it began" in line
    assert (go["interactive"], halt["interactive"]) == (True, False)
    _, _, _, second = do.begin(page("c"))
    # Gradio's queue still holds the first click: its turn comes, and it takes nothing from the second.
    assert all("value" not in value for step in run(do, key="c", token=first) for value in step)  # gr.skip()
    last = list(run(do, key="c", token=second))[-1]
    assert "tokens" in last[1]
    assert len(files(do, ".mid")) == 1
    assert all(each is not None and not each.stop.is_set() for each in begun)


def test_a_run_that_is_stopped_in_line_for_its_model_says_so(
    do: PianoTab, sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the variations on the page stay."""

    def waits(pipeline: Pipeline, rows: Any, *_: Any, **__: Any) -> Any:
        for _ in range(100):
            yield Progress(continuations=(), done=(False,), queue=3)

    monkeypatch.setattr(Pipeline, "stream_rows", waits)
    said = []
    for each in run(do):
        assert each[0] == gr.skip()
        said.append(each)
        if "Number 3 in line" in str(each[1]):
            do.stop(page())
    assert "Stopped before it began" in said[-1][1]
    assert [button["interactive"] for button in said[-1][3:5]] == [True, False]
    assert sessions.steps("page", "piano") == []


def test_places_are_few_and_nobody_holds_one_that_is_gone(
    do: PianoTab, sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    most = sessions.runs + sessions_module.WAITING_RUNS
    for k in range(most):
        assert sessions.ask(f"page {k}")[0] is not Admission.REFUSED
    line, go, _, token = do.begin(page("late"))
    assert "Too many wait" in line
    assert go["interactive"] is True
    assert all("value" not in value for step in run(do, key="late", token=token) for value in step)
    assert sessions.ask("page 3")[0] is Admission.WAITS  # a page's own place is no other's
    sessions.stop("page 3")
    assert sessions.ask("late")[0] is Admission.WAITS
    # Who asked and was never heard of again loses the place; an open page keeps it.
    sessions.alive("page 200")
    monkeypatch.setattr(sessions_module, "TAKEN_WITHIN", -1.0)
    assert sessions.ask("one more")[0] is Admission.SERVED
    sessions.alive("page 201")
    sessions.alive("page 202")
    assert sessions.ask("yet one")[0] is Admission.WAITS
    sessions.close("page 200")
    sessions.close("page 201")
    assert sessions.ask("and one")[0] is Admission.SERVED


def test_one_browser_holds_a_few_places_at_most(sessions: Sessions) -> None:
    for k in range(sessions_module.RUNS_OF_BROWSER):
        assert sessions.ask(f"page {k}", browser="mine")[0] is not Admission.REFUSED
    assert sessions.ask("one more", browser="mine")[0] is Admission.REFUSED
    assert sessions.ask("another's", browser="yours")[0] is not Admission.REFUSED


def test_the_server_ends_with_its_runs(do: PianoTab, sessions: Sessions) -> None:
    steps = run(do, seconds=120.0)
    next(steps)
    sessions.stop_all()
    list(steps)
    assert list(sessions.files.results.glob("*/*.wav")) == []
    assert sessions.start_run("page", "piano") is None


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


def test_whole_numbers() -> None:
    assert whole(3.0, "seed", 0, 9) == 3
    for bad in (None, "3", True, 2.5, 10, -1, 10**400, float("inf"), float("nan")):
        with pytest.raises(SettingsError, match="seed"):
            whole(bad, "seed", 0, 9)
        with pytest.raises(SettingsError, match="seed"):
            number(bad if bad != 2.5 else [2.5], "seed", 0, 9)


def test_results_of_closed_pages_go_and_old_runs_make_room(sessions: Sessions, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions_module, "KEEP_RUNS", 3)
    runs = []
    for k in range(5):
        runs.append(sessions.start_run(str(k)))
        if k != 1:  # which still computes
            sessions.end_run(runs[k])
    assert [run.folder.is_dir() for run in runs] == [False, True, False, True, True]
    assert [run.stop.is_set() for run in runs] == [True, False, True, False, False]
    sessions.close("4")
    assert runs[4].stop.is_set()
    assert runs[4].folder.is_dir()
    monkeypatch.setattr(sessions_module, "GRACE_SECONDS", -1.0)
    sessions.start_run("new")
    assert not runs[4].folder.is_dir()
    sessions.stop("nobody")
    sessions.clear()
    assert not sessions.files.root.exists()


def test_a_damaged_checkpoint_is_left_out_and_an_empty_folder_refused(
    tiny_checkpoint: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copytree(tiny_checkpoint, tmp_path / "good")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "config.json").write_text("{")
    found = find_checkpoints(tmp_path)
    assert [entry.name for entry in found["piano"]] == ["good"]
    assert "bad" in caplog.text
    for folder in (tmp_path / "bad", tmp_path / "nowhere"):
        with pytest.raises(CheckpointError, match=folder.name):
            find_checkpoints(folder)
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match="no checkpoint"):
        find_checkpoints(tmp_path / "empty")


def test_a_checkpoint_whose_weights_cannot_be_used_does_not_keep_the_page_from_starting(
    tiny_checkpoint: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither one whose header shows it, nor one that only running shows, though it would be the first."""
    for name in ("piano", "cut", "good"):
        shutil.copytree(tiny_checkpoint, tmp_path / name)
    (tmp_path / "cut/model.safetensors").write_bytes(b"\x10")
    weights = load_file(tmp_path / "piano/model.safetensors")
    weights["norm.weight"].fill_(math.nan)
    save_file(weights, tmp_path / "piano/model.safetensors")
    models = Models(find_checkpoints(tmp_path)["piano"])
    assert models.default == "piano"
    models.warm_up(Prompt.empty())
    assert [entry.name for entry in models.entries] == ["good"]
    assert "cut" in caplog.text
    assert "norm.weight holds values that are not finite" in caplog.text


def test_the_models_of_a_page_are_loaded_once(models: Models) -> None:
    assert models.pipeline() is models.pipeline("tiny")
    assert models.entries[0].label == "tiny"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--checkpoints", "/nowhere/at/all", "--port", "7999"], "/nowhere/at/all is no folder"),
        (["--port", "99999"], "port is 99999"),
        (["--threads", "0", "--port", "7999"], "threads is 0"),
        (["--host", "not a host", "--port", "7999"], "not a host"),
    ],
)
def test_a_bad_command_line_is_one_line_and_2(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert message in error


def test_a_port_in_use_is_one_line() -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(SettingsError, match=f"port {port}"):
            check_port("127.0.0.1", port)
