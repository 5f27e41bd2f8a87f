"""Under fire: `python -m benchmarks.hostile [--what slow uploads paths origins floods] [--json FILE]`.

Starts the demo on the shipped checkpoints, with the limits that it has where others than this machine are served, and
attacks it one way after another (`benchmarks.hostility`): clients that send or read a byte at a time or not at all,
uploads that are cut, damaged or have two gigabytes, addresses that lead out of what is served, requests that another
site's page makes a browser send, and floods. The attacker comes from an address of its own. Meanwhile somebody else
opens the page twice a second, and a visitor has a piece of piano made; and one more behind it. A line for each: what
was sent, how it was answered, the slowest page, what the visits took, memory and disk, and whether the server has held.
The status is 1 where it has not. Needs Linux. Nothing of two gigabytes is stored.
"""

import asyncio
import secrets
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import httpx

from benchmarks.hostility.rounds import HEAD, SCENARIOS, Bounds, Row, Server
from benchmarks.hostility.sockets import Target
from benchmarks.hostility.watch import State
from benchmarks.measuring.timing import about, command, describe, progress, table
from benchmarks.visitors.person import Page
from benchmarks.visitors.server import served
from shortcut_gen.errors import SettingsError
from training.corpus.shards import write_json
from training.support.command_line import listed

Family = Literal["slow", "uploads", "paths", "origins", "floods"]
GONE_SECONDS = 480.0
"""Within which what uploads that broke off have left is gone."""
LEFT_MB = 64.0
"""Of uploads that came whole, which are kept for two hours."""
FLAGS = ("--proxies", "127.0.0.1")
"""With a proxy others are served: the usual limits of a client hold, and this machine's other addresses are clients."""


def secrets_in(folder: Path) -> dict[str, bytes]:
    """Files outside of what is served and what is in them; one that lies beside the server's own folder is made."""
    outside = folder / "outside.mid"
    mark = secrets.token_hex(16).encode()
    outside.write_bytes(b"MThd" + mark)
    ours = Path(__file__).resolve().parents[1]
    return {
        str(outside): mark,
        "/etc/passwd": b"root:",
        "/proc/self/environ": f"HOSTILE={folder.name}".encode(),
        str(ours / "pyproject.toml"): b"[build-system]",
    }


def plant(folder: Path, outside: Path) -> Path:
    """A link to a file outside among the uploads, which nobody can put there by a request. Its path."""
    [uploads] = folder.glob("shortcut-gen-*/uploads")
    link = uploads / ("0" * 64) / "planted.mid"
    link.parent.mkdir()
    link.symlink_to(outside)
    return link


def attack(what: Sequence[str], names: Sequence[str], server: Server, target: Target, bounds: Bounds) -> list[Row]:
    """All of it, a line for each."""
    rows = []
    chosen = [(family, each) for family in what for each in SCENARIOS[family] if not names or each.__name__ in names]
    for number, (family, each) in enumerate(chosen):
        target.source = f"127.0.2.{number + 1}"
        row = server.attacked(family, each, target)
        rows.append(row)
        problems = "; ".join(row.problems(bounds)[:5])
        progress(f"{row.seconds:4.0f} s  {family} {row.name}: {dict(row.tally.answers)} {problems or 'held'}")
    return rows


def gone(server: Server, before: State) -> list[str]:
    """What is still there of it in the end, minutes later; nothing where all is as it was."""
    until = time.monotonic() + GONE_SECONDS
    while (now := server.state()).disk > before.disk + LEFT_MB and time.monotonic() < until:
        time.sleep(5)
    left = [f"{now.disk - before.disk:.0f} MB are left on the disk"] if now.disk > before.disk + LEFT_MB else []
    print(
        f"in the end: {now.mib - before.mib:+.0f} MiB of memory, {now.files - before.files:+d} files, "
        f"{now.threads - before.threads:+d} threads, {now.disk - before.disk:+.1f} MB on the disk"
    )
    return left


def main(
    checkpoints: Path = Path("checkpoints"),
    what: list[Family] = list(SCENARIOS),  # type: ignore[assignment]  # noqa: B006
    names: list[str] = [],  # noqa: B006
    many: int = 150,
    seconds: float = 75.0,
    page_seconds: float = 10.0,
    json: Path | None = None,
) -> None:
    """Attack, watch, print and write.

    Args:
        checkpoints: Folder of the checkpoints that the page offers.
        what: Kinds of attacks.
        names: Of single attacks; all of these kinds if not given.
        many: Connections of an attack.
        seconds: For which those hold out that are slow; the server gives an answer up that is not taken for 60.
        page_seconds: What `GET /` may take meanwhile.
        json: File to write.
    """
    known = {each.__name__ for family in SCENARIOS.values() for each in family}
    if not sys.platform.startswith("linux"):
        raise SettingsError("this looks at a process in /proc; Linux is needed")
    if not 1 <= many <= 1000 or not 1 <= seconds <= 600 or page_seconds <= 0:
        raise SettingsError(
            f"many is {many}, seconds {seconds:g}, page_seconds {page_seconds:g}; 1 to 1000, 1 to 600 and more than 0 "
            "are needed"
        )
    if unknown := [name for name in names if name not in known]:
        raise SettingsError(f"names has {unknown[0]!r}; some of {', '.join(sorted(known))} are needed")
    machine = about(("gradio", "uvicorn", "h11"))
    print(describe(machine), flush=True)
    bounds = Bounds(page=page_seconds)
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        hidden = secrets_in(work)
        (work / "server").mkdir()
        with (
            (work / "log").open("w") as log,
            served(checkpoints, FLAGS, log, TMPDIR=str(work / "server"), HOSTILE=work.name) as (pid, url),
        ):
            server = Server(url, pid, work / "server", work / "log")
            outside = next(iter(hidden))
            hidden[str(plant(server.folder, Path(outside)))] = hidden[outside]
            first = server.visit("first")  # whoever comes first waits for what all others find there
            if first.outcome != "answered":
                raise SettingsError(f"the demo does not work as it is: {first.outcome}, {first.said}")
            before = server.state()
            events = asyncio.run(_events(url))
            target = Target(int(url.rpartition(":")[2]), many=many, seconds=seconds, secrets=hidden, events=events)
            rows = attack(what, names, server, target, bounds)
            print(f"\n{table([HEAD, *(row.cells(bounds) for row in rows)])}\n", flush=True)
            left = gone(server, before)
    problems = [f"{row.family} {row.name}: {problem}" for row in rows for problem in row.problems(bounds)] + left
    for problem in problems:
        print(problem, flush=True)
    if json:
        told: dict[str, Any] = {"machine": machine, "many": many, "seconds": seconds, "left": left}
        write_json(json, told | {"rows": [row.to_dict(bounds) for row in rows]})
    if problems:
        raise SystemExit(1)


async def _events(url: str) -> dict[str, int]:
    """The numbers of the page's events, by their buttons."""
    async with httpx.AsyncClient(base_url=url, timeout=60) as browser:
        page = Page((await browser.get("/config")).json())
    return {"go": page.of("go")["id"]}


def arguments(given: Sequence[str]) -> list[str]:
    """`--what a b` as the parser takes it: `--what [a,b]`; likewise names."""
    return listed(listed(given, "--what"), "--names")


if __name__ == "__main__":
    sys.exit(command(main, arguments(sys.argv[1:])))
