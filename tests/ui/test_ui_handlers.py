"""The page's handlers, sessions and models, without a browser."""

import io
import math
import shutil
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import soundfile
from safetensors.torch import load_file, save_file

from shortcut_gen.errors import CheckpointError, MediaError, PromptError, SettingsError
from shortcut_gen.media import read_score
from shortcut_gen.pipeline import Prompt
from ui import sessions as sessions_module
from ui.__main__ import check_port, main
from ui.handlers import NO_PROMPT, PianoHandlers, whole
from ui.models import Models, find_checkpoints
from ui.sessions import Sessions

FIRST = "bach-prelude-c.mid"
SETTINGS: dict[str, Any] = {
    "used": 5.0,
    "seconds": 3.0,
    "variations": 1,
    "temperature": 1.0,
    "top_p": 0.95,
    "fresh_seed": False,
    "seed": 7,
    "checkpoint": None,
}


@pytest.fixture
def sessions() -> Iterator[Sessions]:
    made = Sessions()
    yield made
    made.clear()


@pytest.fixture(scope="module")
def models(tiny_checkpoint: Path) -> Models:
    return Models(find_checkpoints(tiny_checkpoint)["piano"])


@pytest.fixture
def do(models: Models, sessions: Sessions) -> PianoHandlers:
    return PianoHandlers(models, sessions)


def page(key: str = "page") -> Any:
    return SimpleNamespace(session_hash=key)


def run(do: PianoHandlers, choice: str | None = FIRST, upload: str | None = None, key: str = "page", **changes: Any):  # type: ignore[no-untyped-def]
    return do.run(choice, upload, *(SETTINGS | changes).values(), request=page(key))


def texts(steps: list[tuple[Any, ...]]) -> str:
    return "\n".join(str(value) for step in steps for value in step[:2])


def files(do: PianoHandlers, suffix: str) -> list[Path]:
    return sorted(do.sessions.results.glob(f"*/*{suffix}"))


def test_a_run_draws_then_writes_midi_and_sound(do: PianoHandlers) -> None:
    steps = list(run(do, variations=2))
    last = steps[-1]
    assert last[0].count("<audio") == 2
    assert "tokens" in last[1]
    assert last[3]["interactive"] is True
    assert last[4]["interactive"] is False
    midis, wavs = files(do, ".mid"), files(do, ".wav")
    assert [path.name for path in midis] == [
        "j-s-bach-prelude-in-c-major-bwv-846-seed7-v1.mid",
        "j-s-bach-prelude-in-c-major-bwv-846-seed7-v2.mid",
    ]
    for midi, wav in zip(midis, wavs, strict=True):
        assert read_score(midi).duration > 6
        info = soundfile.info(wav)
        assert (info.samplerate, info.channels, info.subtype) == (44100, 2, "PCM_16")
        assert info.duration > 6
        assert midi.name in last[0]
        assert wav.name in last[0]


def test_the_same_seed_gives_the_same_notes(do: PianoHandlers) -> None:
    list(run(do, key="a"))
    first = files(do, ".mid")[0].read_bytes()
    list(run(do, key="a"))
    assert [path.read_bytes() for path in files(do, ".mid")] == [first]
    list(run(do, key="a", seed=8))
    assert files(do, ".mid")[0].read_bytes() != first


def test_a_new_seed_is_drawn_and_shown(do: PianoHandlers) -> None:
    seeds = {next(run(do, key=key, fresh_seed=True))[2] for key in "abc"}
    assert len(seeds) == 3


def test_a_run_without_a_prompt(do: PianoHandlers) -> None:
    last = list(run(do, choice=NO_PROMPT))[-1]
    assert "<audio" in last[0]
    assert "from-scratch-seed7-v1" in last[0]


def test_stop_keeps_what_is_there(do: PianoHandlers) -> None:
    steps = run(do, seconds=120.0, variations=4)
    next(steps)
    drawn = next(steps)
    assert "Stop keeps" in drawn[1]
    do.stop(page())
    last = list(steps)[-1]
    assert "Stopped." in last[1]
    assert last[0].count("<audio") == 4
    assert all(read_score(path).duration < 100 for path in files(do, ".mid"))


def test_two_pages_do_not_mix(do: PianoHandlers) -> None:
    one, two = run(do, key="one", seconds=30.0), run(do, key="two", seed=99)
    next(one), next(two)
    do.stop(page("two"))  # stops nothing of the first page
    last_two = list(two)[-1]
    last_one = list(one)[-1]
    assert "Stopped." in last_two[1]
    assert "Stopped." not in last_one[1]
    assert "seed7" in last_one[0]
    assert "seed99" not in last_one[0]


def test_a_new_run_takes_the_old_results_away(do: PianoHandlers) -> None:
    for _ in range(3):
        list(run(do))
    assert len(files(do, ".wav")) == 1


def test_a_run_that_fails_leaves_the_results_before_it(do: PianoHandlers) -> None:
    list(run(do))
    wavs = files(do, ".wav")
    assert len(wavs) == 1
    list(run(do, seed=None))
    list(run(do, used=0.05))  # nothing sounds so early: refused by the pipeline, after the run has begun
    assert files(do, ".wav") == wavs
    list(run(do, seed=8))
    assert [path.name.endswith("seed8-v1.wav") for path in files(do, ".wav")] == [True]


def test_closing_the_generator_ends_the_run(do: PianoHandlers) -> None:
    steps = run(do, seconds=120.0)
    next(steps), next(steps)
    steps.close()
    assert files(do, ".wav") == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": None}, "seed is empty"),
        ({"seed": -1}, "seed is -1"),
        ({"seed": 1.5}, "seed is 1.5"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"top_p": 0}, "top_p is 0"),
        ({"seconds": -3}, "seconds is -3"),
        ({"seconds": None}, "at least one length"),
        ({"used": 0.0}, "prompt seconds is 0"),
        ({"variations": 9}, "variations is 9"),
        ({"checkpoint": "../piano"}, "there is no checkpoint '../piano'"),
        ({"choice": "../secret.mid"}, "no prompt is chosen"),
    ],
)
def test_a_bad_setting_is_one_line_and_loses_nothing(do: PianoHandlers, changes: dict[str, Any], message: str) -> None:
    last = list(run(do, **changes))[-1]
    assert message in unescape(last[1])
    assert 'role="alert"' in last[1]
    assert isinstance(last[0], dict)  # gr.skip(): the takes stay
    assert last[3]["interactive"] is True


def test_an_upload_goes_before_the_list_and_says_what_was_kept(do: PianoHandlers, tmp_path: Path) -> None:
    import pretty_midi

    midi = pretty_midi.PrettyMIDI()
    for program, is_drum in ((0, False), (40, False), (0, True)):
        instrument = pretty_midi.Instrument(program=program, is_drum=is_drum)
        instrument.notes.append(pretty_midi.Note(80, 60 + program % 7, 0.0, 2.0))
        midi.instruments.append(instrument)
    midi.write(str(tmp_path / "band.mid"))
    card, slider, listed, _ = do.choose_upload(str(tmp_path / "band.mid"), FIRST, 20.0)
    assert listed is None
    assert "band.mid: 1 note," in card
    assert 'class="kept"' in card
    assert slider["maximum"] == pytest.approx(2.0, abs=0.1)
    last = list(run(do, upload=str(tmp_path / "band.mid"), used=2.0))[-1]
    assert "band-seed7-v1" in last[0]


def test_a_wav_called_mid_is_refused_in_one_line(do: PianoHandlers, tmp_path: Path) -> None:
    wav = io.BytesIO()
    soundfile.write(wav, [0.0] * 1000, 8000, format="WAV")
    path = tmp_path / "song.mid"
    path.write_bytes(wav.getvalue())
    card, slider, listed, upload = do.choose_upload(str(path), FIRST, 20.0)
    assert card.count('role="alert"') == 1
    assert ">song.mid" in card  # its name, not where the server keeps it
    assert "J. S. Bach" in card  # what was chosen before still is
    assert upload is None
    assert isinstance(listed, dict)
    assert "maximum" not in slider
    with pytest.raises((MediaError, PromptError)):
        do.read_prompt(None, str(path))


def test_choosing_an_example_draws_it_and_puts_the_upload_away(do: PianoHandlers) -> None:
    card, slider, upload = do.choose_example("satie-gymnopedie.mid", 20.0)
    assert "E. Satie" in card
    assert "Not used" in card
    assert upload is None
    assert slider["value"] == 20.0
    card, slider, _ = do.choose_example("joplin-entertainer.mid", 20.0)
    assert "Not used" not in card
    assert slider["value"] == slider["maximum"] == pytest.approx(18, abs=0.3)
    assert "begins by itself" in do.choose_example(NO_PROMPT, 20.0)[0]
    assert do.clear_upload(20.0)[2] == FIRST


def test_whole_numbers() -> None:
    assert whole(3.0, "seed") == 3
    for bad in (None, "3", True, 2.5, float("inf"), float("nan")):
        with pytest.raises(SettingsError, match="seed"):
            whole(bad, "seed")


def test_results_of_closed_pages_go_and_old_runs_make_room(sessions: Sessions, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions_module, "KEEP_RUNS", 3)
    runs = [sessions.start_run(str(k)) for k in range(5)]
    assert [run.folder.is_dir() for run in runs] == [False, False, True, True, True]
    assert [run.stop.is_set() for run in runs] == [True, True, False, False, False]
    sessions.close("4")
    assert runs[4].stop.is_set()
    assert runs[4].folder.is_dir()
    monkeypatch.setattr(sessions_module, "GRACE_SECONDS", -1.0)
    sessions.start_run("new")
    assert not runs[4].folder.is_dir()
    sessions.stop("nobody")
    sessions.clear()
    assert not sessions.root.exists()


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
