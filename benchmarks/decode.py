"""Decoding, engine against engine: `python -m benchmarks.decode [--json FILE]`.

Ours and the peers at the baseline's size, with random weights: prompts are read and ids drawn, each engine in a process
of its own with its own best number of threads, all taking turns. The same work for all: temperature 1 from the top_k
likeliest ids (top_k 1: the likeliest), no id forbidden, prompts of their own for every row. The time covers reading the
prompt, the logits and the choice of every id. Prints tokens per second, the ratios that count, and how far our engine
is from the floor: the bytes a step reads over the bandwidth measured in the same rounds.
"""

import dataclasses
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from benchmarks.decoding.report import Measured, floor_rows, ratio_rows, share_rows, speed_rows
from benchmarks.measuring.timing import about, alternate, command, describe, progress, table
from benchmarks.measuring.workers import Worker, WorkerError, why
from shortcut_gen.decoding.native import problem
from shortcut_gen.errors import SettingsError
from shortcut_gen.network.config import ModelConfig
from training.corpus.shards import write_json

OURS = "benchmarks.decoding.ours:ours"
ENGINES: dict[str, tuple[str, dict[str, str]]] = {
    "torch": (OURS, {"engine": "torch"}),
    "torch-eager": (OURS, {"engine": "eager"}),
    "native-f32": (OURS, {"engine": "native", "precision": "f32"}),
    "native-bf16": (OURS, {"engine": "native", "precision": "bf16"}),
    "native-int8": (OURS, {"engine": "native", "precision": "int8"}),
    "transformers": ("benchmarks.peers.torch:transformers", {}),
    "x-transformers": ("benchmarks.peers.torch:x_transformers", {}),
    "llama.cpp-f16": ("benchmarks.peers.llama:llama", {"precision": "f16"}),
    "llama.cpp-q8_0": ("benchmarks.peers.llama:llama", {"precision": "q8_0"}),
    "ctranslate2-f32": ("benchmarks.peers.ctranslate2:ctranslate2", {"precision": "f32"}),
    "ctranslate2-int8": ("benchmarks.peers.ctranslate2:ctranslate2", {"precision": "int8"}),
    "onnxruntime-f32": ("benchmarks.peers.onnx:onnxruntime", {}),
}
ON = {
    "cpu": tuple(name for name in ENGINES if name != "torch-eager"),  # there it is the torch engine itself
    "cuda": ("torch", "torch-eager", "transformers", "x-transformers"),
}
"""What runs where."""
PACKAGES = ("transformers", "x-transformers", "llama-cpp-python", "ctranslate2", "onnxruntime")


@dataclass(frozen=True, kw_only=True)
class Work:
    """What every engine does in a round."""

    prompt: int = 128
    """Ids of each prompt."""
    new: int = 512
    """Ids drawn behind it."""
    top_k: int = 40
    """Ids are drawn from so many likeliest; 1 takes the likeliest."""
    rounds: int = 5
    """Times each engine does it, in turn with the others."""
    trial: int = 64
    """Ids drawn in the trials that find an engine's best number of threads."""


Key = tuple[str, str]
"""Engine and model."""


class Bench:
    """The workers, and what was found of them."""

    def __init__(self, config: ModelConfig, threads: Sequence[int], work: Work, device: str = "cpu") -> None:
        self.configs = {"baseline": dataclasses.replace(config, taps=()), "shortcut": config}
        self.threads = threads
        self.work = work
        self.device = device
        self.workers: dict[tuple[Key, int], Worker] = {}
        self.best: dict[tuple[Key, int], int] = {}
        """Threads, by engine and model and batch."""
        self.skipped: dict[str, str] = {}

    def __enter__(self) -> "Bench":
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self.workers.values():
            worker.close()

    def start(self, engine: str, model: str, batches: Sequence[int]) -> None:
        """Start an engine's processes, one a number of threads, try them and keep those that are best at a batch."""
        key = (engine, model)
        factory, settings = self.factory(engine)
        config = self.configs[model].to_dict()
        started = {count: Worker(factory, count, config=config, **settings) for count in self.threads}
        self.workers |= {(key, count): worker for count, worker in started.items()}
        try:
            for worker in started.values():
                worker.ready()
            for batch in batches:
                seconds = {count: self._try(worker, batch) for count, worker in started.items()}
                self.best[key, batch] = min(seconds, key=seconds.__getitem__)
        except WorkerError as error:
            self._skip(engine, why(error))
        wanted = {count for (other, _), count in self.best.items() if other == key}
        for count in set(started) - wanted:
            self.workers.pop((key, count)).close()

    def factory(self, engine: str) -> tuple[str, dict[str, str]]:
        """Of an engine, and its settings."""
        factory, settings = ENGINES[engine]
        return factory, settings | ({"device": self.device} if self.device != "cpu" else {})

    def _skip(self, engine: str, reason: str) -> None:
        for key in [key for key in self.best if key[0][0] == engine]:
            del self.best[key]
        self.skipped[engine] = reason
        print(f"{engine} is skipped: {reason}", flush=True)

    def _try(self, worker: Worker, batch: int) -> float:
        if len(self.threads) == 1:
            return self.round(worker, batch, min(8, self.work.new))  # to warm up
        self.round(worker, batch, min(8, self.work.new))
        return min(self.round(worker, batch, min(self.work.trial, self.work.new)) for _ in range(2))

    def round(self, worker: Worker, batch: int, new: int, seed: int = 0) -> float:
        """Seconds of one."""
        work = self.work
        answer = worker.ask(batch=batch, prompt=work.prompt, new=new, top_k=work.top_k, seed=seed)
        return float(answer["seconds"])

    def measure(self, batch: int, floor: bool) -> Measured:
        """All rounds of a batch size, the readings of the floor's bandwidth among them."""
        keys = {key: count for (key, size), count in self.best.items() if size == batch}
        positions = self.work.prompt + self.work.new / 2
        measured = Measured(batch, self.work.new, keys, self.configs, positions, self.device)
        readers: dict[int, Worker] = {}
        if floor:
            for count in {keys[key] for key in measured.own()}:
                readers[count] = Worker("benchmarks.decoding.floor:reader", count, device=self.device).ready()
        timed: dict[Any, Any] = {
            key: (lambda key=key, count=count: self.round(self.workers[key, count], batch, self.work.new))
            for key, count in keys.items()
        }
        for count, size in measured.sizes() if floor else ():
            timed["read", count, size] = lambda count=count, size=size: float(readers[count].ask(size=size)["seconds"])
        try:
            measured.seconds = alternate(timed, self.work.rounds, lambda line: progress(f"batch {batch}: {line}"))
        finally:
            for worker in readers.values():
                worker.close()
        return measured

    def shares(self, measured: Measured) -> dict[Key, dict[str, Any]]:
        """Where the time of our engine goes, by engine and model."""
        found = {}
        for key in measured.own():
            factory, settings = "benchmarks.decoding.floor:parts", self.factory(key[0])[1]
            config = self.configs[key[1]].to_dict()
            with Worker(factory, measured.threads[key], config=config, **settings) as worker:
                worker.ready()
                asked = {name: getattr(self.work, name) for name in ("prompt", "new", "top_k")}
                worker.ask(batch=measured.batch, seed=0, **(asked | {"new": min(16, self.work.new)}))
                runs = [worker.ask(batch=measured.batch, seed=0, **asked) for _ in range(self.work.rounds)]
            found[key] = {name: sorted(run[name] for run in runs)[len(runs) // 2] for name in runs[0]}
        return found


def main(
    engines: tuple[str, ...] | None = None,
    models: tuple[str, ...] = ("baseline", "shortcut"),
    batches: tuple[int, ...] = (1, 16),
    threads: tuple[int, ...] = (1, 2),
    work: Work = Work(),
    model: ModelConfig = ModelConfig(context=1024),  # noqa: B008 (frozen)
    device: Literal["cpu", "cuda"] = "cpu",
    floor: bool = True,
    json: Path | None = None,
    report: Path | None = None,
) -> None:
    """Measure, print and write.

    Args:
        engines: Engines to measure, all that run on the device if not given; peers at the baseline's size alone.
        models: Our models: baseline, shortcut or both.
        batches: Rows that are decoded side by side.
        threads: Numbers of threads of which each engine gets its best.
        work: What every engine does.
        model: Shape of the shortcut model; the baseline is the same without taps.
        device: Where they run.
        floor: Measure the floor and where our engine's time goes.
        json: File for a list of {engine, model, batch, threads, tokens_per_second, spread}.
        report: File for everything else too: machine, ratios, floor, shares.
    """
    engines = ON[device] if engines is None else engines
    _check(engines, ON[device], models, work, model)
    for name, numbers in (("batches", batches), ("threads", threads), ("work", dataclasses.astuple(work))):
        if not numbers or min(numbers) < 1:
            raise SettingsError(f"{name} is {list(numbers)}; whole numbers of at least 1 are needed")
    machine = about(PACKAGES)
    print(describe(machine), flush=True)
    rows: list[dict[str, Any]] = []
    reports: list[dict[str, Any]] = []
    with Bench(model, threads, work, device) as bench:
        for name, kind in _pairs(engines, models):
            if name not in bench.skipped:
                progress(f"starting {name}, {kind}")
                bench.start(name, kind, batches)
        for batch in batches:
            measured = bench.measure(batch, floor)
            shares = bench.shares(measured) if floor else {}
            _show(measured, shares, work)
            rows += measured.rows()
            found = {"/".join(key): parts for key, parts in shares.items()}
            reports.append({"batch": batch} | measured.report() | {"shares": found})
    if json:
        write_json(json, rows)  # type: ignore[arg-type]
    if report:
        whole = {"machine": machine, "work": dataclasses.asdict(work), "skipped": bench.skipped}
        write_json(report, whole | {"rows": rows, "batches": reports})


def _pairs(engines: Sequence[str], models: Sequence[str]) -> list[Key]:
    """Every engine with every model it is measured at, ours first."""
    ours = [name for name in engines if ENGINES[name][0] == OURS]
    for name in [name for name in ours if name.startswith("native-")]:
        if reason := problem():
            print(f"{name} is skipped: {reason}")
            ours.remove(name)
    pairs = [(name, kind) for name in ours for kind in models]
    return pairs + [(name, "baseline") for name in engines if ENGINES[name][0] != OURS]


def _show(measured: Measured, shares: dict[Key, dict[str, Any]], work: Work) -> None:
    """Print a batch size's tables."""
    rounds = f"{work.rounds} rounds"
    print(f"\nbatch {measured.batch}, prompt {work.prompt} + {work.new} ids, top-k {work.top_k}, {rounds}\n")
    for lines in (speed_rows(measured), ratio_rows(measured), floor_rows(measured), share_rows(shares)):
        if len(lines) > 1:
            print(table(lines), end="\n\n", flush=True)


def _check(engines: Sequence[str], there: Sequence[str], models: Sequence[str], work: Work, model: ModelConfig) -> None:
    for name, values, known in (("engines", engines, there), ("models", models, ("baseline", "shortcut"))):
        if not values or set(values) - set(known):
            raise SettingsError(f"{name} is {list(values)}; some of {', '.join(known)} are needed")
    if not model.taps or model.position != "learned" or model.residual != "prenorm":
        raise SettingsError("the model to measure has taps, learned positions and prenorm blocks: the peers' shape")
    if work.prompt + work.new > model.context:
        raise SettingsError(f"{work.prompt + work.new} ids do not fit the context of {model.context}")


if __name__ == "__main__":
    sys.exit(command(main))
