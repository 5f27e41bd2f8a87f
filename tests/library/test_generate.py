"""The batch command, end to end, with a tiny random checkpoint."""

import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from shortcut_gen import generate
from shortcut_gen.batch import manifest
from shortcut_gen.decoding.sampling import SamplingParams
from shortcut_gen.errors import MediaError
from shortcut_gen.files import Lock
from shortcut_gen.media import Note, Score, read_score
from shortcut_gen.media.render import renderer_name
from shortcut_gen.pipeline import Pipeline, Prompt


def scale(first: int, notes: int = 12) -> Score:
    steps = range(notes)
    return Score(
        notes=tuple(Note(pitch=first + k, velocity=40 + 4 * k, start=0.2 * k, end=0.2 * k + 0.15) for k in steps)
    )


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    """A folder with three prompts, two of one stem, and things that are no prompts."""
    folder = tmp_path / "prompts"
    for name, first in (("scale.mid", 48), ("inner/scale.mid", 60), ("inner/other.MIDI", 70)):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        scale(first).write(path)
    (folder / "notes.txt").write_text("not a prompt")
    (folder / "._scale.mid").write_bytes(b"what a Mac leaves behind")
    return folder


@pytest.fixture
def command(tiny_checkpoint: Path) -> Callable[..., int]:
    def run(*arguments: object) -> int:
        defaults = ["--checkpoint", tiny_checkpoint, "--seconds", 1.5]
        return generate.main([str(argument) for argument in [*defaults, *arguments]])

    return run


def lines(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "manifest.jsonl").read_text().splitlines()]


def by_piece(out: Path) -> dict[str, bytes]:
    return {record["piece"]: (out / record["midi"]).read_bytes() for record in lines(out)}


def test_each_variation_has_a_midi_file_a_wav_file_and_a_line(
    command: Callable[..., int], prompts: Path, tmp_path: Path
) -> None:
    out = tmp_path / "deep" / "out"
    assert command(prompts / "scale.mid", "--out", out, "--variations", 2, "--seed", 7) == 0
    records = lines(out)
    assert [record["variation"] for record in records] == [0, 1]
    assert sorted(path.name for path in out.iterdir()) == sorted(
        ["manifest.jsonl", *(r["midi"] for r in records), *(r["wav"] for r in records)]
    )
    for record in records:
        samples, rate = soundfile.read(out / record["wav"])
        score = read_score(out / record["midi"])
        figures = record["figures"]
        assert rate == 44100
        assert record["renderer"] == renderer_name()
        assert samples.shape[1] == 2
        assert len(samples) / rate >= score.duration
        assert figures["peak"] == pytest.approx(np.abs(samples).max(), abs=1e-3)
        assert figures["notes"] == len(score.notes)
        assert figures["seconds"] == pytest.approx(score.duration, abs=0.01)
        assert 2.2 <= figures["seam_seconds"] <= 2.5
        assert figures["tokens"] > 0
        assert record["seed"] == 7
        assert record["settings"]["seconds"] == 1.5
        assert len(record["sha256"]) == len(record["checkpoint"]["sha256"]) == 64
        heard = [note.pitch for note in score.notes if note.start < figures["seam_seconds"] - 0.2]
        assert heard[:11] == list(range(48, 59))
    assert (out / records[0]["midi"]).read_bytes() != (out / records[1]["midi"]).read_bytes()


def test_music_does_not_depend_on_what_else_is_in_the_batch_nor_on_a_restart(
    command: Callable[..., int], prompts: Path, tmp_path: Path
) -> None:
    together, alone, resumed = tmp_path / "together", tmp_path / "alone", tmp_path / "resumed"
    every = ("--variations", 2, "--from-scratch", 1, "--midi-only")
    assert command(prompts, "--out", together, *every, "--batch-size", 16) == 0
    assert command(prompts, "--out", alone, *every, "--batch-size", 1) == 0
    assert command(prompts / "inner", "--out", resumed, "--midi-only") == 0
    assert command(prompts, "--out", resumed, *every, "--batch-size", 3) == 0
    assert len(by_piece(together)) == 7
    assert by_piece(together) == by_piece(alone) == by_piece(resumed)


def test_the_batch_makes_what_the_pipeline_makes(
    command: Callable[..., int], prompts: Path, tmp_path: Path, tiny_checkpoint: Path
) -> None:
    out = tmp_path / "out"
    path = prompts / "scale.mid"
    assert command(path, "--out", out, "--midi-only", "--seed", 3, "--top-p", 0.9, "--prompt-seconds", 1) == 0
    [record] = lines(out)
    params = SamplingParams(seconds=1.5, seed=3, top_p=0.9)
    made = Pipeline.from_pretrained(tiny_checkpoint).continue_prompt(Prompt.from_file(path, seconds=1), params)
    made.write_midi(tmp_path / "direct.mid")
    assert (tmp_path / "direct.mid").read_bytes() == (out / record["midi"]).read_bytes()


def test_prompts_of_one_stem_keep_apart(command: Callable[..., int], prompts: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert command(prompts, "--out", out, "--midi-only") == 0
    records = lines(out)
    assert {Path(record["prompt"]).name for record in records} == {"scale.mid", "other.MIDI"}
    assert len({record["midi"] for record in records}) == 3


def test_what_is_done_is_skipped(
    command: Callable[..., int], prompts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    run = (prompts, "--out", out, "--midi-only")
    assert command(*run) == 0
    before = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    assert command(*run) == 0
    assert {path: path.stat().st_mtime_ns for path in out.iterdir()} == before
    assert "0 made, 3 there already" in capsys.readouterr().err
    # A file that is gone is made again, and its line is not doubled.
    gone = lines(out)[0]
    (out / gone["midi"]).unlink()
    assert command(*run) == 0
    assert (out / gone["midi"]).is_file()
    assert len(lines(out)) == 3
    # Other settings get other files; nothing is lost.
    assert command(*run, "--temperature", 0.8) == 0
    assert len(lines(out)) == len({record["midi"] for record in lines(out)}) == 6
    assert command(*run, "--overwrite") == 0
    assert len(lines(out)) == 6


def test_a_manifest_line_cut_short_by_a_kill_is_made_again(
    command: Callable[..., int], prompts: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert command(prompts, "--out", out, "--midi-only") == 0
    whole = (out / "manifest.jsonl").read_text()
    (out / "manifest.jsonl").write_text(whole[:-40])
    assert command(prompts, "--out", out, "--midi-only") == 0
    assert (out / "manifest.jsonl").read_text() == whole


def test_bad_files_are_recorded_and_the_rest_goes_on(
    command: Callable[..., int], prompts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    (prompts / "bad.mid").write_bytes(b"RIFF\x24\0\0\0WAVEfmt ")
    (prompts / "empty.mid").write_bytes(b"")
    (prompts / "silent.mid").write_bytes(b"MThd\0\0\0\6\0\0\0\1\1\xe0MTrk\0\0\0\4\0\xff\x2f\0")
    for _ in range(2):  # a failure is tried again, and not recorded twice
        assert command(prompts, "--out", out, "--midi-only", "--variations", 2, "--batch-size", 3) == 1
        records = lines(out)
        failed = {Path(record["prompt"]).name: record["error"] for record in records if "error" in record}
        assert set(failed) == {"bad.mid", "empty.mid", "silent.mid"}
        assert all("\n" not in error and name in error for name, error in failed.items())
        assert len([record for record in records if "error" not in record]) == 6
        assert len(records) == 9
    scale(50).write(prompts / "bad.mid")
    (prompts / "empty.mid").unlink()
    (prompts / "silent.mid").unlink()
    assert command(prompts, "--out", out, "--midi-only", "--variations", 2) == 0
    assert not [record for record in lines(out) if record.get("prompt", "").endswith("bad.mid") and "error" in record]
    assert "3 failed" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["--seconds", "0"],
        ["--seconds", ".nan"],
        ["--seconds", "soon"],
        ["--temperature", "-1"],
        ["--top-p", "0"],
        ["--top-k", "1.5"],
        ["--min-p", "1"],
        ["--seed", "-1"],
        ["--variations", "0"],
        ["--batch-size", "0"],
        ["--from-scratch", "-1"],
        ["--prompt-seconds", "0"],
        ["--prompt-seconds", ".inf"],
        ["--checkpoint", "nowhere"],
        ["--device", "abacus"],
        ["--device", "cuda:99"],
        ["--unknown", "1"],
        ["nowhere.mid"],
    ],
    ids=" ".join,
)
def test_bad_settings_end_in_one_line_before_anything_is_written(
    arguments: list[str],
    command: Callable[..., int],
    prompts: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "out"
    assert command(prompts / "scale.mid", "--out", out, *arguments) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    assert not out.exists()


def test_no_prompt_no_out_and_no_midi_in_the_folder(
    command: Callable[..., int], prompts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    bare = tmp_path / "bare"
    bare.mkdir()
    for arguments in (["--out", out], [prompts], [bare, "--out", out]):
        assert command(*arguments) == 2
        said = capsys.readouterr().err
        assert said.startswith("error: ")
        assert said.count("\n") == 1
    assert not out.exists()


def test_results_inside_the_prompt_folder_are_no_prompts(
    command: Callable[..., int], prompts: Path, tmp_path: Path
) -> None:
    out = prompts / "out"
    for _ in range(2):
        assert command(prompts, "--out", out, "--midi-only") == 0
        assert len(lines(out)) == 3


def test_from_scratch(command: Callable[..., int], tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert command("--from-scratch", 3, "--out", out, "--midi-only", "--batch-size", 2) == 0
    records = lines(out)
    assert [record["prompt"] for record in records] == [None] * 3
    assert [record["figures"]["seam_seconds"] for record in records] == [0.0] * 3
    assert len({(out / record["midi"]).read_bytes() for record in records}) == 3


@pytest.mark.parametrize("stem", ["..", "a\nb", "\udcff\udcfe", "ü" * 120, "-rf", "CON", "...hidden"])
def test_a_result_never_leaves_its_folder_whatever_the_prompt_is_called(
    stem: str, command: Callable[..., int], prompts: Path, tmp_path: Path
) -> None:
    path = prompts / f"{stem}.mid"
    try:
        shutil.copy(prompts / "scale.mid", path)
    except (OSError, UnicodeError):
        pytest.skip("this file system has no such names")
    out = tmp_path / "out"
    assert command("--out", out, "--midi-only", "--", path) == 0
    [record] = lines(out)
    assert record["prompt"] == str(path)
    assert sorted(p.name for p in out.iterdir()) == sorted(["manifest.jsonl", record["midi"]])
    assert record["midi"].isascii()
    assert record["midi"][0].isalnum()


def test_a_folder_that_cannot_be_written(
    command: Callable[..., int],
    prompts: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "file").write_text("in the way")
    assert command(prompts, "--out", tmp_path / "file", "--midi-only") == 2
    locked = tmp_path / "locked"
    locked.mkdir()
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != locked)  # root may write everywhere
    assert command(prompts, "--out", locked, "--midi-only") == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2
    assert all(line.startswith("error: ") for line in said)
    assert list(locked.iterdir()) == []


def test_a_full_disk_ends_in_one_line_and_leaves_no_half_file(
    command: Callable[..., int],
    prompts: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = tmp_path / "out"
    real = os.fsync
    calls: list[int] = []

    def full(handle: int) -> None:
        calls.append(handle)
        if len(calls) > 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(handle)

    monkeypatch.setattr(os, "fsync", full)
    assert command(prompts, "--out", out, "--midi-only") == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    assert "no space left" in said
    [record] = lines(out)
    assert sorted(path.name for path in out.iterdir()) == sorted(["manifest.jsonl", record["midi"]])
    monkeypatch.undo()
    assert command(prompts, "--out", out, "--midi-only") == 0
    assert len(lines(out)) == 3


def test_an_interrupt_leaves_a_good_manifest(
    command: Callable[..., int], prompts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    real = Pipeline.stream_rows
    calls: list[object] = []

    def stop_in_the_third(self: Pipeline, rows: Any, params: Any) -> Any:
        calls.append(rows)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(self, rows, params)

    run = (prompts, "--out", out, "--midi-only", "--batch-size", 1)
    with monkeypatch.context() as patch:
        patch.setattr(Pipeline, "stream_rows", stop_in_the_third)
        assert command(*run) == 130
    done = lines(out)
    assert 1 <= len(done) <= 2
    assert all((out / record["midi"]).is_file() for record in done)
    assert command(*run) == 0
    assert len(lines(out)) == 3


def test_a_manifest_of_something_else_is_one_line(
    command: Callable[..., int], prompts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / manifest.MANIFEST).write_bytes(b"\xff\xfe\0\1")
    assert command(prompts, "--out", out, "--midi-only") == 2
    assert capsys.readouterr().err.startswith("error: ")
    assert (out / manifest.MANIFEST).read_bytes() == b"\xff\xfe\0\1"


def test_a_folder_is_filled_by_one_run_at_a_time(
    command: Callable[..., int], prompts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert command(prompts, "--out", out, "--midi-only") == 0
    held = Lock(out / ".lock", "", MediaError)
    assert command(prompts, "--out", out, "--midi-only") == 2
    assert "is in use by another run of this command; wait for it" in capsys.readouterr().err
    held.release()
    assert command(prompts, "--out", out, "--midi-only") == 0
    assert "0 made" in capsys.readouterr().err


@pytest.mark.parametrize("end", ["", '{"piece": "cut'])
def test_a_last_line_without_its_end_does_not_run_into_the_next(
    command: Callable[..., int], prompts: Path, tmp_path: Path, end: str
) -> None:
    out = tmp_path / "out"
    assert command(prompts, "--out", out, "--midi-only") == 0
    path = out / manifest.MANIFEST
    path.write_text(path.read_text().removesuffix("\n") + ("\n" if end else "") + end)
    assert command(prompts, "--out", out, "--midi-only", "--variations", 2) == 0
    records = [json.loads(line) for line in path.read_text().splitlines()]
    assert len({record["piece"] for record in records}) == len(records) == 6  # three scores, two variations


def test_pipes_are_named_and_the_rest_goes_on(
    command: Callable[..., int], prompts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    os.mkfifo(prompts / "pipe.mid")
    (prompts / "nothing.mid").symlink_to("gone")
    assert command(prompts, "--out", tmp_path / "out", "--midi-only") == 0
    said = capsys.readouterr().err
    assert "pipe.mid: no regular file" in said
    assert "nothing.mid: no regular file" in said
    assert command(prompts / "pipe.mid", "--out", tmp_path / "other", "--midi-only") == 1
    assert "pipe.mid is a pipe; a file is needed" in capsys.readouterr().err


def test_half_a_seed_is_refused(command: Callable[..., int], prompts: Path, tmp_path: Path, capsys: Any) -> None:
    assert command(prompts, "--out", tmp_path / "out", "--seed", 1.5) == 2
    assert "seed is 1.5; a whole number is needed" in capsys.readouterr().err
