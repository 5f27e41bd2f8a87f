"""Work on a Ray cluster of two nodes, on this machine: the same results, whatever is killed."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from shortcut_gen import cluster as cluster_module
from shortcut_gen import generate
from shortcut_gen.cluster import Remote, on_cluster
from shortcut_gen.errors import ClusterError, DataError, SettingsError
from shortcut_gen.media import Note, Score
from training import prepare

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112 (Ray's spelling); 15, as it is else, is slow
pytest.importorskip("ray", reason="the extra cluster is not installed")
pytestmark = pytest.mark.timeout(600)

HEAD = {"num_cpus": 1, "include_dashboard": False}
NODE = {"num_cpus": 1}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Its head, with one core."""
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args=HEAD)
    try:
        yield made
    finally:
        made.shutdown()


def scale(first: int) -> Score:
    steps = range(12)
    return Score(
        notes=tuple(Note(pitch=first + k, velocity=40 + 4 * k, start=0.2 * k, end=0.2 * k + 0.15) for k in steps)
    )


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    """Twelve that can be continued, and one that cannot."""
    folder = tmp_path / "prompts"
    folder.mkdir()
    for number in range(12):
        scale(40 + number).write(folder / f"scale-{number:02}.mid")
    (folder / "scale-05-cut.mid").write_bytes((folder / "scale-05.mid").read_bytes()[:40])
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def workers() -> list[int]:
    """Processes that have an item of ours now; Ray names them so."""
    found = []
    for process in Path("/proc").iterdir():
        try:
            if (process / "cmdline").read_bytes().startswith(b"ray::_answer"):
                found.append(int(process.name))
        except OSError:
            continue
    return found


def wait_for(what: Callable[[], Any], seconds: float = 240) -> Any:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if there := what():
            return there
        time.sleep(0.05)
    raise AssertionError("it did not come")


def test_answers_come_in_order_though_processes_are_killed_and_a_machine_is_lost(cluster: Any, tmp_path: Path) -> None:
    node = cluster.add_node(**NODE)

    def make(factor: int) -> Callable[[int], int]:
        def work(item: int) -> int:
            with (tmp_path / f"{item}").open("a") as file:
                file.write(f"{os.getpid()}\n")
            time.sleep(0.3)
            return factor * item

        return work

    def kill() -> None:
        os.kill(wait_for(workers)[0], signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    answers = on_cluster(cluster.address, Remote(make, (3,)), iter(range(24)))
    got = [next(answers) for _ in range(8)]
    killer.join()
    cluster.remove_node(node, allow_graceful=False)
    got += answers
    assert got == [3 * item for item in range(24)]
    tries = [len(path.read_text().splitlines()) for path in tmp_path.iterdir()]
    assert len(tries) == 24
    assert max(tries) > 1  # what was killed was begun again


def test_a_batch_on_a_cluster_is_the_batch_on_one_machine_byte_for_byte(
    cluster: Any, prompts: Path, tmp_path: Path, tiny_checkpoint: Path
) -> None:
    node = cluster.add_node(**NODE)
    arguments = [
        *(prompts, "--checkpoint", tiny_checkpoint, "--seconds", 1.5, "--variations", 2),
        *("--batch-size", 2, "--midi-only", "--engine", "torch"),
    ]
    words = [str(argument) for argument in arguments]
    command = [sys.executable, "-m", "shortcut_gen.generate", *words, "--out", str(tmp_path / "two")]
    with subprocess.Popen([*command, "--ray", cluster.address], stderr=subprocess.PIPE, text=True) as process:
        manifest = tmp_path / "two/manifest.jsonl"
        wait_for(lambda: process.poll() is not None or workers())
        os.kill(workers()[0], signal.SIGKILL)
        wait_for(lambda: process.poll() is not None or (manifest.exists() and manifest.read_text().count("\n") > 4))
        cluster.remove_node(node, allow_graceful=False)
        _, said = process.communicate()
    assert process.returncode == 1, said
    assert "24 made, 0 there already, 1 failed" in said
    assert "Traceback" not in said
    assert generate.main([*words, "--out", str(tmp_path / "one")]) == 1
    one, two = contents(tmp_path / "one"), contents(tmp_path / "two")
    lines = [sorted(files.pop("manifest.jsonl").splitlines()) for files in (one, two)]
    assert lines[0] == lines[1]
    assert len(set(lines[1])) == len(lines[1]) == 25
    assert one == two


def test_a_corpus_prepared_on_a_cluster_is_the_one_prepared_here(
    cluster: Any, prompts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # a path that is not absolute means the same there
    for out, ray in (("here", ()), ("there", ("--ray", cluster.address))):
        assert prepare.main(["midi-folder", "--source", "prompts", "--out", out, "--workers", "1", *ray]) == 0
    assert contents(tmp_path / "here") == contents(tmp_path / "there")


def test_an_error_of_the_work_is_raised_here_and_the_cluster_is_left(cluster: Any) -> None:
    def make() -> Callable[[int], int]:
        def work(item: int) -> int:
            if item == 3:
                raise DataError(f"item {item} is damaged")
            return item

        return work

    answers = on_cluster(cluster.address, Remote(make, ()), range(100))
    got = []
    with pytest.raises(DataError, match=r"^item 3 is damaged$"):
        got.extend(answers)
    assert list(on_cluster(cluster.address, Remote(make, ()), range(3))) == [0, 1, 2]


def test_an_item_that_kills_its_process_ends_the_run_with_a_line(cluster: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster_module, "TRIES", 1)

    def make() -> Callable[[int], int]:
        return lambda item: os._exit(1) if item == 1 else item

    with pytest.raises(ClusterError, match="gave an item up after"):
        list(on_cluster(cluster.address, Remote(make, ()), range(3)))


@pytest.mark.parametrize(
    ("address", "kind", "said"),
    [
        ("nowhere", SettingsError, "HOST:PORT"),
        ("http://127.0.0.1:6379", SettingsError, "HOST:PORT"),
        ("127.0.0.1:1", ClusterError, "nothing answers there"),
    ],
)
def test_a_cluster_that_is_not_there_is_named(address: str, kind: type[Exception], said: str) -> None:
    with pytest.raises(kind, match=said):
        next(on_cluster(address, Remote(int, ()), range(3)))


def test_a_batch_on_no_cluster_writes_nothing(
    prompts: Path, tmp_path: Path, tiny_checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    words = [prompts, "--checkpoint", tiny_checkpoint, "--out", out, "--ray", "127.0.0.1:1"]
    assert generate.main([str(word) for word in words]) == 2
    assert "nothing answers there" in capsys.readouterr().err
    assert contents(out).keys() <= {"manifest.jsonl"}
