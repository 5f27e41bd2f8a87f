"""The kills command: what it counts, that two kills of each change nothing, and that a difference is told."""

import json
import os
import signal
from pathlib import Path

import pytest

from benchmarks import kills
from benchmarks.killing.rounds import difference
from benchmarks.killing.starter import Starter
from benchmarks.measuring.timing import command

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")

COUNTING = """
import sys, time
def main(arguments):
    print("begun", flush=True)
    time.sleep(float(arguments[0]))
    print("error: ended", file=sys.stderr)
    return int(arguments[1])
"""


def test_a_started_command_ends_by_itself_or_by_a_kill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "counting.py").write_text(COUNTING)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with Starter(["counting"]) as starter:
        ended = starter.start(["0", "3"], tmp_path / "out")
        assert (ended.wait(), ended.last_words()) == (3, "error: ended")
        killed = starter.start(["600", "0"], tmp_path / "out")
        while "begun" not in killed.said():
            assert not killed.ended(0.01)
        killed.send(signal.SIGKILL)
        assert killed.wait() == -signal.SIGKILL
        assert killed.ended()
        broken = starter.start(["no number", "0"], tmp_path / "out")
        assert broken.wait() == 70
        assert "ValueError" in broken.said()


def test_what_differs_between_two_results_is_named() -> None:
    assert difference({"a": "1"}, {"a": "1"}) == ""
    assert difference({"a": "1"}, {"a": "2"}) == "a differs"
    assert difference({"a": "1", "b": "1"}, {}) == "a is missing and 1 more"
    assert difference({}, {".a.part": "1"}) == ".a.part is left over"


def test_a_bad_setting_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert command(kills.main, kills.arguments(["--times", "-1"])) == 2
    assert capsys.readouterr().err == "error: times is -1; a whole number of at least 0 is needed\n"
    assert kills.arguments(["--what", "training", "prepare", "--times", "2"]) == ["--what", "[training,prepare]", "--times", "2"]  # fmt: skip # noqa: E501


@pytest.mark.long
@pytest.mark.timeout(900)
def test_two_kills_of_each_change_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "kills.json"
    assert command(kills.main, ["--times", "2", "--disks", "false", "--json", str(out)]) == 0, capsys.readouterr().err
    told = json.loads(out.read_text())
    assert [(row["what"], row["kills"]) for row in told["kills"]] == [("training", 2), ("prepare", 2), ("generate", 2)]
    assert all(row["equal"] == row["runs"] >= 1 and row["inside"] >= 1 for row in told["kills"])
    assert told["faults"] == []
    assert "| training |" in capsys.readouterr().out
