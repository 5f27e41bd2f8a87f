"""What becomes of the server meanwhile: what others wait for its page, its memory, files, threads and disk.

In a process of its own, so that what the attacker is busy with does not count.
"""

import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.visitors.server import look, memory

EVERY_SECONDS = 0.5


@dataclass(frozen=True)
class State:
    """Of a server's process."""

    mib: float
    """Resident memory in MiB."""
    files: int
    """Open files and connections."""
    threads: int
    disk: float
    """MB of uploads and temporary files; what was made for people is no attacker's."""


def state(pid: int, folder: Path) -> State:
    """As it is now. folder: of all that the server writes. Raises OSError where it does not live any more."""
    files, threads = (len(list(Path(f"/proc/{pid}/{what}").iterdir())) for what in ("fd", "task"))
    return State(memory(pid), files, threads, stored(folder) / 1e6)


def stored(folder: Path) -> int:
    """Bytes of files in a folder, without results."""
    total = 0
    for where, _, names in os.walk(folder):
        if "results" in Path(where).relative_to(folder).parts:
            continue
        for name in names:
            try:
                total += (Path(where) / name).lstat().st_size
            except OSError:  # gone meanwhile
                continue
    return total


@dataclass
class Seen:
    """What was seen during an attack."""

    page: list[float | None] = field(default_factory=list)
    """What `GET /` took, in seconds; None where it was not answered."""
    states: list[State] = field(default_factory=list)

    @property
    def slowest(self) -> float:
        """Of the answers to `GET /`, in seconds; not a number where there was none."""
        return max((each for each in self.page if each is not None), default=math.nan)

    @property
    def unanswered(self) -> int:
        """How often it was not answered."""
        return sum(each is None for each in self.page)

    def most(self, what: str) -> float:
        """The most of one figure of its states; not a number where there were none."""
        return max((float(getattr(each, what)) for each in self.states), default=math.nan)

    def read(self, lines: Iterator[str]) -> None:
        """What the watching process has printed; its last line may be cut."""
        for line in lines:
            if line.endswith("\n"):
                took, figures = json.loads(line)
                self.page.append(took)
                if figures:
                    self.states.append(State(*figures))


@contextmanager
def watching(url: str, pid: int, folder: Path) -> Iterator[Seen]:
    """Watch while the block runs; what was seen is there behind it."""
    seen = Seen()
    with tempfile.TemporaryFile("w+") as out:
        words = [sys.executable, "-m", "benchmarks.hostility.watch", url, str(pid), str(folder)]
        watcher = subprocess.Popen(words, stdout=out)
        try:
            yield seen
        finally:
            watcher.terminate()
            watcher.wait(60)
            out.seek(0)
            seen.read(iter(out))


def main() -> None:
    """Print a line for each look until the process is ended."""
    url, pid, folder = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
    while True:
        try:
            took: float | None = round(look(url), 3)
        except OSError:
            took = None
        try:
            now = state(pid, folder)
            figures = [round(now.mib, 1), now.files, now.threads, round(now.disk, 2)]
        except OSError:
            figures = []
        print(json.dumps([took, figures]), flush=True)
        time.sleep(EVERY_SECONDS)


if __name__ == "__main__":
    main()
