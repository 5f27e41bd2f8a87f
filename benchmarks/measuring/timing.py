"""What the benchmarks share: figures of rounds that took turns, the machine, tables, and the command around them."""

import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import Any

from jsonargparse import auto_cli

from shortcut_gen.errors import ShortcutGenError

PAUSE_SECONDS = 0.05
"""Between two rounds: threads that still spin from the one before are asleep by then."""


@dataclass(frozen=True)
class Figure:
    """The median of some rounds with the least and the most of them."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Figure":
        """Of at least one value."""
        return cls(statistics.median(values), min(values), max(values))

    @property
    def spread(self) -> float:
        """Half of the range, as a share of the median."""
        return (self.high - self.low) / 2 / self.median

    def text(self, form: str = ",.0f") -> str:
        """For a table."""
        return f"{self.median:{form}} ± {self.spread:.0%}"

    def to_dict(self, digits: int = 4) -> dict[str, Any]:
        """For a JSON file."""
        bounds = [round(self.low, digits), round(self.high, digits)]
        return {"median": round(self.median, digits), "range": bounds, "spread": round(self.spread, 4)}


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> Figure:
    """How many times theirs ours is, round by round, so that what slows a whole round falls out."""
    return Figure.of([one / other for one, other in zip(ours, theirs, strict=True)])


def alternate(
    timed: Mapping[Any, Callable[[], float]], rounds: int, say: Callable[[str], None] | None = None
) -> dict[Any, list[float]]:
    """What each gives in every round, all taking turns; each second round runs them the other way round."""
    taken: dict[Any, list[float]] = {key: [] for key in timed}
    for number in range(rounds):
        keys = list(timed)
        for key in keys if number % 2 else reversed(keys):
            taken[key].append(timed[key]())
            time.sleep(PAUSE_SECONDS)
        if say:
            say(f"round {number + 1} of {rounds} done")
    return taken


def progress(text: str) -> None:
    """A line about what goes on, on standard error."""
    print(text, file=sys.stderr, flush=True)


def about(packages: Sequence[str] = ()) -> dict[str, Any]:
    """The machine, what else it was doing when this was asked, and the versions of packages that are installed."""
    from training.support.machine import machine

    versions = {"python": platform.python_version()}
    for name in ("torch", *packages):
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    known = machine()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    load = round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None
    return {
        **{"device": known["device"], "name": known["name"], "cores": cores, "load_before": load},
        **{"system": f"{platform.system()} {platform.machine()}", "versions": versions},
    }


def describe(machine: Mapping[str, Any]) -> str:
    """The machine in a line."""
    load = "" if machine["load_before"] is None else f", load {machine['load_before']} before"
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    return f"{machine['name']}, {machine['cores']} cores{load}; {versions}"


def table(rows: Sequence[Sequence[str]]) -> str:
    """Lines of a Markdown table: the first row is its head, columns but the first are set right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]

    def line(row: Sequence[str]) -> str:
        cells = [
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        return f"| {' | '.join(cells)} |"

    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join([line(rows[0]), line(rule), *(line(row) for row in rows[1:])])


def command(main: Callable[..., None], arguments: Sequence[str] | None = None) -> int:
    """Run `main` with options made of its signature; its exit status: 2 after one line where something cannot be."""
    try:
        auto_cli(main, as_positional=False, args=None if arguments is None else list(arguments))
    except ShortcutGenError as error:
        print("error:", " ".join(str(error).split()), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; nothing was written", file=sys.stderr)
        return 130
    return 0
