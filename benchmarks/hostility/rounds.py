"""One attack after another, a visitor beside each, and what became of the server: whether it has held."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import httpx

from benchmarks.hostility import floods, origins, paths, slow, uploads
from benchmarks.hostility.sockets import Tally, Target
from benchmarks.hostility.visitor import Served, visited
from benchmarks.hostility.watch import Seen, State, state, watching
from shortcut_gen.errors import ShortcutGenError

Attack = Callable[[Target], Awaitable[Tally]]

SCENARIOS: dict[str, tuple[Attack, ...]] = {
    "slow": slow.SCENARIOS,
    "uploads": uploads.SCENARIOS,
    "paths": paths.SCENARIOS,
    "origins": origins.SCENARIOS,
    "floods": floods.SCENARIOS,
}
SETTLE_SECONDS = 100.0
"""Within which a server that was left alone lets go of what it had open: an answer that nobody takes is given up after
sixty, a thread that nobody needs goes after ten."""


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """Of a server that has held."""

    mib: float = 300.0
    """More memory than before, while it is attacked; half of it afterwards."""
    disk: float = 450.0
    """MB more of uploads and temporary files; those that broke off stay for five minutes."""
    files: int = 16
    """More open files and connections than before, afterwards."""
    threads: int = 64
    """More than before, afterwards: those that wait for work."""
    page: float = 10.0
    """Seconds that GET / may take meanwhile."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One attack."""

    family: str
    name: str
    what: str
    tally: Tally
    seconds: float
    seen: Seen
    before: State
    after: State
    meanwhile: Served
    afterwards: Served
    said: list[str] = field(default_factory=list)
    """Lines of the server's log that are none to be proud of."""

    def problems(self, bounds: Bounds) -> list[str]:
        """Why it has not held; nothing where it has."""
        found = list(self.tally.faults)
        for when, served in (("meanwhile", self.meanwhile), ("afterwards", self.afterwards)):
            if served.outcome != "answered":
                found.append(f"a visitor {when}: {served.outcome}, {served.said}")
        if self.seen.unanswered:
            found.append(f"GET / was not answered {self.seen.unanswered} times")
        if not self.seen.slowest <= bounds.page:
            found.append(f"GET / took {self.seen.slowest:.1f} s")
        if self.grown > bounds.mib:
            found.append(f"{self.grown:.0f} MiB more memory")
        if self.after.mib - self.before.mib > bounds.mib / 2:
            found.append(f"{self.after.mib - self.before.mib:.0f} MiB more memory afterwards")
        if self.disk > bounds.disk:
            found.append(f"{self.disk:.0f} MB more on the disk")
        for name in ("files", "threads"):
            more = getattr(self.after, name) - getattr(self.before, name)
            if more > getattr(bounds, name):
                found.append(f"{more} more {name} afterwards")
        return found + self.said

    @property
    def grown(self) -> float:
        """Memory in MiB, at most, beyond what it was before."""
        return self.seen.most("mib") - self.before.mib

    @property
    def disk(self) -> float:
        """MB on the disk, at most, beyond what there were before."""
        return self.seen.most("disk") - self.before.disk

    def cells(self, bounds: Bounds) -> list[str]:
        """For a table."""
        how = ", ".join(f"{count} {answer}" for answer, count in self.tally.answers.most_common())
        sent = f"{self.tally.sent}" + (f", {self.tally.megabytes:,.0f} MB" if self.tally.megabytes >= 1 else "")
        growth = f"{self.grown:+.0f} ({self.after.mib - self.before.mib:+.0f})"
        disk = f"{self.disk:+.1f} ({self.after.disk - self.before.disk:+.1f})"
        visits = f"{self.meanwhile.seconds:.1f}, {self.afterwards.seconds:.1f}"
        held = "held" if not self.problems(bounds) else "NOT HELD"
        return [self.family, self.what, sent, how, f"{self.seen.slowest:.2f}", visits, growth, disk, held]

    def to_dict(self, bounds: Bounds) -> dict[str, Any]:
        """For a JSON file."""
        told = {"family": self.family, "name": self.name, "what": self.what, "seconds": round(self.seconds, 1)}
        told |= {"sent": self.tally.sent, "megabytes": round(self.tally.megabytes, 1)}
        told |= {"answers": dict(self.tally.answers), "slowest": self.seen.slowest, "unanswered": self.seen.unanswered}
        told |= {"before": asdict(self.before), "after": asdict(self.after)}
        told |= {"most": {name: self.seen.most(name) for name in ("mib", "files", "threads", "disk")}}
        told |= {"meanwhile": asdict(self.meanwhile), "afterwards": asdict(self.afterwards)}
        return told | {"problems": self.problems(bounds)}


HEAD = ["", "what", "sent", "answered", "GET / s", "visits s", "MiB (after)", "disk MB (after)", ""]


class Server:
    """The one that is attacked."""

    def __init__(self, url: str, pid: int, folder: Path, log: Path) -> None:
        self.url, self.pid, self.folder, self._log = url, pid, folder, log
        self._read = 0

    def state(self) -> State:
        """As it is now."""
        return state(self.pid, self.folder)

    def visit(self, key: str) -> Served:
        """A friendly visitor, who may come from another thread."""
        return asyncio.run(visited(self.url, f"{key}{time.monotonic_ns():x}"))

    def said(self) -> list[str]:
        """What its log has said since, of that which nobody should be able to cause."""
        text = self._log.read_text(encoding="utf-8", errors="replace")
        new, self._read = text[self._read :], len(text)
        return bad_lines(new)

    def attacked(self, family: str, attack: Attack, target: Target) -> Row:
        """Attack it."""
        before = self.state()
        began = time.monotonic()

        async def both() -> tuple[Tally, Served]:
            attacking = asyncio.create_task(_as_task(attack(target)))
            await asyncio.sleep(1)
            visit = asyncio.to_thread(self.visit, "friend")
            tally, served = await asyncio.gather(attacking, visit)
            return tally, served

        with watching(self.url, self.pid, self.folder) as seen:
            tally, meanwhile = asyncio.run(both())
        took = time.monotonic() - began
        afterwards = self.visit("after")
        after = self.settled(before)
        what = " ".join((attack.__doc__ or "").split())
        return Row(
            family=family, name=attack.__name__, what=what, tally=tally, seconds=took, seen=seen, before=before,
            after=after, meanwhile=meanwhile, afterwards=afterwards, said=self.said(),
        )  # fmt: skip

    def settled(self, before: State, seconds: float = SETTLE_SECONDS) -> State:
        """How it is once it has let go of what it had open, or after so long."""
        until = time.monotonic() + seconds
        while True:
            now = self.state()
            if now.files <= before.files + 2 or time.monotonic() > until:
                return now
            time.sleep(0.5)


async def _as_task(attack: Awaitable[Tally]) -> Tally:
    """The attack, and where it could not be made, that."""
    try:
        return await attack
    except (OSError, ValueError, KeyError, httpx.HTTPError, ShortcutGenError) as error:
        return Tally(faults=[f"it could not be made: {type(error).__name__}: {error}"])


def bad_lines(text: str) -> list[str]:
    """Lines of a log that tell of a fault of the server's own: of level error, and tracebacks; the first of each."""
    bad = [line[:160] for line in text.splitlines() if line.startswith(("ERROR", "CRITICAL", "Traceback"))]
    return [f"the log says {bad.count(line)} times: {line}" for line in dict.fromkeys(bad)]
