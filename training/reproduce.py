"""The paper's experiments: `python -m training.reproduce run --corpora maestro --arms baseline shortcut --seeds 0 1 2`.

`run` trains a grid of arms × corpora × seeds under one budget and adds a line to OUT/results.jsonl for every run that
is finished; stopped, the same command goes on. `run --preset paper` is all of the paper, `run --preset quick` a trial
of minutes. `speed` times the arms in turn, apart from the runs, which may share the
machine. `keep` adds what both found out to docs/reproduction.jsonl, which is part of the repository: `run` counts the
runs in it as finished, wherever they ran. `report` writes docs/reproduction.md of them all.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser

from training.experiment.arms import ARMS, MATCHED, TRIALS
from training.experiment.grid import CORPORA, GridConfig, GridRun, corpora_of, plan, runs_of
from training.experiment.jobs import Job, JobRunner, last_line
from training.experiment.kept import KEPT, keep
from training.experiment.presets import FIXED, FOLDER, PRESETS, check_fixed, grids_of
from training.experiment.report.depth import read_readings, to_line
from training.experiment.results import RESULTS, append, claimed, finished, kept, read
from training.experiment.score import SCORE
from training.experiment.speed import SPEEDS, measure, measured
from training.run.recipe import Budget
from training.run.settings import quiet
from training.support.command_line import run as run_command
from training.support.machine import commit
from training.support.memory import keep_freed_memory

CHOSEN = {"corpora": ["maestro"], "arms": list(ARMS)}
"""What a grid is of where nothing is chosen."""


def run_grids(grids: Sequence[GridConfig], dry_run: bool = False, held: Path = KEPT) -> int:
    """Train and score what the grids, of one folder, still lack. held: records of other machines, which count too.

    Seed by seed over all of them. Returns an exit status: 1 where a run failed, 128 and the signal's number where one
    stopped it.
    """
    corpora = [corpora_of(grid) for grid in grids]
    print(plan([corpus for each in corpora for corpus in each]), flush=True)
    if dry_run:
        return 0
    runs = [run for grid, each in zip(grids, corpora, strict=True) for run in runs_of(grid, each)]
    seeds = list(dict.fromkeys(run.seed for run in runs))
    runs.sort(key=lambda run: seeds.index(run.seed))
    grid = grids[0]
    with claimed(grid.out):
        done = finished([*kept(held), *read(grid.out / RESULTS)], runs)
        todo = {run.folder.name: run for run in runs if run.folder.name not in done}
        print(f"{len(done)} done, {len(todo)} to run, {grid.jobs} at a time; logs in {grid.out / 'logs'}", flush=True)
        failed: list[GridRun] = []

        def end(job: Job, status: int) -> None:
            run = todo[job.name]
            if status:
                failed.append(run)
                why = last_line(job.log) if status > 0 else f"killed by signal {-status}"
                print(f"failed: {run.label}: {why} ({job.log})", flush=True)
                return
            record = _record(run)
            append(grid.out / RESULTS, record)
            done.add(job.name)
            print(f"{_said(run, record)}  ({len(done)} of {len(runs)})", flush=True)

        stopped = JobRunner(grid.jobs, end).run([_job(run) for run in todo.values()])
    if stopped:
        print(f"stopped with {len(done)} of {len(runs)} done; the same command goes on", flush=True)
        return 128 + stopped
    print(f"{len(done)} of {len(runs)} done: {grid.out / RESULTS}", flush=True)
    return 1 if failed else 0


def _job(run: GridRun) -> Job:
    grid = run.corpus.grid
    fit = [sys.executable, "-m", "training.fit", *run.arguments()]
    limit = [] if grid.limit is None else ["--limit", str(grid.limit)]
    score = [sys.executable, "-m", "training.experiment.score", str(run.folder), "--threads", str(grid.threads), *limit]
    return Job(name=run.folder.name, commands=(fit, score), log=grid.out / "logs" / f"{run.folder.name}.log")


def _record(run: GridRun) -> dict[str, Any]:
    result = json.loads((run.folder / SCORE).read_text(encoding="utf-8"))
    result["machine"]["jobs"] = run.corpus.grid.jobs
    result["commit"] = commit()
    return run.identity() | run.sizes() | result


def _keep(held: Path, results: Path, speeds: Path, attention: Sequence[Path]) -> None:
    """Add a grid's results, speeds and readings to the records that are kept."""
    others = [*measured(speeds), *(to_line(reading) for reading in read_readings(attention))]
    records = read(results)
    print(f"{held}: {keep(held, records, others)} runs, {len(records)} of them from {results}", flush=True)


def _said(run: GridRun, record: dict[str, Any]) -> str:
    last = record["curve"][-1]["loss"]
    return (
        f"{run.label}: {record['steps']:,} steps, {record['tokens'] / 1e6:,.2f} M tokens, {record['seconds']:,.0f} s; "
        f"validation {last:.4f}, test {record['nll']:.4f} nats, accuracy {record['accuracy']:.1%}"
    )


def _run_parser() -> ArgumentParser:
    parser = ArgumentParser(exit_on_error=False, description="Train and score a grid of runs.")
    presets = "; ".join(f"{name}, {preset.about}" for name, preset in PRESETS.items())
    parser.add_argument(
        "--preset",
        type=str | None,
        default=None,
        help=f"A whole experiment: {presets}. --corpora and --arms then choose among its own, --seeds, --points and "
        f"--out take the place of its own, and {', '.join(f'--{option}' for option in FIXED)} are refused.",
    )
    _add_grid(parser, chosen=False)
    parser.add_argument(
        "--seeds", type=int, nargs="+", default=None, help="Seeds; each is all arms' once; 0 1 2 if not given."
    )
    parser.add_class_arguments(Budget, "budget")
    parser.add_argument(
        "--out",
        type=Path | None,
        default=None,
        help=f"Folder of the results, the logs and the runs; {FOLDER} if not given.",
    )
    parser.add_argument("--jobs", type=int, default=1, help="Runs at a time; on one GPU they share it.")
    parser.add_argument("--limit", type=int | None, default=None, help="Test pieces to score; all if not given.")
    parser.add_argument("--points", type=int | None, default=None, help="Validations of a run: points of its curve.")
    parser.add_argument("--kept", type=Path, default=KEPT, help="Records that count as finished as well.")
    parser.add_argument("--dry_run", "--dry-run", action="store_true", help="Print the plan alone.")
    return parser


def _speed_parser() -> ArgumentParser:
    parser = ArgumentParser(exit_on_error=False, description="Time training steps of every arm in turn.")
    _add_grid(parser)
    parser.add_argument("--rounds", type=int, default=7, help="Times each arm is timed, after one warm-up.")
    parser.add_argument("--steps", type=int, default=1, help="Steps that are timed together; on a GPU 20 or so.")
    parser.add_argument("--out", type=Path, default=FOLDER, help="Folder to write speed.json into.")
    return parser


def _sources(parser: ArgumentParser) -> None:
    parser.add_argument("--results", type=Path, default=FOLDER / RESULTS, help="What `run` wrote.")
    parser.add_argument("--speeds", type=Path, default=FOLDER / SPEEDS, help="What `speed` wrote.")
    parser.add_argument(
        "--attention", type=Path, nargs="+", default=[], help="What training.attention_maps --json wrote: for claim 6."
    )
    parser.add_argument("--kept", type=Path, default=KEPT, help="The records that the repository keeps.")


def _keep_parser() -> ArgumentParser:
    parser = ArgumentParser(exit_on_error=False, description="Add what was found out to the repository's records.")
    _sources(parser)
    return parser


def _report_parser() -> ArgumentParser:
    parser = ArgumentParser(exit_on_error=False, description="Write the report of what has run.")
    _sources(parser)
    parser.add_argument("--out", type=Path, default=Path("docs/reproduction.md"), help="The report.")
    return parser


def _add_grid(parser: ArgumentParser, chosen: bool = True) -> None:
    """chosen: what is not given has its default at once; else None, as a preset may decide it."""
    names = ", ".join
    usual = CHOSEN if chosen else dict.fromkeys(CHOSEN)
    parser.add_argument(
        "--corpora", type=str, nargs="+", default=usual["corpora"], help=f"Of {names(CORPORA)}; maestro if not given."
    )
    parser.add_argument(
        "--arms",
        type=str,
        nargs="+",
        default=usual["arms"],
        help=f"Of {names(ARMS)}, all of these if not given; trials are {names(TRIALS)}; {MATCHED}NAME is a baseline no "
        "smaller than NAME.",
    )
    parser.add_argument(
        "--overlay",
        type=Path,
        nargs="+",
        default=[],
        help="Configs put behind every corpus's own, such as training/configs/cpu.yaml.",
    )
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of a run.")


def _grids(values: dict[str, Any]) -> list[GridConfig]:
    """What `run` is asked for. Raises SettingsError."""
    name, budget = values.pop("preset"), values.pop("budget")
    if name is not None:
        asked = None if all(value is None for value in budget.values()) else budget
        check_fixed(name, {"overlay": values.pop("overlay"), "budget": asked, "limit": values.pop("limit")})
        return grids_of(name, **values)
    usual = {**CHOSEN, "seeds": [0, 1, 2], "points": 20, "out": FOLDER}
    values |= {key: value for key, value in usual.items() if values[key] is None}
    return [GridConfig(budget=Budget(**budget), **values)]


def _parser() -> ArgumentParser:
    parser = ArgumentParser(prog="python -m training.reproduce", description=__doc__, exit_on_error=False)
    commands = parser.add_subcommands()
    commands.add_subcommand("run", _run_parser(), help="Train and score a grid of runs.")
    commands.add_subcommand("speed", _speed_parser(), help="Time training steps of every arm in turn.")
    commands.add_subcommand("keep", _keep_parser(), help="Add what was found out to the repository's records.")
    commands.add_subcommand("report", _report_parser(), help="Write the report of what has run.")
    return parser


def _do(command: str, values: dict[str, Any]) -> int:
    if command == "report":
        from training.experiment.report import page as reproduction_report  # its plots need matplotlib, a run does not

        reproduction_report.write(*(values[key] for key in ("results", "speeds", "out", "attention", "kept")))
        return 0
    if command == "keep":
        _keep(values["kept"], values["results"], values["speeds"], values["attention"])
        return 0
    if command == "speed":
        rounds, steps = values.pop("rounds"), values.pop("steps")
        measure(GridConfig(seeds=(0,), **values), rounds=rounds, steps=steps)
        return 0
    dry_run, held = values.pop("dry_run"), values.pop("kept")
    return run_grids(_grids(values), dry_run, held)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line; returns its exit status."""
    quiet()
    status = 0

    def do(values: dict[str, Any]) -> None:
        nonlocal status
        command = values["subcommand"]
        status = _do(command, dict(values[command]))

    return run_command(_parser, do, arguments) or status


if __name__ == "__main__":
    keep_freed_memory()
    sys.exit(main())
