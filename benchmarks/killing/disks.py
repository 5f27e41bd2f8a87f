"""Bad disks: one that is full, one that cannot be written to, and a newest checkpoint that is damaged."""

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.killing.rounds import POLL_SECONDS, Killer, difference
from benchmarks.killing.scenarios import RUN
from training.run.checkpoints import LAST, PREVIOUS

PAGE = 4096


class Disk:
    """A small disk of its own (a tmpfs) where the system allows to mount one."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def set(self, options: str) -> None:
        """Mount options, of a disk that is there."""
        _mount("-o", f"remount,{options}", str(self.place))


def _mount(*arguments: str) -> bool:
    try:
        return subprocess.run(["mount", *arguments], capture_output=True, check=False).returncode == 0
    except OSError:
        return False


@contextlib.contextmanager
def small_disk(place: Path) -> Iterator[Disk | None]:
    """A disk of 256 MB for as long as the block lasts; None where none can be mounted."""
    place.mkdir(parents=True)
    if not _mount("-t", "tmpfs", "-o", "size=256m", "tmpfs", str(place)):
        yield None
        return
    try:
        yield Disk(place)
    finally:
        subprocess.run(["umount", "-l", str(place)], capture_output=True, check=False)


def refusal(killer: Killer, out: Path, largest: int | None = None) -> str:
    """Run the command where it cannot write: "" where it ends by itself with a line that says so, or what is wrong."""
    process = killer.start(out, largest)
    code = process.wait()
    if code == 0:
        return "it ended with 0, though it could not write"
    if code != 2 or "Traceback" in process.said():
        return f"status {code} and no plain line: {process.last_words()}"
    return "" if process.last_words().startswith("error:") else f"its last line is no error: {process.last_words()}"


def full_disk(killer: Killer, expected: dict[str, str], work: Path) -> tuple[str, str]:
    """Half of the room that the result takes, then enough: (how it was made, "" or what is wrong)."""
    files = [path.stat().st_size for path in killer.whole.rglob("*") if path.is_file()]
    with small_disk(work / "full") as disk:
        out = work / "full" / "out"
        if disk is None:
            problem = refusal(killer, out, max(files) // 2)
        else:
            pages = sum(-(-size // PAGE) for size in files)
            disk.set(f"size={max(pages // 2, 1) * PAGE}")
            problem = refusal(killer, out)
            disk.set("size=256m")
        problem = problem or killer.finish(out) or difference(expected, killer.scenario.result(out))
        return ("a tmpfs half as large as the result" if disk else "files of at most half the largest"), problem


def read_only(killer: Killer, expected: dict[str, str], work: Path) -> tuple[str, str]:
    """A folder of results that is begun and cannot be written to any more, then can: as `full_disk`."""
    with small_disk(work / "read-only") as disk:
        out = work / "read-only" / "out"
        if disk is None and os.geteuid() == 0:
            return "not tried: root may write everywhere, and no disk can be mounted", ""
        killer.at_some_moment(killer.start(out), out)
        out.mkdir(exist_ok=True)
        if disk:
            disk.set("ro")
        else:
            _set_modes(out, 0o555)
        problem = refusal(killer, out)
        if disk:
            disk.set("rw")
        else:
            _set_modes(out, 0o755)
        problem = problem or killer.finish(out) or difference(expected, killer.scenario.result(out))
        return ("a tmpfs that was mounted anew" if disk else "folders without the right to write"), problem


def _set_modes(out: Path, mode: int) -> None:
    for folder in (out, *(path for path in out.rglob("*") if path.is_dir())):
        folder.chmod(mode)


def damages(data: bytes) -> dict[str, bytes]:
    """A checkpoint as a bad disk may leave it."""
    middle = len(data) // 2
    return {
        "cut short": data[:-200],
        "zeros in its middle": data[:middle] + bytes(64) + data[middle + 64 :],
        "empty": b"",
        "another file": b"x" * 999,
    }


def damaged_checkpoints(killer: Killer, expected: dict[str, str], work: Path) -> Iterator[tuple[str, str]]:
    """A run of training killed when it has two checkpoints, the newest damaged: (the damage, "" or what is wrong)."""
    begun = work / "begun"
    process = killer.start(begun)
    while not process.ended(POLL_SECONDS):
        if (begun / RUN / PREVIOUS).exists():
            process.send(signal.SIGKILL)
            process.wait()
    if process.wait() != -signal.SIGKILL:
        yield "the run ended before it was killed", process.last_words()
        return
    for name, data in damages((begun / RUN / LAST).read_bytes()).items():
        out = work / name.replace(" ", "-")
        shutil.copytree(begun, out)
        (out / RUN / LAST).write_bytes(data)
        yield name, killer.finish(out) or difference(expected, killer.scenario.result(out))
        shutil.rmtree(out)


DISKS: dict[str, Callable[[Killer, dict[str, str], Path], tuple[str, str]]] = {
    "full disk": full_disk,
    "read-only disk": read_only,
}
