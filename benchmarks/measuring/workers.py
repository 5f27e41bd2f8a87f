"""Processes of their own for what is timed: `python -m benchmarks.measuring.workers MODULE:FACTORY SETTINGS`.

Several engines in one process slow each other down (two thread pools on the same cores, for one), so each gets its own.
The factory is called with the settings, a JSON object, and gives a function; a line of JSON on standard input then is
one call of it with those keywords, answered by a line of JSON. Whoever holds the workers asks one at a time: the others
sleep.
"""

import importlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from shortcut_gen.errors import ShortcutGenError

ROOT = Path(__file__).resolve().parents[2]
INSTALL = "pip install .[bench]"


class WorkerError(ShortcutGenError):
    """A worker that ended or answered with an error."""


class MissingError(WorkerError):
    """A worker that lacks a package."""


class Worker:
    """A process that waits to be asked. Use it in a `with` block, or close it."""

    def __init__(self, factory: str, threads: int, **settings: Any) -> None:
        """Start it; `ready` waits until it can be asked."""
        self.name = factory
        self.threads = threads
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  closed with the worker
        environment = os.environ | {
            name: str(threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
        }
        # Each library's own way to wait for its threads: what its user gets.
        environment.pop("OMP_WAIT_POLICY", None)
        given = json.dumps(settings | {"threads": threads})
        command = [sys.executable, "-W", "ignore", "-m", "benchmarks.measuring.workers", factory, given]
        self._process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def ready(self) -> "Worker":
        """Wait until it has loaded. Raises MissingError where a package is lacking, WorkerError where it ended."""
        self._answer()
        return self

    def ask(self, **values: Any) -> dict[str, Any]:
        """Call its function. Raises WorkerError."""
        assert self._process.stdin is not None
        with suppress(OSError):  # it has ended: what it said last tells why
            self._process.stdin.write(json.dumps(values) + "\n")
            self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise WorkerError(f"{self.name} ended with status {self._process.wait()}: {self._last_words()}")
        answer: dict[str, Any] = json.loads(line)
        if "missing" in answer:
            raise MissingError(str(answer["missing"]))
        if "error" in answer:
            raise WorkerError(str(answer["error"]))
        return answer

    def _last_words(self) -> str:
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")

    def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None and self._process.stdout is not None
        with suppress(OSError):  # it has ended already
            self._process.stdin.close()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._errors.close()


@contextmanager
def started(
    wanted: Mapping[Any, tuple[str, dict[str, Any]]], threads: int, first: Mapping[str, Any]
) -> Iterator[dict[Any, Worker]]:
    """A worker for each factory and its settings, for as long as the block lasts, asked once already to warm up.

    Those that lack a package or fail are left out, with a line that says so.
    """
    workers: dict[Any, Worker] = {}
    said = set()
    with ExitStack() as stack:
        for key, (factory, settings) in wanted.items():
            worker = Worker(factory, threads, **settings)
            stack.callback(worker.close)
            try:
                worker.ready().ask(**first)
                workers[key] = worker
            except WorkerError as error:
                line = f"{key if isinstance(key, str) else key[0]} is skipped: {why(error)}"
                if line not in said:
                    print(line, flush=True)
                said.add(line)
        yield workers


def why(error: WorkerError) -> str:
    """What is lacking, and how to get it, or what went wrong."""
    return f"{error} is not installed ({INSTALL})" if isinstance(error, MissingError) else str(error)


def main() -> None:
    """Serve on standard input and output."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a library prints is no answer

    def say(answer: dict[str, Any]) -> None:
        answers.write(json.dumps(answer) + "\n")
        answers.flush()

    module, _, name = sys.argv[1].partition(":")
    try:
        call: Callable[..., dict[str, Any]] = getattr(importlib.import_module(module), name)(**json.loads(sys.argv[2]))
    except ModuleNotFoundError as error:
        say({"missing": error.name or str(error)})
        return
    except ShortcutGenError as error:
        say({"error": str(error)})
        return
    say({"ready": True})
    for line in sys.stdin:
        try:
            say(call(**json.loads(line)))
        except ShortcutGenError as error:
            say({"error": str(error)})


if __name__ == "__main__":
    main()
