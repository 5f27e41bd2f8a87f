"""Killing a command again and again, each time resumed, and comparing what comes of it with a run that was let be."""

import random
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.killing.scenarios import Scenario, parts_of
from benchmarks.killing.starter import Started, Starter

KILLS_A_RUN = 5
"""That one run meets at most before it is let to its end."""
POLL_SECONDS = 0.0002
PATIENCE_SECONDS = 600.0
"""That a command may take when it is let be; a command that hangs is a fault."""


@dataclass
class Outcome:
    """What became of one command."""

    what: str
    kills: int = 0
    """Processes that SIGKILL ended."""
    inside: int = 0
    """Of them, those that left behind a file that they were writing."""
    starts: int = 0
    runs: int = 0
    """Runs that were killed, resumed, let to their end and compared."""
    equal: int = 0
    """Of them, those whose result is that of a run that nothing happened to."""
    aside: int = 0
    """Of them, those that differ in what a kill may change: the checkpoint of the lowest validation loss."""
    faults: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return dict(self.__dict__)


def difference(expected: dict[str, str], found: dict[str, str]) -> str:
    """What differs between two results, in a line; "" where nothing does."""
    names = [name for name in sorted({*expected, *found}) if expected.get(name) != found.get(name)]
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    if not names:
        return ""
    how = "is left over" if names[0] not in expected else "differs" if names[0] in found else "is missing"
    return f"{names[0]} {how}{more}"


class Killer:
    """Kills one command, in runs of its own under a folder."""

    def __init__(self, scenario: Scenario, starter: Starter, inputs: Path, work: Path, seed: int) -> None:
        work.mkdir(parents=True)
        self.scenario, self._starter, self._inputs, self._work = scenario, starter, inputs, work
        self._chance = random.Random(seed)
        self.whole_seconds = 0.0
        self.whole = work / "whole"

    def start(self, out: Path, largest: int | None = None) -> Started:
        """The command with its results in `out`, begun or gone on with."""
        return self._starter.start(self.scenario.arguments(self._inputs, out), self._work / "output.txt", largest)

    def unkilled(self) -> dict[str, str]:
        """The result of a run that nothing happens to, and how long it takes."""
        problem = self.finish(self.whole)
        if problem:
            raise RuntimeError(f"a run that was let be failed: {problem}")
        return self.scenario.result(self.whole)

    def finish(self, out: Path) -> str:
        """Run the command to its end; "" where that is 0, or what it said."""
        process = self.start(out)
        if not process.ended(PATIENCE_SECONDS):
            process.send(signal.SIGKILL)
            process.wait()
            return f"hung for {PATIENCE_SECONDS:g} s"
        self.whole_seconds = self.whole_seconds or time.monotonic() - process.began
        return "" if process.wait() == 0 else f"status {process.wait()}: {process.last_words()}"

    def at_some_moment(self, process: Started, out: Path) -> None:
        """Kill it after a time by chance, up to that of a whole run."""
        if not process.ended(self._chance.uniform(0, self.whole_seconds)):
            process.send(signal.SIGKILL)
            process.wait()

    def inside_a_write(self, process: Started, out: Path) -> None:
        """Kill it when a new file is half written, or whole but not in its place: stopped first, to be sure."""
        not_before = process.began + self._chance.uniform(0, 0.8 * self.whole_seconds)
        old = {(part, part.stat().st_ino) for part in _there(out)}
        while not process.ended(POLL_SECONDS):
            if time.monotonic() < not_before or not _new(out, old):
                continue
            process.send(signal.SIGSTOP)
            time.sleep(0.002)  # a call that is under way ends first
            if _new(out, old):
                process.send(signal.SIGKILL)
                process.wait()
                return
            process.send(signal.SIGCONT)

    def rounds(self, what: str, times: int, expected: dict[str, str], say: Callable[[str], None]) -> Outcome:
        """So many kills, a third of them inside a write; `expected` is the result of a run that is let be."""
        outcome = Outcome(what)
        most = 6 * times + 20
        while outcome.kills < times and outcome.starts < most:
            out = self._work / f"run-{outcome.runs}"
            problem, finished, before = "", False, outcome.kills
            while not problem and not finished and outcome.kills < min(times, before + KILLS_A_RUN):
                problem, finished = self._one(outcome, out)
            if not problem and not finished:
                outcome.starts += 1
                problem = self.finish(out)
            if outcome.kills == before and not problem:
                shutil.rmtree(out)
                continue  # it ended before it could be hit: nothing to learn
            outcome.runs += 1
            problem = problem or difference(expected, self.scenario.result(out))
            outcome.equal += not problem
            outcome.aside += self.scenario.aside(out) != self.scenario.aside(self.whole)
            if problem:
                outcome.faults.append(f"run {outcome.runs}: {problem}")
                out.rename(self._work / f"wrong-{outcome.runs}")
            else:
                shutil.rmtree(out)
            say(f"{what}: {outcome.kills} of {times} kills, {outcome.equal} of {outcome.runs} runs equal {problem}")
        if outcome.kills < times:
            outcome.faults.append(f"{outcome.kills} kills of {times}: the others came behind the end")
        return outcome

    def _one(self, outcome: Outcome, out: Path) -> tuple[str, bool]:
        """Start it and try to kill it: (what went wrong, whether it came to its end)."""
        inside = outcome.inside * 3 < outcome.kills + 1
        old = {(part, part.stat().st_ino) for part in _there(out)}
        process = self.start(out)
        outcome.starts += 1
        (self.inside_a_write if inside else self.at_some_moment)(process, out)
        code = process.wait()
        if code == -signal.SIGKILL:
            outcome.kills += 1
            outcome.inside += bool(_new(out, old))
            return "", False
        return ("", True) if code == 0 else (f"status {code}: {process.last_words()}", False)


def _there(out: Path) -> list[Path]:
    """Files that are there half written, but for those that go away while this looks."""
    try:
        return [part for part in parts_of(out) if part.exists()]
    except OSError:
        return []


def _new(out: Path, old: set[tuple[Path, int]]) -> bool:
    """Whether there is a file half written that was not there before."""
    for part in _there(out):
        try:
            if (part, part.stat().st_ino) not in old:
                return True
        except OSError:
            continue
    return False
