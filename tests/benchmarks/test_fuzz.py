"""The fuzz command: what it calls a fault, that the same seed gives the same input, and what it once found."""

import json
import random
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks import fuzz
from benchmarks.fuzzing import child, kinds
from benchmarks.fuzzing.mutations import damaged, damaged_json
from shortcut_gen.codec.finding import open_codec
from shortcut_gen.errors import CheckpointError, MediaError, ShortcutGenError


def raising(error: BaseException) -> Callable[[Path], None]:
    def read(_: Path) -> None:
        raise error

    return read


@pytest.mark.parametrize(
    ("read", "expected"),
    [
        (lambda _: None, "read"),
        (raising(MediaError("a.mid is no MIDI file; one is needed")), "refused"),
        (raising(MediaError("")), "fault"),
        (raising(ValueError("oh")), "fault"),
        (raising(MemoryError()), "fault"),
        (raising(RecursionError()), "fault"),
    ],
)
def test_what_counts_as_a_fault(
    read: Callable[[Path], None], expected: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(kinds.KINDS, "midi", kinds.Kind(lambda _: None, kinds._bytes, read))  # type: ignore[arg-type]
    assert child.outcome("midi", tmp_path)["outcome"] == expected


def test_the_same_seed_gives_the_same_inputs(tmp_path: Path) -> None:
    kinds.make_inputs(tmp_path / "inputs")
    seen = set()
    for name in kinds.KINDS:
        made = []
        for turn in ("a", "b"):
            work = tmp_path / turn / name
            work.mkdir(parents=True)
            path = child.write_case(tmp_path / "inputs", work, 3, name, 5)
            files = sorted(path.rglob("*")) if path.is_dir() else [path]
            made.append([(file.name, file.read_bytes()) for file in files if file.is_file()])
        assert made[0] == made[1]
        seen.add(str(made[0]))
    assert len(seen) == len(kinds.KINDS)


def test_damage_changes_something_and_stays_small() -> None:
    data, chance = bytes(range(256)) * 4, random.Random(0)
    results = [damaged(data, b"other" * 9, chance) for _ in range(200)]
    assert sum(result != data for result in results) > 190
    assert max(map(len, results)) < 300_000
    document = json.dumps({"a": [1, {"b": None}], "c": "text"}).encode()
    assert len({damaged_json(document, chance) for _ in range(100)}) > 50


def test_a_crash_and_a_hang_are_the_faults_of_one_case(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The reader is a stand-in that reads all it is given at once, as pipes do, and dies at 2 and waits at 5."""
    stand_in = (
        "import os, sys, time\nprint('ready', flush=True)\nfor line in sys.stdin:\n"
        "    number = int(line.split()[1])\n    os._exit(7) if number == 2 else time.sleep(600 * (number == 5))\n"
        '    print(\'{"outcome": "read", "number": %d}\' % number, flush=True)\n'
    )
    popen = fuzz.subprocess.Popen
    monkeypatch.setattr(fuzz.subprocess, "Popen", lambda _, **more: popen([sys.executable, "-c", stand_in], **more))
    reader = fuzz.Child(tmp_path, tmp_path / "work", 0, seconds=4.0, gib=1.0)
    jobs = [("midi", number) for number in range(8)]
    answers = [*reader.ask(jobs[:4]), *reader.ask(jobs[4:])]
    reader.close()
    assert [answer.get("number") for answer in answers] == [0, 1, None, 3, 4, None, 6, 7]
    assert answers[2]["what"] == "crash: the process ended with 7"
    assert answers[5]["what"] == "hang: more than 4 s"


@pytest.mark.slow
def test_a_short_run_finds_nothing_and_a_fault_ends_with_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert fuzz.main(cases=140, workers=1, output=tmp_path / "out.json") == 0
    table = json.loads((tmp_path / "out.json").read_text())
    assert sum(sum(row.values()) for row in table["kinds"].values()) == 140
    assert table["faults"] == []
    assert "midi" in capsys.readouterr().out
    # A reader that is not given the time it takes.
    assert fuzz.main(cases=1, kinds=["sound"], workers=1, seconds=1e-9, save=tmp_path / "faults") == 1
    assert "sound 0: hang" in capsys.readouterr().out
    assert len(list((tmp_path / "faults/sound-0").iterdir())) == 1
    assert fuzz.main(cases=0) == 2
    assert fuzz.main(kinds=["letters"]) == 2


def codec_folder(folder: Path, **changes: object) -> Path:
    folder.mkdir()
    config = {"format": 1, "kind": "codec", "architecture": "encodec", "codec": {}} | changes
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "model.safetensors").write_bytes(b"")
    return folder


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architecture": []}, r"architecture is \[\]"),
        ({"architecture": {"": {}}}, "architecture is"),
        ({"codec": {"lstm_layers": 65535}}, "lstm_layers is 65535; whole numbers from 0 to 16"),
        ({"codec": {"lstm_layers": 2**32 - 1}}, "lstm_layers"),
        ({"codec": {"ratios": [1] * 3000}}, "ratios"),
        ({"codec": {"dimension": 10**30}}, "dimension"),
        ({"codec": {"codebooks": True}}, "codebooks is True"),
    ],
)
def test_a_codecs_config_asks_for_no_more_than_there_can_be(
    changes: dict[str, object], message: str, tmp_path: Path
) -> None:
    with pytest.raises(CheckpointError, match=message):
        open_codec(codec_folder(tmp_path / "codec", **changes))


def test_an_error_is_one_line_whatever_a_file_says() -> None:
    error = ShortcutGenError(f"shape {(8,) * 3000} \n of a\r\nfile")
    assert len(str(error)) < 700
    assert len(str(error).splitlines()) == 1
    assert str(error).endswith("of a file")
    assert str(MediaError("as it  is")) == "as it  is"
