"""The demo's server, and somebody new who opens its page again and again, in a process of their own."""

import http.client
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

from benchmarks.screenshots import start

EVERY_SECONDS = 0.5
"""Between two looks."""


@dataclass
class Watched:
    """What was seen of a server."""

    at: list[float] = field(default_factory=list)
    """When, in seconds from the first look."""
    page: list[float] = field(default_factory=list)
    """What `GET /` took."""
    mib: list[float] = field(default_factory=list)
    """Resident memory in MiB."""

    @property
    def most(self) -> float:
        """Memory in MiB, at most; not a number where nothing was seen."""
        return max(self.mib, default=float("nan"))


@contextmanager
def served(
    checkpoints: Path, flags: Sequence[str] = (), log: IO[str] | None = None, **environment: str
) -> Iterator[tuple[int, str]]:
    """(process, address) of a server, which ends with the block; all else as of `start`."""
    server, url = start(checkpoints, flags, log, **environment)
    try:
        yield server.pid, url
    finally:
        server.terminate()
        server.wait(120)
        if server.stdout:
            server.stdout.close()


@contextmanager
def watching(url: str, pid: int) -> Iterator[Watched]:
    """Watch while the block runs; what was seen is there behind it."""
    seen = Watched()
    with tempfile.TemporaryFile("w+") as out:
        watcher = subprocess.Popen([sys.executable, "-m", "benchmarks.visitors.server", url, str(pid)], stdout=out)
        try:
            yield seen
        finally:
            watcher.terminate()
            watcher.wait(60)
            out.seek(0)
            for line in out:
                if line.endswith("\n"):
                    at, page, mib = json.loads(line)
                    seen.at.append(at)
                    seen.page.append(page)
                    seen.mib.append(mib)


def memory(pid: int) -> float:
    """Resident memory of a process in MiB."""
    for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    return float("nan")


def look(url: str) -> float:
    """Seconds until somebody new has the page. Raises OSError."""
    began = time.monotonic()
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=120)
    try:
        connection.request("GET", "/")
        answer = connection.getresponse()
        answer.read()
        if answer.status != 200:
            raise OSError(f"GET / was answered {answer.status}")
    finally:
        connection.close()
    return time.monotonic() - began


def main() -> None:
    """Print a line for each look until the process is ended."""
    url, pid = sys.argv[1], int(sys.argv[2])
    began = time.monotonic()
    while True:
        took = look(url)
        print(json.dumps([round(time.monotonic() - began, 2), round(took, 4), round(memory(pid), 1)]), flush=True)
        time.sleep(EVERY_SECONDS)


if __name__ == "__main__":
    main()
