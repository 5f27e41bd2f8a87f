"""The command that looks for copies in batches: seams from the manifest, one line a file, refusals."""

import json
from pathlib import Path

import pytest

from shortcut_gen import copies
from shortcut_gen.copying import INDEX, Copying, line_of, write_copying
from shortcut_gen.media import Note, Score


def tune(pitches: list[int], start: float = 0.0) -> Score:
    notes = [
        Note(pitch=p, velocity=64, start=start + k * 0.2, end=start + k * 0.2 + 0.1) for k, p in enumerate(pitches)
    ]
    return Score(notes=tuple(notes))


KNOWN = [60, 67, 64, 59, 65, 70, 62, 69, 60, 65, 72, 61, 77, 50, 66, 71, 58, 74, 63, 80]
OTHER = [60, 61, 72, 50, 55, 70, 41, 66, 80, 43, 68, 52, 77, 45]


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    index = Copying.of([line_of(tune(KNOWN))], corpus="one tune")
    index.real = {20: {0: 10, 7: 9, 8: 1}}
    write_copying(folder, index)
    return folder


def test_a_batchs_manifest_says_where_to_begin(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    both = Score(notes=(*tune(KNOWN).notes, *tune(OTHER, 4.0).notes))
    for name in ("a", "b"):
        both.write(out / f"{name}.mid")
    record = {"piece": "a", "midi": "a.mid", "figures": {"seam_seconds": 4.0}}
    damaged = {"piece": "b", "midi": "b.mid", "figures": {"seam_seconds": "x"}}
    (out / "manifest.jsonl").write_text(f"{json.dumps(record)}\n{json.dumps(damaged)}\n")
    figures = tmp_path / "figures.json"
    assert copies.main([str(out), "--checkpoint", str(checkpoint), "--json", str(figures)]) == 0
    first, second, last = capsys.readouterr().out.splitlines()
    assert "no run of 7 of its 14 notes is in training" in first
    assert "20 of 34 notes, from 0:00 on, are in training" in second
    assert last.startswith("2 files: ") and "1 of 2 have a longer run" in last
    told = json.loads(figures.read_text())
    assert [entry["notes"] for entry in told["files"]] == [0, 20]
    assert told["summary"]["above_real_high"] == 1
    assert copies.main([str(out), "--checkpoint", str(checkpoint), "--start_seconds", "4"]) == 0
    assert capsys.readouterr().out.count("no run of 7") == 2


def test_a_bad_file_is_named_and_the_rest_goes_on(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad, good = tmp_path / "bad.mid", tmp_path / "good.mid"
    bad.write_bytes(b"no music")
    tune(KNOWN).write(good)
    assert copies.main([str(bad), str(good), "--checkpoint", str(checkpoint)]) == 1
    said = capsys.readouterr()
    assert said.err.startswith("failed: ") and "bad.mid" in said.err
    assert "20 of 20 notes" in said.out


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["none.mid"], "no such file or folder"),
        (["empty"], "no .mid or"),
        (["good.mid", "--start_seconds", "-1"], "start_seconds is -1"),
        (["good.mid", "--checkpoint", "empty"], INDEX),
        ([], "files"),
    ],
)
def test_what_cannot_start_is_one_line_and_2(
    options: list[str],
    said: str,
    checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    tune(KNOWN).write(tmp_path / "good.mid")
    given = options if "--checkpoint" in options else [*options, "--checkpoint", str(checkpoint)]
    assert copies.main(given) == 2
    error = capsys.readouterr().err
    assert said in error and len(error.splitlines()) == 1
