"""The benchmarks at a tiny size: what they write, and what they say of what is not there. No time is judged."""

import dataclasses
import importlib
import importlib.util
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks import decode, first_sound, listeners, precision, prepare, render, slides, train
from benchmarks.decoding.floor import step_bytes
from benchmarks.decoding.round import prompts_of, random_model
from benchmarks.measuring import workers
from benchmarks.measuring.timing import Figure, alternate, command, ratio, table
from benchmarks.measuring.workers import MissingError, Worker, WorkerError
from shortcut_gen.checkpoint import CheckpointInfo, save_checkpoint
from shortcut_gen.decoding import native
from shortcut_gen.media import Note, Score
from shortcut_gen.media.render import RELEASE_SECONDS
from shortcut_gen.network import model
from shortcut_gen.network.config import ModelConfig
from tests.shared.small_models import tiny_speech_checkpoint
from tests.shared.tiny_runs import write_corpus
from training.corpus.shards import Corpus
from training.scoring.likelihood import score
from training.support import memory

TINY = ModelConfig(
    vocab_size=61,
    context=48,
    layers=3,
    width=32,
    heads=2,
    feedforward=64,
    taps=(1, 2),
    feature_hidden=32,
    shortcut_heads=4,
)
SHAPE = [f"--model.{name}={value}" for name, value in TINY.to_dict().items() if name not in ("taps", "residual_mlps")]
SHAPE += ["--model.taps=[1,2]"]


class Here:
    """A worker in this process: starting Python a dozen times takes longer than all the rest."""

    def __init__(self, factory: str, threads: int, **settings: Any) -> None:
        self._make = (factory, {**settings, "threads": threads})
        self._call: Callable[..., dict[str, Any]] | None = None

    def __enter__(self) -> "Here":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def ready(self) -> "Here":
        (module, _, name), settings = self._make[0].partition(":"), self._make[1]
        try:
            self._call = getattr(importlib.import_module(module), name)(**settings)
        except ModuleNotFoundError as error:
            raise MissingError(error.name) from error
        return self

    def ask(self, **values: Any) -> dict[str, Any]:
        assert self._call is not None
        answer: dict[str, Any] = json.loads(json.dumps(self._call(**values)))
        return answer

    def close(self) -> None:
        pass


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (decode, workers):
        monkeypatch.setattr(module, "Worker", Here)
    # What a worker changes in its own process for good must not outlast the test.
    monkeypatch.setattr(memory, "keep_freed_memory", lambda: False)
    monkeypatch.setattr(model, "prefix_attention", model.prefix_attention)


def echo(word: str, threads: int, **_: Any) -> Callable[..., dict[str, Any]]:
    """For the worker's test."""
    print("what a library prints is no answer")
    if word == "missing":
        import no_such_package  # type: ignore[import-not-found]  # noqa: F401

    def answer(times: int) -> dict[str, Any]:
        if times < 0:
            raise RuntimeError("fewer than none")
        return {"said": word * times, "threads": threads}

    return answer


def test_a_worker_answers_lacks_a_package_or_ends() -> None:
    with (
        Worker("tests.benchmarks.test_benchmarks:echo", 1, word="so") as worker,
        Worker("tests.benchmarks.test_benchmarks:echo", 1, word="missing") as lacking,
    ):
        assert worker.ready().ask(times=2) == {"said": "soso", "threads": 1}
        with pytest.raises(MissingError, match="no_such_package"):
            lacking.ready()
        with pytest.raises(WorkerError, match="fewer than none"):
            worker.ask(times=-1)
        with pytest.raises(WorkerError, match="ended with status 1"):
            worker.ask(times=1)


def test_figures_and_ratios_of_rounds() -> None:
    figure = Figure.of([4.0, 2.0, 3.0])
    assert (figure.median, figure.low, figure.high, figure.spread) == (3.0, 2.0, 4.0, pytest.approx(1 / 3))
    # A round in which everything took twice as long changes no ratio.
    assert ratio([4.0, 2.0], [2.0, 1.0]).spread == 0
    order: list[str] = []
    taken = alternate({name: lambda name=name: order.append(name) or 1.0 for name in "abc"}, 2)
    assert "".join(order) == "cbaabc"
    assert taken == {"a": [1.0, 1.0], "b": [1.0, 1.0], "c": [1.0, 1.0]}
    assert table([["name", "n"], ["x", "10"]]) == "| name |  n |\n| ---- | -: |\n| x    | 10 |"


def test_bytes_of_a_step_are_those_of_the_issue() -> None:
    """12 MB for the paper's baseline and 34 MB for its shortcut model, at 128 + 512 ids in f32."""
    shortcut = ModelConfig()
    assert step_bytes(ModelConfig(taps=()), "f32", 1, 384) / 1e6 == pytest.approx(12.1, abs=0.1)
    assert step_bytes(shortcut, "f32", 1, 384) / 1e6 == pytest.approx(34.2, abs=0.1)
    assert step_bytes(shortcut, "bf16", 1, 384) == pytest.approx(step_bytes(shortcut, "f32", 1, 384) / 2, rel=0.01)
    caches = step_bytes(shortcut, "f32", 16, 384) - step_bytes(shortcut, "f32", 1, 384)
    assert caches == 15 * 384 * (9 + 4) * 2 * 128 * 4


def test_decode_writes_a_list_and_skips_what_is_missing(
    here: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(decode.ENGINES, "transformers", ("tests.benchmarks.test_benchmarks:echo", {"word": "missing"}))
    work = ["--work.prompt=8", "--work.new=16", "--work.rounds=2", "--threads=[1]", "--batches=[1,3]", "--work.top_k=5"]
    ours = ["torch", *([] if native.problem() else ["native-f32"])]
    asked = ["--engines", json.dumps([*ours, "transformers"]), "--json", str(tmp_path / "rows.json")]
    assert command(decode.main, [*SHAPE, *work, *asked, "--report", str(tmp_path / "all.json")]) == 0
    out = capsys.readouterr().out
    assert out.count("transformers is skipped: no_such_package is not installed (pip install .[bench])") == 1
    rows = json.loads((tmp_path / "rows.json").read_text())
    keys = {"engine", "model", "batch", "threads", "tokens_per_second", "spread"}
    assert [set(row) for row in rows] == [keys] * len(rows)
    made = {(row["engine"], row["model"], row["batch"]) for row in rows}
    assert made == {(name, kind, batch) for name in ours for kind in ("baseline", "shortcut") for batch in (1, 3)}
    assert all(row["tokens_per_second"] > 0 and row["threads"] == 1 for row in rows)
    report = json.loads((tmp_path / "all.json").read_text())
    assert set(report) == {"machine", "work", "skipped", "rows", "batches"}
    if "native-f32" in ours:
        floor = report["batches"][0]["floor"]
        assert {(entry["engine"], entry["model"]) for entry in floor} == {
            ("native-f32", "baseline"),
            ("native-f32", "shortcut"),
        }
        assert all(entry["bytes_per_step"] > 0 for entry in floor)
        shares = report["batches"][0]["shares"]["native-f32/shortcut"]
        assert shares["step"] > 0
        assert set(shares) >= {"sampling_free", "handing_over"}


@pytest.mark.parametrize(
    ("option", "line"),
    [
        ("--engines=[abacus]", "engines is ['abacus']; some of torch, "),
        ("--work.new=600", "608 ids do not fit the context of 48"),
        ("--threads=[0]", "threads is [0]; whole numbers of at least 1 are needed"),
        ("--model.position=rotary", "learned positions"),
    ],
)
def test_decode_says_in_a_line_what_it_cannot_do(option: str, line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(decode.main, [*SHAPE, "--work.prompt=8", "--work.new=16", option]) == 2
    error = capsys.readouterr().err
    assert line in error
    assert error.count("\n") == 1


PEERS = {
    "transformers": "transformers",
    "onnxruntime-f32": "onnxruntime",
    "ctranslate2-f32": "ctranslate2",
    "llama.cpp-f16": "llama_cpp",
    "x-transformers": "x_transformers",
}


@pytest.mark.slow
@pytest.mark.parametrize("engine", PEERS)
def test_a_peer_draws_the_ids_that_the_baseline_would(engine: str) -> None:
    """Each has the baseline's very weights, but x-transformers, which has no biases."""
    if importlib.util.find_spec(PEERS[engine]) is None:
        pytest.skip(f"{PEERS[engine]} is not installed (pip install .[bench])")
    config = ModelConfig.from_dict(TINY.to_dict() | {"taps": []})
    factory, settings = decode.ENGINES[engine]
    with Worker(factory, 1, config=config.to_dict(), **settings) as worker:
        made = worker.ready().ask(batch=2, prompt=9, new=12, top_k=1, seed=3, ids=True)["ids"]
        drawn = worker.ask(batch=2, prompt=9, new=12, top_k=5, seed=3, ids=True)["ids"]
    assert all(0 <= token < TINY.vocab_size for row in made + drawn for token in row)
    if engine == "x-transformers":
        return
    baseline = random_model(config)
    for prompt, row in zip(prompts_of(config.vocab_size, 2, 9, 3), made, strict=True):
        with torch.inference_mode():
            logits = baseline(torch.tensor([prompt + row[:-1]]))[0, 8:]  # (12, V)
        likeliest = logits.amax(-1) - logits[torch.arange(12), row]
        assert likeliest.max() < 1e-3  # f16 may take another where two are equally likely


@pytest.mark.skipif(native.problem() is not None, reason=native.problem() or "")
def test_precision_scores_as_evaluate_does(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_corpus(tmp_path / "data", {"train": [40], "validation": [40], "test": [150, 33, 2, 1, 90]})
    torch.manual_seed(0)
    small = model.ShortcutLM(dataclasses.replace(TINY, vocab_size=388)).eval()
    with torch.no_grad():
        for parameter in small.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    info = CheckpointInfo(model=small.config, tokenizer="piano", licence="none")
    save_checkpoint(tmp_path / "mine", small, info, dtype=torch.float32)
    arguments = [f"--checkpoints=[{tmp_path / 'mine'}]", f"--data=[{tmp_path / 'data'}]", "--parts=2"]
    assert command(precision.main, [*arguments, "--limit=5", f"--json={tmp_path / 'lost.json'}"]) == 0
    written = json.loads((tmp_path / "lost.json").read_text())
    split = Corpus.open(tmp_path / "data").split("test")
    want = score(small, [split[index][1] for index in range(5)], 48, 24, 4, bf16=False)
    exact, bf16, int8 = written["rows"]
    assert exact["tokens"] == want["tokens"]
    assert exact["nll_by_torch"] == pytest.approx(want["nll"], abs=1e-4)
    assert abs(exact["lost"]) < 1e-4 < abs(bf16["lost"]) < 0.05 > abs(int8["lost"]) > 1e-4
    assert int8["range"][0] <= int8["lost"] <= int8["range"][1]
    assert "the default here: " in capsys.readouterr().out
    assert command(precision.main, [*arguments, "--limit=1"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_slides_are_held_against_a_whole_window(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_corpus(tmp_path / "data", {"train": [40], "validation": [40], "test": [400, 33, 500, 420]})
    config = dataclasses.replace(TINY, vocab_size=388, context=96, position="rotary")
    torch.manual_seed(0)
    small = model.ShortcutLM(config).eval()
    with torch.no_grad():
        for parameter in small.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    info = CheckpointInfo(model=config, tokenizer="piano", licence="none")
    save_checkpoint(tmp_path / "mine", small, info, dtype=torch.float32)
    arguments = [f"--checkpoint={tmp_path / 'mine'}", f"--data=[{tmp_path / 'data'}]", "--rounds=2"]
    assert command(slides.main, [*arguments, "--dropped=[0.5,0.01]", f"--json={tmp_path / 'slides.json'}"]) == 0
    half, little = json.loads((tmp_path / "slides.json").read_text())["choices"]
    assert set(half["more"]) == {"16", "all"}  # 48 ids go
    assert abs(half["more"]["all"]) > 1e-4
    assert little["speed"]["median"] > 0
    # By hand: the last of 64 ids has all of a window before it but one id.
    ids = Corpus.open(tmp_path / "data").split("test")[0][1].astype(np.int64)
    with torch.inference_mode():
        loss = -small(torch.tensor(ids[None, 101:196])).log_softmax(-1)[0, -1, ids[196]]
    assert slides.whole(small, ids, 133, 64)[-1] == pytest.approx(float(loss), abs=1e-4)
    assert "first 16" in capsys.readouterr().out
    for wrong, said in (("--pieces=1", "pieces is 1"), ("--dropped=[2]", "dropped is 2"), ("--rows=9", "9 are needed")):
        assert command(slides.main, [*arguments, wrong]) == 2
        assert said in capsys.readouterr().err


def test_train_compares_steps(here: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["--batch=2", "--length=16", "--rounds=2", "--threads=1", "--forms=[dense]"]
    asked += ["--engines", json.dumps(["baseline", "shortcut", "plain loop"]), "--json", str(tmp_path / "train.json")]
    assert command(train.main, [*SHAPE, *asked]) == 0
    report = json.loads((tmp_path / "train.json").read_text())
    rows = {(row["engine"], row["precision"]): row for row in report["rows"]}
    names = ["baseline", "shortcut", "plain loop", "shortcut, dense"]
    assert set(rows) == {(name, kind) for name in names for kind in ("f32", "bf16")}
    assert rows["baseline", "f32"]["fastest_peer"] == "plain loop"
    assert rows["baseline", "f32"]["over_peer"]["median"] > 0
    assert rows["shortcut", "bf16"]["step"]["median"] > 0
    assert "| shortcut, dense |" in capsys.readouterr().out


def test_the_plain_loop_has_the_baselines_size(here: None) -> None:
    config = ModelConfig.from_dict(TINY.to_dict() | {"taps": []})
    own = sum(parameter.numel() for parameter in train.PlainModel(config).parameters())
    assert own == random_model(config).num_parameters(embedding=True)


def write_music(folder: Path, files: int = 2) -> Path:
    notes = tuple(
        Note(pitch=60 + number % 12, velocity=64, start=number / 4, end=number / 4 + 0.2) for number in range(24)
    )
    folder.mkdir()
    for number in range(files):
        Score(notes=notes).write(folder / f"{number}.mid")
    return folder


def test_prepare_counts_notes(here: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write_music(tmp_path / "music")
    engines = ["ours", "ours, reading alone", "pretty_midi"]
    asked = ["--source", str(source), "--rounds=1", "--engines", json.dumps(engines)]
    assert command(prepare.main, [*asked, "--json", str(tmp_path / "prepare.json")]) == 0
    report = json.loads((tmp_path / "prepare.json").read_text())
    assert (report["files"], report["notes"]) == (2, 48)
    assert {row["engine"] for row in report["rows"]} == set(engines)
    assert all(row["notes_per_second"]["median"] > 0 for row in report["rows"])
    assert command(prepare.main, ["--source", str(tmp_path / "nowhere")]) == 2
    assert "nowhere is not there" in capsys.readouterr().err


def test_render_compares_seconds_of_sound(
    here: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    score = write_music(tmp_path / "music", 1) / "0.mid"
    monkeypatch.setattr(render.shutil, "which", lambda name: None)
    asked = ["--score", str(score), "--seconds=8", "--rounds=1", "--engines", '["ours", "fluidsynth"]']
    assert command(render.main, [*asked, "--json", str(tmp_path / "render.json")]) == 0
    assert "fluidsynth is skipped: the program fluidsynth is not installed" in capsys.readouterr().out
    report = json.loads((tmp_path / "render.json").read_text())
    [row] = report["rows"]
    assert row["engine"] == "ours"
    assert row["length"] == pytest.approx(8 + RELEASE_SECONDS, abs=0.3)  # played twice, to be long enough
    assert report["notes"] > 24


@pytest.mark.slow
@pytest.mark.browser
def test_first_sound_is_that_of_the_page(tmp_path: Path) -> None:
    pytest.importorskip("playwright.sync_api")
    if not any(shutil.which(name) for name in ("chromium", "google-chrome")) and not os.environ.get("CHROMIUM"):
        pytest.skip("no Chromium was found; install it or name it with CHROMIUM=FILE")
    checkpoints = tmp_path / "checkpoints"
    config = ModelConfig.from_dict(TINY.to_dict() | {"vocab_size": 388, "context": 512})
    save_checkpoint(checkpoints / "piano", random_model(config), CheckpointInfo(model=config, tokenizer="piano"))
    tiny_speech_checkpoint(checkpoints / "speech")
    asked = ["--checkpoints", str(checkpoints), "--runs=1", "--seconds=2", "--json", str(tmp_path / "first.json")]
    assert command(first_sound.main, asked) == 0
    tabs = json.loads((tmp_path / "first.json").read_text())["tabs"]
    assert set(tabs) == {"piano", "speech"}
    for found in tabs.values():
        [run] = found["runs"]
        assert run["first_sound"] > 0
        assert run["real_time_factor"] > 0


@pytest.mark.parametrize("engine", ["torch", "auto"])
def test_listeners_are_counted_in_both_ways(
    engine: str, tiny_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = {"checkpoint": str(tiny_checkpoint), "listeners": (1, 3), "rounds": 2, "threads": 1, "engine": engine}
    work = listeners.Work(prompt_seconds=2.0, seconds=1.0, round_seconds=0.2)
    listeners.main(**given, work=work, json=tmp_path / "listeners.json")  # type: ignore[arg-type]
    rows = json.loads((tmp_path / "listeners.json").read_text())["rows"]
    assert [(row["listeners"], row["way"]) for row in rows] == [
        *((1, "shared"), (1, "turns"), (3, "shared"), (3, "turns")),
    ]
    for row in rows:
        assert row["tokens_per_second"]["median"] > 0
        assert 0 < row["first_ids"]["median"] <= row["first_ids_longest"]["median"]
        if row["way"] == "turns":
            assert row["against_turns"]["range"] == [1.0, 1.0]
    assert "| 3         |         one batch |" in capsys.readouterr().out
    assert command(listeners.main, ["--listeners", "[0]"]) == 2
    assert capsys.readouterr().err == "error: listeners is [0]; whole numbers of at least 1 are needed\n"
