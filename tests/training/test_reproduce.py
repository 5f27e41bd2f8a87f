"""training.reproduce: the grid's runs and records, the processes it drives, and one clear line for what cannot be."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from shortcut_gen.errors import DataError
from shortcut_gen.network.config import ModelConfig
from tests.shared.tiny_runs import CONFIG, ROOT, write_corpus
from training import fit, reproduce
from training.experiment import score as reproduce_score
from training.experiment.grid import GridConfig, corpora_of, runs_of
from training.experiment.jobs import Job, JobRunner
from training.experiment.results import append, claimed, finished, read
from training.experiment.score import read_log
from training.run.checkpoints import LAST
from training.run.recipe import Budget

PIECES = {"train": [400, 90, 20], "validation": [300], "test": [120, 60, 90]}
pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec.*")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """data is a tiny corpus, overlay.yaml names it."""
    write_corpus(tmp_path / "data", PIECES)
    (tmp_path / "overlay.yaml").write_text(f"data:\n  path: {tmp_path / 'data'}\n")
    return tmp_path


def grid_of(folder: Path, **changes: Any) -> GridConfig:
    settings: dict[str, Any] = dict(corpora=("maestro",), arms=("baseline", "mlps"), seeds=(0, 1), points=2)
    settings |= dict(overlay=(CONFIG, folder / "overlay.yaml"), out=folder / "out", budget=Budget(steps=4))
    return GridConfig(**{**settings, **changes})


def command(folder: Path, *more: str, arms: Sequence[str] = ("baseline", "mlps")) -> list[str]:
    overlay = ["--overlay", str(CONFIG), str(folder / "overlay.yaml")]
    place = ["--out", str(folder / "out"), "--kept", str(folder / "kept.jsonl")]
    return ["run", "--arms", *arms, *overlay, *place, "--points", "2", *more]


class InProcess(JobRunner):
    """Runs the same commands without processes, which take seconds to start."""

    def run(self, jobs: Sequence[Job]) -> int:
        mains = {"training.fit": fit.main, "training.experiment.score": reproduce_score.main}
        for job in jobs:
            status = 0
            job.log.parent.mkdir(parents=True, exist_ok=True)
            job.log.write_text("error: the disk is full\n\n")
            for words in job.commands:
                status = status or mains[words[2]](words[3:])
            self._finished(job, status)
        return 0


@pytest.fixture
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reproduce, "JobRunner", InProcess)


# The grid -------------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("quickly")
def test_a_grid_leaves_a_record_for_every_run(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = command(folder, "--seeds", "0", "1", "--budget.tokens", "700", "--limit", "2")
    assert reproduce.main(words) == 0
    records = read(folder / "out/results.jsonl")
    order = [(record["seed"], record["arm"]) for record in records]
    assert order == [(0, "baseline"), (0, "mlps"), (1, "baseline"), (1, "mlps")]
    record = records[1]
    assert record["model"]["residual_mlps"] == [1, 2]
    assert record["budget"] == {"tokens": 700}
    assert (record["steps"], record["tokens"]) == (6, 768)
    assert [(point["step"], point["tokens"]) for point in record["curve"]] == [(3, 384), (6, 768)]
    assert 0 < record["curve"][0]["seconds"] < record["curve"][1]["seconds"] <= record["seconds"]
    assert 0 < record["nll"] < 20
    assert record["scored_tokens"] in (208, 178, 148)  # 2 of the pieces, their first tokens left out
    assert (record["split"], record["limit"], record["precision"]) == ("test", 2, "32-true")
    assert record["parameters"] < record["parameters_total"]
    assert record["machine"]["jobs"] == 1
    assert "maestro mlps seed 1: 6 steps" in capsys.readouterr().out
    assert reproduce.main(words) == 0  # nothing is left to do
    assert "4 done, 0 to run" in capsys.readouterr().out
    words = command(folder, "--seeds", "1", "--budget.tokens", "700", "--limit", "1", arms=["mlps"])
    assert reproduce.main(words) == 0  # scored anew on fewer pieces, not trained anew
    assert len(read(folder / "out/results.jsonl")) == 5
    assert len(list((folder / "out/runs").iterdir())) == 4


@pytest.mark.usefixtures("quickly")
def test_what_is_kept_need_not_run_again_elsewhere(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = command(folder, "--seeds", "0", "--budget.steps", "2")
    assert reproduce.main(words) == 0
    kept, results = folder / "kept.jsonl", folder / "out/results.jsonl"
    keep = ["keep", "--results", str(results), "--speeds", str(folder / "none.json"), "--kept", str(kept)]
    assert reproduce.main(keep) == 0
    first = kept.read_bytes()
    assert reproduce.main(keep) == 0
    assert kept.read_bytes() == first
    shutil.rmtree(folder / "out")
    capsys.readouterr()
    assert reproduce.main([*words, "--arms", "baseline", "mlps", "shortcut"]) == 0
    assert "2 done, 1 to run" in capsys.readouterr().out
    assert [record["arm"] for record in read(results)] == ["shortcut"]
    assert reproduce.main(keep) == 0
    records = [json.loads(line) for line in kept.read_text().splitlines()]
    assert [record["arm"] for record in records] == ["baseline", "mlps", "shortcut"]
    assert all(len(record["curve"]["loss"]) == 2 and record["commit"] for record in records)
    kept.write_text("{}\n" + kept.read_text()[:-40])
    assert reproduce.main(words) == 2
    error = capsys.readouterr().err
    assert "kept.jsonl, line 4 is not a JSON object" in error and error.count("\n") == 1


@pytest.mark.usefixtures("quickly")
def test_a_run_that_fails_is_named_and_the_others_go_on(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    original = fit.main
    monkeypatch.setattr(fit, "main", lambda words: 2 if "-baseline-" in str(words) else original(words))
    assert reproduce.main(command(folder, "--seeds", "0", "--budget.steps", "2")) == 1
    assert "failed: maestro baseline seed 0: error: the disk is full (" in capsys.readouterr().out
    assert [record["arm"] for record in read(folder / "out/results.jsonl")] == ["mlps"]
    monkeypatch.setattr(fit, "main", original)
    assert reproduce.main(command(folder, "--seeds", "0", "--budget.steps", "2")) == 0
    assert [record["arm"] for record in read(folder / "out/results.jsonl")] == ["mlps", "baseline"]


@pytest.mark.usefixtures("quickly")
def test_a_last_validation_that_was_lost_is_made_up_for(folder: Path) -> None:
    assert reproduce.main(command(folder, "--seeds", "0", "--budget.steps", "4", arms=["shortcut"])) == 0
    (record,) = read(folder / "out/results.jsonl")
    (run,) = (folder / "out/runs").iterdir()
    log = run / "csv/version_0/metrics.csv"
    log.write_text("".join(log.read_text().splitlines(keepends=True)[:-1]))
    again = reproduce_score.score_run(run)
    assert len(again["curve"]) == len(record["curve"]) == 2
    for key in ("step", "tokens", "loss", "accuracy"):
        assert again["curve"][-1][key] == pytest.approx(record["curve"][-1][key], rel=1e-5)
    assert again["nll"] == record["nll"]


def test_the_plan_is_printed_and_nothing_else_done(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["run", "--arms", "baseline", "wide", "--budget.tokens", "5_000_000", "--out", str(folder / "out")]
    assert reproduce.main([*words, "--overlay", str(folder / "overlay.yaml"), "--dry-run"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split()[:7] == ["maestro", "baseline", "1.98", "M", "2.10", "M", "16.0"]
    assert lines[2].split()[1:3] == ["wide", "6.94"]
    assert lines[3].startswith("6 runs, ")
    assert not (folder / "out").exists()


def test_runs_differ_in_their_arm_alone(folder: Path) -> None:
    """Same seed, same data, same budget, same optimiser, validations at the same steps."""
    grid = grid_of(folder, arms=("baseline", "shortcut", "wide", "mlps"), points=20, budget=Budget(steps=1221))
    runs = runs_of(grid, corpora_of(grid))[:4]
    words = [{word for word in run.arguments() if "model.config" not in word} - {run.folder.name} for run in runs]
    assert words[0] == words[1] == words[2] == words[3]
    assert not any(word.startswith("--model.config") for word in runs[1].arguments())
    assert "--model.config.taps=[]" in runs[0].arguments()
    # 62 steps: 19 validations on the way and the last one at the end.
    assert runs[0].arguments()[runs[0].arguments().index("--trainer.val_check_interval") + 1] == "62"
    assert len({run.folder for run in runs}) == 4


def test_a_budget_of_seconds_validates_by_the_clock(folder: Path) -> None:
    grid = grid_of(folder, budget=Budget(seconds=7200), points=20)
    (corpus,) = corpora_of(grid)
    assert corpus.tokens is None
    words = runs_of(grid, [corpus])[0].arguments()
    assert words[words.index("--trainer.val_check_interval") + 1] == "00:00:06:00"
    assert words[words.index("--budget.steps") + 1] == "null"


# The records ----------------------------------------------------------------------------------------------------------


def test_other_settings_are_another_run(folder: Path) -> None:
    path = folder / "results.jsonl"
    grid = grid_of(folder)
    runs = runs_of(grid, corpora_of(grid))
    for run in runs[:2]:
        append(path, run.identity() | run.sizes() | {"nll": 1.0})
    assert finished(read(path), runs) == {run.folder.name for run in runs[:2]}
    for changes in ({"budget": Budget(steps=5)}, {"limit": 1}):
        others = grid_of(folder, **changes)
        assert not finished(read(path), runs_of(others, corpora_of(others)))
    assert {run.folder.name for run in runs_of(others, corpora_of(others))} == {run.folder.name for run in runs}
    faster = [replace(run, shared=run.shared | {"optimizer": {"lr": 1.0}}) for run in runs]
    assert not finished(read(path), faster)
    assert not {run.folder for run in faster} & {run.folder for run in runs}


def test_a_record_from_before_an_option_of_the_model_counts(folder: Path) -> None:
    grid = grid_of(folder, arms=("baseline",))
    runs = runs_of(grid, corpora_of(grid))
    old = runs[0].identity()
    old["model"] = {key: value for key, value in old["model"].items() if key != "residual_mlps"}
    append(folder / "results.jsonl", old)
    assert finished(read(folder / "results.jsonl"), runs) == {runs[0].folder.name}


def test_a_line_cut_short_is_taken_away_and_a_damaged_one_named(folder: Path) -> None:
    path = folder / "results.jsonl"
    append(path, {"arm": "baseline", "model": ModelConfig().to_dict()})
    whole = path.read_bytes()
    path.write_bytes(whole + whole[:20])
    assert [record["arm"] for record in read(path)] == ["baseline"]
    assert path.read_bytes() == whole
    for damage, said in (
        (b"[]\n", "is not a JSON object"),
        (b'{"arm": "baseline"}\n', ": no record of a run"),
        (whole.replace(b'"baseline"', b'"basline"'), ": the arm 'basline' is not known"),
    ):
        path.write_bytes(whole + damage)
        with pytest.raises(DataError, match=f"results.jsonl, line 2{said if said[0] == ':' else f' {said}'}"):
            read(path)


def test_the_log_of_a_run_started_twice(tmp_path: Path) -> None:
    """Killed after step 25, resumed after step 20: seconds of training alone, each step counted once."""
    head = "step,speed/tokens_per_second,val/loss,val/accuracy\n"
    starts = {
        "version_0": ["10,100,,", "9,,5.0,0.1", "20,50,,", "19,,4.5,0.2", "25,1,,"],
        "version_10": ["40,100,,", "39,,3.5,0.4"],
        "version_2": ["24,,4.2,0.2", "30,200,,", "29,,4.0,0.3"],
    }
    for version, lines in starts.items():
        (tmp_path / "csv" / version).mkdir(parents=True)
        (tmp_path / "csv" / version / "metrics.csv").write_text(head + "\n".join(lines) + "\n")
    curve, seconds = read_log(tmp_path, tokens_per_step=10)
    assert seconds == pytest.approx(10 * 10 / 100 + 10 * 10 / 50 + 10 * 10 / 200 + 10 * 10 / 100)
    assert [point["step"] for point in curve] == [10, 20, 25, 30, 40]
    assert [point["loss"] for point in curve] == [5.0, 4.5, 4.2, 4.0, 3.5]
    assert [point["seconds"] for point in curve] == pytest.approx([1.0, 3.0, 3.25, 3.5, 4.5])


# The processes --------------------------------------------------------------------------------------------------------


def shell(folder: Path, name: str, *scripts: str) -> Job:
    return Job(name=name, commands=[["sh", "-c", script] for script in scripts], log=folder / "logs" / name)


def test_so_many_jobs_at_a_time_and_a_failure_ends_its_job_alone(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    script = f"echo + >> {trace}; sleep 0.3; echo - >> {trace}"
    jobs = [shell(tmp_path, f"{number}", script, "exit 3" if number == 1 else "exit 0", script) for number in range(4)]
    ended: dict[str, int] = {}
    assert JobRunner(2, lambda job, status: ended.update({job.name: status})).run(jobs) == 0
    assert ended == {"0": 0, "1": 3, "2": 0, "3": 0}
    running = [0]
    for sign in trace.read_text().split():
        running.append(running[-1] + (1 if sign == "+" else -1))
    assert max(running) == 2
    assert trace.read_text().count("+") == 7


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_every_job_and_waits_for_it(tmp_path: Path, number: signal.Signals) -> None:
    before = signal.getsignal(number)
    tidy = f"trap 'sleep 0.2; echo $$ >> {tmp_path}/stopped; exit 0' TERM; echo up >> {tmp_path}/up; "
    ask = f"while [ $(wc -l < {tmp_path}/up) -lt 2 ]; do sleep 0.05; done; kill -{number} $PPID; "
    wait = "while true; do sleep 0.05; done"
    scripts = {"one": tidy + wait, "two": tidy + ask + wait, "three": tidy}
    jobs = [shell(tmp_path, name, script) for name, script in scripts.items()]
    ended: list[str] = []
    assert JobRunner(2, lambda job, status: ended.append(job.name)).run(jobs) == number
    assert len((tmp_path / "stopped").read_text().split()) == 2
    assert ended == []
    assert signal.getsignal(number) == before


@pytest.mark.skipif(sys.platform != "linux", reason="the system tells children of a killed process on Linux alone")
def test_killed_itself_it_leaves_no_job_behind(tmp_path: Path) -> None:
    tidy = f"trap 'echo stopped >> {tmp_path}/stopped; exit 0' TERM; echo up > {tmp_path}/up; "
    script = tidy + "while true; do sleep 0.05; done"
    code = (
        "from pathlib import Path; from training.experiment.jobs import Job, JobRunner; "
        f"job = Job(name='one', commands=[['sh', '-c', {script!r}]], log=Path({str(tmp_path / 'log')!r})); "
        "JobRunner(1, print).run([job])"
    )
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT) as process:
        _until((tmp_path / "up").exists)
        process.kill()
    _until((tmp_path / "stopped").exists)


def _until(there: Callable[[], bool]) -> None:
    end = time.monotonic() + 120
    while not there():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_stopped_in_the_middle_the_same_command_goes_on(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = command(folder, "--seeds", "0", "--budget.steps", "300", arms=["baseline"])
    logs = folder / "out/logs"

    def stop() -> None:
        _until(lambda: any("\nstep 5 " in log.read_text() for log in logs.glob("*.log")))
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=stop)
    thread.start()
    assert reproduce.main(words) == 130
    thread.join()
    assert "stopped with 0 of 1 done; the same command goes on" in capsys.readouterr().out
    (run,) = (folder / "out/runs").iterdir()
    assert (run / LAST).exists()
    assert reproduce.main(words) == 0
    (record,) = read(folder / "out/results.jsonl")
    assert (record["steps"], len(record["curve"])) == (300, 2)
    (log,) = logs.iterdir()
    assert "resumed after step" in log.read_text()


# Speed, report and what cannot be -------------------------------------------------------------------------------------


def test_speeds_of_every_arm_are_kept_by_corpus(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["speed", "--arms", "baseline", "shortcut", "--rounds", "2", "--out", str(folder)]
    words += ["--overlay", str(CONFIG), str(folder / "overlay.yaml")]
    assert reproduce.main([*words, "--corpora", "maestro"]) == 0
    assert reproduce.main([*words, "--corpora", "speech"]) == 0
    speeds = json.loads((folder / "speed.json").read_text())
    assert speeds["measured"][0]["machine"]["threads"] == 1
    assert [entry["corpus"] for entry in speeds["measured"]] == ["maestro", "speech"]
    for entry in speeds["measured"][0]["speeds"].values():
        assert entry["tokens_per_second"] > 0
        assert 0 <= entry["spread"] < 1
        assert entry["rounds"] == 2
    assert "shortcut" in capsys.readouterr().out
    speeds["measured"][1]["machine"]["name"] = "another machine"
    (folder / "speed.json").write_text(json.dumps(speeds))
    assert reproduce.main([*words, "--corpora", "maestro"]) == 0
    assert [entry["corpus"] for entry in json.loads((folder / "speed.json").read_text())["measured"]] == ["maestro"]


def test_the_report_gets_the_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[object] = []
    monkeypatch.setattr("training.experiment.report.page.write", lambda *paths: given.extend(paths))
    out = ["--out", str(tmp_path / "c.md")]
    assert reproduce.main(["report", "--results", "a.jsonl", "--attention", "d.json", "e.json", *out]) == 0
    looked_at = [Path("d.json"), Path("e.json")]
    kept = Path("docs/reproduction.jsonl")
    assert given == [Path("a.jsonl"), Path("runs/reproduce/speed.json"), tmp_path / "c.md", looked_at, kept]


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--corpora", "piano"], "unknown corpus 'piano'; known are maestro, speech, "),
        (["--arms", "baseline", "widest"], "unknown arm 'widest'; known are baseline, shortcut, "),
        (["--jobs", "0"], "jobs is 0"),
        (["--seeds", "-1"], "a seed is -1"),
        (["--budget.tokens", "0"], "tokens is 0"),
        (["--overlay", "nothing.yaml"], "nothing.yaml"),
        (["--corpora", "text9"], "unknown corpus 'text9'"),
    ],
)
def test_what_cannot_be_takes_one_line(
    folder: Path, more: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert reproduce.main([*command(folder, "--budget.steps", "2"), *more]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert says in error
    assert not (folder / "out").exists()


def test_a_corpus_that_is_not_there_or_of_another_kind(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = command(folder, "--budget.steps", "2")
    assert reproduce.main([*words, "--corpora", "speech"]) == 2
    assert "has 388 ids, the model for speech 1024; they must agree" in capsys.readouterr().err
    write_corpus(folder / "empty", {"train": [90], "validation": [], "test": [50]})
    (folder / "overlay.yaml").write_text(f"data:\n  path: {folder / 'empty'}\n")
    assert reproduce.main(words) == 2
    assert "nothing in its validation split" in capsys.readouterr().err
    (folder / "overlay.yaml").write_text(f"data:\n  path: {folder / 'none'}\n")
    assert reproduce.main(words) == 2
    assert "is no prepared corpus" in capsys.readouterr().err
    assert reproduce.main([*words, "--dry_run"]) == 0
    assert "maestro cannot run yet: " in capsys.readouterr().out


def test_two_grids_in_one_folder(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with claimed(folder / "out"):
        assert reproduce.main(command(folder, "--budget.steps", "2")) == 2
    assert "in use by another training.reproduce" in capsys.readouterr().err
    assert [path.name for path in (folder / "out").iterdir()] == []
