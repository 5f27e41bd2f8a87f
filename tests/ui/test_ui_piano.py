"""What a run of the piano tab makes, shows and lets hear, without a browser."""

import re
import time
from concurrent.futures import ThreadPoolExecutor
from html import unescape
from pathlib import Path
from typing import Any

import mido
import numpy as np
import pyloudnorm
import pytest
import soundfile

from shortcut_gen.errors import MediaError, SettingsError
from shortcut_gen.media import Audio, read_score
from tests.shared.results import results_of
from tests.shared.tabs import late, page, run, token
from ui.loudness import MOST_GAIN, leveled
from ui.models import Models, find_checkpoints
from ui.piano import PianoPerformance, PianoTab
from ui.prompts import NO_PROMPT
from ui.sessions import Sessions
from ui.values import number, whole


def test_a_run_draws_then_writes_midi_and_sound(do: PianoTab) -> None:
    steps = list(run(do, variations=2))
    last = steps[-1]
    assert last[0].count("<audio") == 2
    assert "tokens" in last[1]
    assert last[3]["interactive"] is True
    assert last[4]["interactive"] is False
    midis, wavs = results_of(do.sessions, ".mid"), results_of(do.sessions, ".wav")
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
    lengths = [read_score(path).duration for path in results_of(do.sessions, ".mid")]
    assert all(length < 100 for length in lengths)
    # The picture spans what there is, not what was asked for.
    spans = {float(seconds) for seconds in re.findall(r'class="roll notes" data-seconds="([0-9.]+)"', last[0])}
    assert max(spans) == pytest.approx(5 + max(map(float, said)), abs=1.1)


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
    whole, _ = soundfile.read(results_of(do.sessions, ".wav")[0])
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


def test_a_run_that_fails_leaves_the_results_before_it(do: PianoTab, tmp_path: Path) -> None:
    list(run(do))
    wavs = results_of(do.sessions, ".wav")
    assert len(wavs) == 1
    list(run(do, seed=None))
    list(run(do, upload=late(tmp_path), used=1.0))  # nothing sounds so early: refused after the run has begun
    assert results_of(do.sessions, ".wav") == wavs
    list(run(do, seed=8))
    assert sorted(path.name.endswith("seed8-variation-1.wav") for path in results_of(do.sessions, ".wav")) == [
        False,
        True,
    ]


def test_closing_the_generator_ends_the_run(do: PianoTab) -> None:
    steps = run(do, seconds=120.0)
    next(steps), next(steps), next(steps)
    steps.close()
    assert results_of(do.sessions, ".wav") == []


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


def test_whole_numbers() -> None:
    assert whole(3.0, "seed", 0, 9) == 3
    for bad in (None, "3", True, 2.5, 10, -1, 10**400, float("inf"), float("nan")):
        with pytest.raises(SettingsError, match="seed"):
            whole(bad, "seed", 0, 9)
        with pytest.raises(SettingsError, match="seed"):
            number(bad if bad != 2.5 else [2.5], "seed", 0, 9)
