"""Several commands at a time, each a process: what training.reproduce runs its grid with.

At a signal every process is asked to stop and waited for; a second one kills them. When this process itself is killed,
its children are told to stop by the system, so that none trains on unseen (on Linux).
"""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import IO, Any

PATIENCE = 0.1
"""Seconds between two looks at the processes."""
PR_SET_PDEATHSIG = 1
"""Of Linux's prctl(2)."""
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


@dataclass(frozen=True, kw_only=True)
class Job:
    """Commands to run one after the other; the first that fails ends the job."""

    name: str
    commands: Sequence[Sequence[str]]
    log: Path
    """File their output is added to."""


@dataclass
class _Active:
    job: Job
    log: IO[bytes]
    process: subprocess.Popen[bytes]
    waiting: list[Sequence[str]] = field(default_factory=list)


class JobRunner:
    """Runs jobs, so many at a time.

    Args:
        at_once: How many.
        finished: Called in this process with each job that ended by itself, and the exit status of its last command.
    """

    def __init__(self, at_once: int, finished: Callable[[Job, int], None]) -> None:
        self._at_once, self._finished = at_once, finished
        self._active: list[_Active] = []
        self._signal = 0

    def run(self, jobs: Sequence[Job]) -> int:
        """Runs them all, in this order. Returns 0, or the number of the signal that stopped it."""
        waiting = list(jobs)
        with self._signals():
            try:
                while (waiting or self._active) and not self._signal:
                    while waiting and len(self._active) < self._at_once:
                        self._start(waiting.pop(0))
                    time.sleep(PATIENCE)
                    for active in [active for active in self._active if active.process.poll() is not None]:
                        self._go_on(active)
            finally:
                self._end()
        return self._signal

    def _start(self, job: Job) -> None:
        job.log.parent.mkdir(parents=True, exist_ok=True)
        log = job.log.open("ab")
        first, *rest = job.commands
        self._active.append(_Active(job, log, _process(first, log), rest))

    def _go_on(self, active: _Active) -> None:
        status = active.process.returncode
        if not status and active.waiting and not self._signal:
            active.process = _process(active.waiting.pop(0), active.log)
            return
        self._active.remove(active)
        active.log.close()
        if not self._signal:
            self._finished(active.job, status)

    def _end(self) -> None:
        """Ask what still runs to stop, and wait for it; a run finishes its step and writes its checkpoint."""
        for active in self._active:
            active.process.terminate()
        for active in self._active:
            active.process.wait()
            active.log.close()
        self._active.clear()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._signal:  # asked twice
            for active in self._active:
                active.process.kill()
        self._signal = number

    @contextmanager
    def _signals(self) -> Iterator[None]:
        numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        before: dict[int, Any] = {number: signal.signal(number, self._on_signal) for number in numbers}
        try:
            yield
        finally:
            for held, handler in before.items():
                signal.signal(held, handler)


def last_line(log: Path) -> str:
    """The last line of a log that says anything."""
    with log.open("rb") as file:
        file.seek(max(file.seek(0, os.SEEK_END) - 4096, 0))
        lines = [line.strip() for line in file.read().decode(errors="replace").splitlines()]
    return next((line for line in reversed(lines) if line), "it said nothing")


def _process(command: Sequence[str], log: IO[bytes]) -> subprocess.Popen[bytes]:
    """A process in a session of its own: a Ctrl-C of the terminal reaches this process alone, which passes it on."""
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        preexec_fn=_end_with_parent if _LIBC else None,  # noqa: PLW1509 (one system call, no lock)
    )


def _end_with_parent() -> None:
    """Between fork and exec: the system sends SIGTERM to this child when its parent dies."""
    assert _LIBC is not None
    _LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
