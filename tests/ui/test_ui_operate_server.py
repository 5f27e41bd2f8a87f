"""A real server: stopped in the middle of a run, killed and started again, behind a password, and what it writes."""

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
from gradio_client import Client, handle_file

from shortcut_gen.checkpoint import CheckpointInfo, save_checkpoint
from shortcut_gen.network.config import ModelConfig
from shortcut_gen.network.model import ShortcutLM
from tests.shared.front import figures
from ui.__main__ import Signals
from ui.auth import line_for

ROOT = Path(__file__).resolve().parents[2]
BACH = ROOT / "ui" / "examples" / "bach-prelude-c.mid"
API = "/gradio_api"
SECRET = "for-my-daughter"
pytestmark = pytest.mark.slow


@dataclass
class Server:
    """One that runs."""

    process: subprocess.Popen[str]
    url: str
    log: Path
    temporary: Path

    def stop(self) -> None:
        self.process.terminate()

    def left(self) -> list[Path]:
        return list(self.temporary.iterdir())


@contextlib.contextmanager
def started(checkpoints: Path, folder: Path, *flags: str) -> Iterator[Server]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = [sys.executable, "-m", "ui", "--checkpoints", str(checkpoints), "--port", str(port), *flags]
    temporary = folder / "tmp"
    temporary.mkdir(exist_ok=True)
    environment = os.environ | {"OMP_NUM_THREADS": "1", "TMPDIR": str(temporary)}
    log = folder / "log"
    with (
        log.open("a") as errors,
        subprocess.Popen(words, env=environment, cwd=ROOT, stdout=errors, stderr=errors, text=True) as process,
    ):
        server = Server(process, f"http://127.0.0.1:{port}", log, temporary)
        try:
            while process.poll() is None:
                with contextlib.suppress(httpx.HTTPError):
                    if httpx.get(f"{server.url}/healthz").status_code == 200:
                        break
                time.sleep(0.1)
            assert process.poll() is None, log.read_text()
            yield server
        finally:
            if process.poll() is None:
                process.kill()


@dataclass
class Page:
    """What a browser does with the page."""

    url: str
    key: str = "page1"
    headers: dict[str, str] = field(default_factory=dict)
    verify: bool = True
    messages: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.http = httpx.Client(base_url=self.url, timeout=120, headers=self.headers, verify=self.verify)
        assert self.http.get("/").status_code == 200
        self.config = self.http.get("/config").json()
        self.parts = {each["id"]: each["props"] for each in self.config["components"]}
        events = self.config["dependencies"]
        go = next(number for number, props in self.parts.items() if props.get("elem_id") == "go")
        self.begins = next(event for event in events if event["targets"] and event["targets"][0][0] == go)
        self.runs = next(event for event in events if event.get("trigger_after") == self.begins["id"])

    def __del__(self) -> None:
        self.http.close()

    def body(self, event: dict[str, Any], data: list[Any]) -> dict[str, Any]:
        named = {"session_hash": self.key, "event_data": None, "trigger_id": None}
        return {"data": data, "fn_index": event["id"], **named}

    def click(self) -> httpx.Response:
        """Continue: the place in the queue."""
        return self.http.post(f"{API}/run/predict", json=self.body(self.begins, []))

    def run(self, **changes: Any) -> threading.Thread:
        """Continue to the end, in a thread; what comes is in `messages`."""
        token = self.click().json()["data"][-1]
        named = [self.parts[number].get("elem_id") for number in self.runs["inputs"]]
        values = [self.parts[number].get("value") for number in self.runs["inputs"]]
        data = [changes.get(name, value) for name, value in zip(named, values, strict=True)]
        answer = self.http.post(f"{API}/queue/join", json=self.body(self.runs, [token, *data[1:]]))
        assert answer.status_code == 200, answer.text
        thread = threading.Thread(target=self._listen)
        thread.start()
        return thread

    def _listen(self) -> None:
        with self.http.stream("GET", f"{API}/queue/data", params={"session_hash": self.key}) as answer:
            for line in answer.iter_lines():
                if line.startswith("data:"):
                    self.messages.append(json.loads(line.removeprefix("data:")))
                    if self.messages[-1]["msg"] in ("process_completed", "close_stream"):
                        return

    def wait(self, what: str) -> None:
        until = time.monotonic() + 60
        while what not in json.dumps(self.messages):
            assert time.monotonic() < until, self.messages
            time.sleep(0.02)


@pytest.fixture(scope="module")
def slow_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A piano model that takes a while, with the torch engine."""
    folder = tmp_path_factory.mktemp("checkpoints")
    config = ModelConfig(width=512, feedforward=2048, feature_hidden=512)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        save_checkpoint(folder / "piano", ShortcutLM(config), CheckpointInfo(model=config, tokenizer="piano"))
    return folder


def test_sigterm_lets_what_runs_be_made_and_takes_nothing_more(slow_model: Path, tmp_path: Path) -> None:
    with started(slow_model, tmp_path, "--engine", "torch", "--drain", "120") as server:
        page, late = Page(server.url), Page(server.url, "late1")
        listening = page.run(seconds=8, used=4)
        page.wait("process_starts")
        server.stop()
        health = httpx.get(f"{server.url}/healthz")
        while health.status_code == 200:
            health = httpx.get(f"{server.url}/healthz")
        assert (health.status_code, health.json()["status"]) == (503, "draining")
        for refused in (late.click(), late.http.get("/"), httpx.post(f"{server.url}{API}/upload", content=b"x")):
            assert refused.status_code == 503
            assert int(refused.headers["retry-after"]) > 0
            assert "the server is about to end" in refused.text
        listening.join(120)
        last = page.messages[-1]
        assert last["msg"] == "process_completed" and last["success"], last
        made = re.findall(r"results/[0-9a-f]+/[^\"' ]+\.mid", json.dumps(page.messages).replace("\\", ""))
        assert page.http.get(f"/{made[-1]}").content[:4] == b"MThd"  # it can still be fetched
        assert server.process.wait(60) == 0
        assert server.left() == []
    assert "Traceback" not in server.log.read_text()


def test_sigterm_hands_back_what_is_not_made_in_time(slow_model: Path, tmp_path: Path) -> None:
    with started(slow_model, tmp_path, "--engine", "torch", "--drain", "4") as server:
        page = Page(server.url)
        listening = page.run(seconds=120, used=4, variations=4)
        page.wait("Generating")
        time.sleep(1)
        stopped = time.monotonic()
        server.stop()
        listening.join(60)
        last = json.dumps(page.messages[-1])
        assert "Stopped." in last and "The server ends now, so this was not made to its end." in last
        assert server.process.wait(60) == 0
        assert time.monotonic() - stopped < 30
        assert server.left() == []


def test_a_second_sigterm_does_not_wait() -> None:
    signals = Signals()
    with pytest.raises(KeyboardInterrupt):  # nobody is served yet
        signals()
    signals.serving = True
    signals()
    assert signals.asked
    with pytest.raises(KeyboardInterrupt):
        signals()


def test_what_a_killed_server_leaves_goes_at_the_next_start(tiny_checkpoint: Path, tmp_path: Path) -> None:
    with started(tiny_checkpoint, tmp_path) as server:
        answer = httpx.post(f"{server.url}{API}/upload", files={"files": ("a.mid", BACH.read_bytes())})
        assert answer.status_code == 200
        server.process.send_signal(signal.SIGKILL)
        server.process.wait(60)
        (left,) = server.left()
        assert [path.name for path in left.rglob("*.mid")]
    with started(tiny_checkpoint, tmp_path) as server:
        assert not left.exists()
        assert len(server.left()) == 1
        assert "the files of 1 servers that were killed were removed" in server.log.read_text()
        server.stop()
        assert server.process.wait(60) == 0
        assert server.left() == []


@pytest.fixture(scope="module")
def guarded(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server as for the internet."""
    folder = tmp_path_factory.mktemp("server")
    (folder / "passwords").write_text(line_for("clara", "opus fifteen") + "\n")
    flags = ["--auth", str(folder / "passwords"), "--proxies", "127.0.0.1", "--https", "--log-format", "json"]
    flags += ["--max-upload", "1", "--per-client", "2"]
    with started(tiny_checkpoint, folder, *flags) as server:
        yield server
        server.stop()
        assert server.process.wait(60) == 0


def test_a_program_with_a_password_is_served(guarded: Server) -> None:
    with pytest.raises(Exception, match="credentials"):
        Client(guarded.url, verbose=False, analytics_enabled=False)
    headers = {"Authorization": httpx.BasicAuth("clara", "opus fifteen")._auth_header}
    client = Client(guarded.url, verbose=False, download_files=False, analytics_enabled=False, headers=headers)
    files, made = client.predict(midi=handle_file(BACH), seconds=2, wav=False, seed=3, api_name="/continue_midi")
    assert len(files) == 1 and made["tokens"] > 0
    assert httpx.get(guarded.url).headers["www-authenticate"].startswith("Basic")
    got = figures(httpx.get(f"{guarded.url}/metrics").text)
    assert got["shortcut_gen_runs_total", "done", "program"] == 1
    assert sum(value for key, value in got.items() if key[0] == "shortcut_gen_tokens_total") >= made["tokens"]
    assert got["shortcut_gen_requests_total", "upload", "200"] == 1
    assert got["process_resident_memory_bytes",] > 0
    by_proxy = httpx.get(f"{guarded.url}/metrics", headers={"X-Forwarded-For": "203.0.113.5"})
    assert by_proxy.status_code == 404


def test_the_log_is_json_and_holds_nothing_of_anyones(guarded: Server, tmp_path: Path) -> None:
    mine = {"headers": {"X-Forwarded-For": "203.0.113.77"}, "auth": ("clara", "opus fifteen")}
    shutil.copy(BACH, tmp_path / f"{SECRET}.mid")
    (tmp_path / f"{SECRET}.txt").write_text("no MIDI")
    headers = {"Authorization": httpx.BasicAuth("clara", "opus fifteen")._auth_header}
    client = Client(guarded.url, verbose=False, download_files=False, analytics_enabled=False, headers=headers)
    client.predict(midi=handle_file(tmp_path / f"{SECRET}.mid"), seconds=2, wav=False, api_name="/continue_midi")
    with pytest.raises(Exception, match="no MIDI file"):
        client.predict(midi=handle_file(tmp_path / f"{SECRET}.txt"), seconds=2, api_name="/continue_midi")
    asked = [
        httpx.get(f"{guarded.url}/results/{SECRET}/{SECRET}.wav", **mine),
        httpx.post(f"{guarded.url}{API}/upload", content=SECRET.encode(), **mine),
        httpx.post(f"{guarded.url}{API}/upload", files={SECRET: (f"{SECRET}.mid", bytes(3 * 1024**2))}, **mine),
        httpx.post(f"{guarded.url}{API}/call/continue_midi", json={"data": [SECRET]}, **mine),
        httpx.get(f"{guarded.url}/{SECRET}?session_hash={SECRET}", **mine),
        httpx.get(f"{guarded.url}/", auth=(SECRET, SECRET), headers={"X-Forwarded-For": "203.0.113.78"}),
    ]
    assert [each.status_code for each in asked] == [404, 400, 413, 422, 404, 401]
    with socket.create_connection(("127.0.0.1", int(guarded.url.rsplit(":", 1)[1]))) as raw:
        raw.sendall(f"{SECRET} {SECRET}\r\n\r\n".encode())  # no HTTP
        assert b"400" in raw.recv(1000)
    text = guarded.log.read_text()
    assert SECRET not in text
    assert not re.search(r"203\.0\.113|clara|bach|page1|[0-9a-f]{16}", text)
    assert [line for line in text.splitlines() if not line.startswith("{")] == []
    lines = [json.loads(line) for line in text.splitlines()]
    assert lines and all(set(line) <= {"time", "level", "event", "status", "seconds", "client"} for line in lines)
    assert {413, 401} <= {line.get("status") for line in lines}
    assert "Traceback" not in text
