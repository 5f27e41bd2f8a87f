"""Damaged files by the thousand, for every reader: `python -m benchmarks.fuzz --cases 20000`.

Sound inputs of each kind (MIDI, sound, checkpoints, codecs, corpora, batch manifests, indices of copies, archives,
takes) are damaged by chance and read in processes of their own, with limits of time and memory. Right is that an input
is read, or refused in one line. A crash, a traceback, a reader that takes too long or too much memory, and a refusal of
several lines are faults: each is printed, the command ends with 1, and `--save` keeps the inputs. The same seed gives
the same inputs.
"""

import itertools
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from jsonargparse import auto_cli

from benchmarks.fuzzing.child import write_case
from benchmarks.fuzzing.kinds import KINDS, make_inputs

ROOT = Path(__file__).resolve().parents[1]
AHEAD = 50
"""Cases that a process is given at once."""


class Child:
    """A process that reads damaged inputs, started anew after it crashed or was ended."""

    def __init__(self, inputs: Path, work: Path, seed: int, seconds: float, gib: float) -> None:
        self._arguments = [str(inputs), str(work), str(seed), str(gib)]
        self._seconds = seconds
        self._work = work
        self._process: subprocess.Popen[bytes] | None = None
        self._read = b""

    def ask(self, jobs: Sequence[tuple[str, int]]) -> Iterator[dict[str, Any]]:
        """What became of each case, in order.

        All are written down for the process at once, so that it need not be woken for each. A crash or a hang is that
        of the first case without an answer; those behind it go to a process begun anew.
        """
        waiting, told = deque(jobs), False
        while waiting:
            if not told or self._process is None:
                process = self._process or self._started()
                assert process.stdin is not None
                with suppress(BrokenPipeError):
                    process.stdin.write("".join(f"{kind} {number}\n" for kind, number in waiting).encode())
                    process.stdin.flush()
                told = True
            waiting.popleft()
            yield self._answer()

    def _answer(self) -> dict[str, Any]:
        """The next answer, or the fault of a process that gives none and is ended."""
        process = self._process
        assert process is not None and process.stdout is not None
        until = time.monotonic() + self._seconds
        while b"\n" not in self._read:
            left = until - time.monotonic()
            if left <= 0 or not select.select([process.stdout], [], [], left)[0]:
                self.close()
                return {"outcome": "fault", "what": f"hang: more than {self._seconds:g} s"}
            piece = os.read(process.stdout.fileno(), 2**16)
            if not piece:
                code = process.wait()
                self.close()
                return {"outcome": "fault", "what": f"crash: the process ended with {code}"}
            self._read += piece
        line, self._read = self._read.split(b"\n", 1)
        return dict(json.loads(line))

    def _started(self) -> subprocess.Popen[bytes]:
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        shutil.rmtree(self._work, ignore_errors=True)
        self._work.mkdir()
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "benchmarks.fuzzing.child", *self._arguments],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
        )
        assert self._process.stdout is not None
        self._process.stdout.readline()  # until it has imported what it needs
        self._read = b""
        return self._process

    def close(self) -> None:
        """End it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            for stream in (self._process.stdin, self._process.stdout):
                if stream is not None:
                    stream.close()
            self._process = None


def ask_all(
    jobs: Sequence[tuple[str, int]], children: Sequence[Child]
) -> tuple[dict[str, Counter[str]], list[dict[str, Any]]]:
    """(How often each came of a kind, the faults), each of them printed as it is found."""
    tally: dict[str, Counter[str]] = {name: Counter() for name, _ in jobs}
    faults: list[dict[str, Any]] = []
    waiting, lock = iter(jobs), threading.Lock()

    def work(child: Child) -> None:
        while True:
            with lock:
                some = list(itertools.islice(waiting, AHEAD))
            if not some:
                return child.close()
            for (kind, number), answer in zip(some, child.ask(some), strict=True):
                with lock:
                    tally[kind][answer["outcome"]] += 1
                    if answer["outcome"] == "fault":
                        faults.append({"kind": kind, "case": number, "what": answer["what"]})
                        print(f"{kind} {number}: {answer['what']}", flush=True)

    threads = [threading.Thread(target=work, args=(child,)) for child in children]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return tally, faults


def main(
    cases: int = 2000,
    kinds: list[str] = list(KINDS),  # noqa: B006
    seed: int = 0,
    seconds: float = 5.0,
    gib: float = 2.0,
    workers: int = 0,
    save: Path | None = None,
    output: Path | None = None,
) -> int:
    """Damage and read.

    Args:
        cases: Inputs in all, spread over the kinds.
        kinds: Of inputs; all if not given.
        seed: Of the damage.
        seconds: That reading one may take.
        gib: Memory that reading one may take beside what the process begins with, GiB.
        workers: Processes; 0 takes one a core.
        save: Folder for the inputs that were faults.
        output: JSON file to write.
    """
    unknown = [name for name in kinds if name not in KINDS]
    if unknown or cases < 1 or seconds <= 0 or gib <= 0 or workers < 0:
        names = ", ".join(KINDS)
        print(
            f"error: cases, seconds and gib above 0, workers of at least 0, kinds of {names} are needed",
            file=sys.stderr,
        )
        return 2
    with tempfile.TemporaryDirectory() as temporary:
        inputs = Path(temporary) / "inputs"
        make_inputs(inputs)
        jobs = [(name, number) for number in range(-(-cases // len(kinds))) for name in kinds][:cases]
        places = [Path(temporary) / f"work-{place}" for place in range(workers or os.cpu_count() or 1)]
        children = [Child(inputs, place, seed, seconds, gib) for place in places]
        began = time.monotonic()
        tally, faults = ask_all(jobs, children)
        took = time.monotonic() - began
        if save is not None:
            for fault in faults:
                folder = save / f"{fault['kind']}-{fault['case']}"
                folder.mkdir(parents=True, exist_ok=True)
                write_case(inputs, folder, seed, fault["kind"], fault["case"])
    print(f"{'kind':<12}{'read':>8}{'refused':>9}{'faults':>8}")
    for name, counts in tally.items():
        print(f"{name:<12}{counts['read']:>8,}{counts['refused']:>9,}{counts['fault']:>8,}")
    print(f"{cases:,} inputs in {took:,.0f} s, {cases / took:.0f} a second, by {len(children)} processes")
    if output is not None:
        about = {"cases": cases, "seed": seed, "seconds": took, "workers": len(children)}
        rows = {name: dict(counts) for name, counts in tally.items()}
        output.write_text(json.dumps(about | {"kinds": rows, "faults": faults}, indent=1) + "\n")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(auto_cli(main, as_positional=False))
