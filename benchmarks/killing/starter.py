"""Starts of a command without the seconds that its imports take: `python -m benchmarks.killing.starter MODULE...`.

All modules are imported once. Each line of JSON on standard input then forks a process that calls `main` of the first
one, with its output in a file; its process id and, when it has ended, its status are the answers. A SIGKILL ends such a
process as it ends one that was started anew: nothing of it is shared with the next but code.
"""

import importlib
import json
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from select import select
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


class Starter:
    """A process that starts a command as often as it is asked. Use it in a `with` block."""

    def __init__(self, modules: Sequence[str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "benchmarks.killing.starter", *modules],
            cwd=ROOT,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        self._answer()

    def __enter__(self) -> "Starter":
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        with suppress(OSError):
            self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def start(self, arguments: Sequence[str], output: Path, largest: int | None = None) -> "Started":
        """A process of the command; `largest`: the most bytes that a file it writes may come to have."""
        assert self._process.stdin is not None
        job = {"arguments": list(arguments), "output": str(output), "largest": largest}
        self._process.stdin.write(json.dumps(job) + "\n")
        return Started(self, int(self._answer()["pid"]), output)

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the process that starts the commands has ended")
        return dict(json.loads(line))

    def _answers(self, seconds: float) -> bool:
        assert self._process.stdout is not None
        return bool(select([self._process.stdout], [], [], seconds)[0])


class Started:
    """A process of the command."""

    def __init__(self, starter: Starter, pid: int, output: Path) -> None:
        self._starter = starter
        self._code: int | None = None
        self.pid = pid
        self.output = output
        self.began = time.monotonic()

    def ended(self, seconds: float = 0.0) -> bool:
        """Whether it has ended, within so many seconds."""
        if self._code is None and self._starter._answers(seconds):
            self.wait()
        return self._code is not None

    def wait(self) -> int:
        """Its exit status, or the negative number of the signal that ended it."""
        if self._code is None:
            self._code = int(self._starter._answer()["code"])
        return self._code

    def send(self, number: int) -> None:
        """A signal to it, unless it has ended. (Its id is no one else's before `ended` has said so.)"""
        with suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def said(self) -> str:
        """All that it has printed."""
        return self.output.read_text(errors="replace")

    def last_words(self) -> str:
        """The last line that it has printed."""
        lines = [line.strip() for line in self.said().replace("\r", "\n").split("\n") if line.strip()]
        return lines[-1] if lines else "nothing"


def _run(module: Any, job: dict[str, Any]) -> None:
    """What the forked process does; it never returns."""
    code = 70
    try:
        out = os.open(job["output"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for number in (1, 2):
            os.dup2(out, number)
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        if job["largest"] is not None:
            import resource

            resource.setrlimit(resource.RLIMIT_FSIZE, (job["largest"],) * 2)
        code = int(module.main(job["arguments"]))
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        with suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def main() -> None:
    """Serve on standard input and output."""
    module = importlib.import_module(sys.argv[1])
    for other in sys.argv[2:]:
        importlib.import_module(other)
    print(json.dumps({"ready": True}), flush=True)
    # Not `for line in sys.stdin`: what that reads ahead, a forked process would have too.
    while line := sys.stdin.readline():
        pid = os.fork()
        if pid == 0:
            _run(module, json.loads(line))
        print(json.dumps({"pid": pid}), flush=True)
        _, status = os.waitpid(pid, 0)
        print(json.dumps({"code": os.waitstatus_to_exitcode(status)}), flush=True)


if __name__ == "__main__":
    main()
