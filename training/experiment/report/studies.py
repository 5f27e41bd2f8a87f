"""The grid's results as they lie in results.jsonl and speed.json, checked, and grouped into what can be compared."""

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from shortcut_gen.errors import ConfigError, DataError
from shortcut_gen.files import reason
from training.experiment import results
from training.experiment.kept import OTHERS, SPEEDS_KEY, compact, expanded, lines_of
from training.run.trials import read_config

SHARED = ("vocab_size", "context", "position", "dropout")
"""Fields of a model that no arm of the paper's comparison changes: what stands for the base where a record lacks it."""
KINDS: dict[str, type | tuple[type, ...]] = {
    "arm": str,
    "corpus": str,
    "seed": int,
    "model": dict,
    "optimizer": dict,
    "data": dict,
    "budget": dict,
    "precision": str,
    "parameters": int,
    "flops_per_token": int,
    "tokens": int,
    "steps": int,
    "seconds": (int, float),
    "machine": dict,
    "curve": list,
    "nll": (int, float),
    "accuracy": (int, float),
    "scored_tokens": int,
    "split": str,
}
"""Keys that every record has, and what they hold."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """One finished run. NLL and losses in nats per token, `flops_per_token` to train on one token."""

    corpus: str
    arm: str
    seed: int
    model: Mapping[str, Any]
    base: Mapping[str, Any]
    """The model that its arm was made from; runs of different bases are not compared."""
    settings: Mapping[str, Any]
    """Optimiser, data, budget, precision, split and limit: with the corpus, what all arms of a comparison share."""
    parameters: int
    flops_per_token: int
    tokens: int
    seconds: float
    machine: Mapping[str, Any]
    curve: Sequence[tuple[float, float]]
    """(tokens, validation loss), in order."""
    nll: float
    accuracy: float
    scored_tokens: int

    @property
    def diverged(self) -> bool:
        """Whether its loss is no number any more."""
        return not math.isfinite(self.nll)


@dataclass(frozen=True, kw_only=True)
class Speed:
    """Training speeds of one corpus's arms, measured apart from the runs."""

    corpus: str
    machine: Mapping[str, Any]
    arms: Mapping[str, Mapping[str, float]]
    """By arm: median tokens per second, and half the range over it."""
    base: Mapping[str, Any] | None = None
    precision: str | None = None

    def about(self, run: Run) -> bool:
        """Whether it was measured with what a run was made from."""
        if self.corpus != run.corpus or run.arm not in self.arms:
            return False
        return self.base is None or (self.base, self.precision) == (run.base, run.settings.get("precision"))


@dataclass(frozen=True)
class Speeds:
    """All that was measured."""

    measured: Sequence[Speed] = ()

    def of(self, run: Run) -> float | None:
        """Median tokens per second of a run's arm, None where it was not measured."""
        return next((speed.arms[run.arm]["tokens_per_second"] for speed in self.measured if speed.about(run)), None)

    def spread(self, run: Run) -> float:
        """Half the range of the measured speeds over their median."""
        return next((speed.arms[run.arm]["spread"] for speed in self.measured if speed.about(run)), 0.0)


@dataclass(frozen=True, kw_only=True)
class Study:
    """Runs that differ in arm and seed alone: one corpus under one setting."""

    corpus: str
    settings: Mapping[str, Any]
    base: Mapping[str, Any]
    runs: Mapping[str, Mapping[int, Run]]
    """Arm to seed to run; no run that diverged."""
    diverged: Sequence[Run] = ()
    number: int = 1
    """Which of its corpus's settings it is."""

    @property
    def tokens(self) -> int:
        """The most tokens a run of it saw."""
        return max((run.tokens for run in self.all_runs()), default=0)

    def all_runs(self) -> Iterable[Run]:
        """Every run, arm by arm."""
        return (run for seeds in self.runs.values() for run in seeds.values())

    def seeds(self, *arms: str) -> list[int]:
        """Seeds that all of these arms ran with."""
        sets = [set(self.runs.get(arm, {})) for arm in arms]
        return sorted(set.intersection(*sets)) if sets else []

    def values(self, arm: str, seeds: Iterable[int], of: Callable[[Run], float] = lambda run: run.nll) -> list[float]:
        """A figure of an arm's runs, the test NLL if not said otherwise."""
        return [of(self.runs[arm][seed]) for seed in seeds]

    def one(self, arm: str) -> Run:
        """Any run of an arm: parameters and FLOPs per token are the same in all."""
        return next(iter(self.runs[arm].values()))


def read_results(path: Path, arms: Sequence[str], kept: Path | None = None) -> list[Run]:
    """The runs of a results.jsonl and of the records kept; of two records of one run the later counts.

    All are rounded as kept ones are, so that keeping them changes no report. Where there are kept ones a results.jsonl
    may be missing. Raises DataError, with one line, where there is neither or nothing in them, a line is broken or an
    arm is not in `arms`.
    """
    runs: dict[str, Run] = {}
    held = [kept] if kept and kept.exists() else []
    for file in [*held, *([path] if path.exists() or not held else [])]:
        for place, record in results.lines(file):
            if not any(key in record for key in OTHERS):
                run = _run(place, expanded(compact(record)), arms)
                runs[_key(run, run.arm, run.seed, run.model)] = run
    if not runs:
        raise DataError(f"{path} holds no run; training.reproduce run adds one line for each that it finishes")
    return list(runs.values())


def _run(place: str, record: dict[str, Any], arms: Sequence[str]) -> Run:
    for key, kind in KINDS.items():
        if not isinstance(record.get(key), kind) or isinstance(record[key], bool):
            raise DataError(f"{place}: {key} is {record.get(key)!r:.60}; a record of training.reproduce run is needed")
    if record["arm"] not in arms:
        raise DataError(f"{place}: the arm {record['arm']!r} is not known; known are {', '.join(arms)}")
    if min(record["parameters"], record["flops_per_token"], record["tokens"]) < 1:
        raise DataError(f"{place}: parameters, flops_per_token and tokens of at least 1 are needed")
    try:
        model = read_config(record["model"]).to_dict()  # with the fields that came after the run was made
        base = {name: model.get(name) for name in SHARED}
        if isinstance(record.get("base"), dict):
            base = read_config(record["base"]).to_dict()
    except ConfigError as error:
        raise DataError(f"{place}: {error}") from error
    try:
        curve = tuple((float(point["tokens"]), float(point["loss"])) for point in record["curve"])
    except (TypeError, KeyError, ValueError) as error:
        raise DataError(f"{place}: the curve holds a point without numbers for tokens and loss") from error
    settings: dict[str, Any] = {key: _shared(record[key]) for key in ("optimizer", "data", "budget")}
    settings |= {key: record.get(key) for key in ("precision", "split", "limit")}
    taken = ("seed", "parameters", "flops_per_token", "tokens", "machine", "accuracy", "scored_tokens")
    return Run(
        corpus=record["corpus"],
        arm=record["arm"],
        model=model,
        base=base,
        settings=settings,
        seconds=float(record["seconds"]),
        curve=sorted(point for point in curve if math.isfinite(point[1])),
        nll=float(record["nll"]),
        **{key: record[key] for key in taken},
    )


def _shared(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key != "seed"}


def _key(run: Run, *more: Any) -> str:
    """What two runs share exactly where they may be compared; with the arm, seed and model, which run it is."""
    return json.dumps([run.corpus, run.settings, run.base, *more], sort_keys=True, default=str)


def read_speeds(path: Path, kept: Path | None = None) -> Speeds:
    """The speeds of a speed.json, and behind them of the records kept; none where there is neither.

    Raises DataError where one is broken.
    """
    entries: list[tuple[Path, Any]] = []
    if path.exists():
        try:
            entries = [(path, entry) for entry in json.loads(path.read_text(encoding="utf-8"))["measured"]]
        except OSError as error:
            raise DataError(f"{path} cannot be read: {reason(error)}") from error
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(_NO_SPEEDS.format(path)) from error
    entries += [(kept, entry) for entry in lines_of(kept, SPEEDS_KEY)] if kept else []
    return Speeds([_speed(file, entry) for file, entry in entries])


_NO_SPEEDS = "{} is not what training.reproduce speed writes; measure again or remove it"


def _speed(path: Path, entry: Any) -> Speed:
    try:
        arms = {
            arm: {key: float(figures[key]) for key in ("tokens_per_second", "spread", "rounds")}
            for arm, figures in entry[SPEEDS_KEY].items()
        }
        base = read_config(entry["base"]).to_dict() if entry.get("base") else None
        made = Speed(
            corpus=entry["corpus"],
            machine=dict(entry["machine"]),
            arms=arms,
            base=base,
            precision=entry.get("precision"),
        )
    except (ValueError, KeyError, TypeError, AttributeError, ConfigError) as error:
        raise DataError(_NO_SPEEDS.format(path)) from error
    for arm, figures in arms.items():
        if not 0 < figures["tokens_per_second"] < math.inf:
            raise DataError(f"{path}: the speed of {arm} on {made.corpus} is {figures['tokens_per_second']}")
    return made


def studies(runs: Sequence[Run], corpora: Sequence[str], arms: Sequence[str]) -> list[Study]:
    """The runs grouped into what can be compared, in the order of `corpora`, the most tokens first, arms as in `arms`.

    Raises DataError where one arm of a group ran with two models: nothing then says which of them is meant.
    """
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(_key(run), []).append(run)
    made = []
    for group in groups.values():
        by_arm: dict[str, dict[int, Run]] = {}
        models: dict[str, Mapping[str, Any]] = {}
        for run in sorted(group, key=lambda run: (arms.index(run.arm), run.seed)):
            if models.setdefault(run.arm, run.model) != run.model:
                raise DataError(
                    f"{run.corpus} has the arm {run.arm} with two models under the same settings; "
                    "keep them in two results files"
                )
            if not run.diverged:
                by_arm.setdefault(run.arm, {})[run.seed] = run
        lost = [run for run in group if run.diverged]
        made.append(
            Study(corpus=group[0].corpus, settings=group[0].settings, base=group[0].base, runs=by_arm, diverged=lost)
        )
    order = {name: place for place, name in enumerate(corpora)}
    made.sort(key=lambda study: (order.get(study.corpus, len(order)), study.corpus, -study.tokens))
    earlier = [[other.corpus for other in made[:place]].count(study.corpus) for place, study in enumerate(made)]
    return [replace(study, number=1 + count) for study, count in zip(made, earlier, strict=True)]
