"""How a server is operated: health and metrics, its end, logs, its folder, its flags; on parts, without a server."""

import json
import logging
import os
import threading
import time
import traceback
import warnings
from pathlib import Path
from typing import Any

import pytest

from shortcut_gen.errors import SettingsError
from tests.shared.front import UPLOAD, asks, figures, front
from tests.shared.tabs import run
from ui import logs, options, settings, storage
from ui.clients import Limits, networks
from ui.ending import drain
from ui.metrics import Metrics
from ui.models import Models
from ui.options import operation_of, parse_args, policy_of
from ui.piano import PianoTab
from ui.sessions import Admission, Sessions


def test_health_is_for_all_and_figures_for_those_who_were_named(sessions: Sessions) -> None:
    app = front(sessions, readers=networks(["127.0.0.0/8", "192.0.2.0/24"], "metrics-from"))
    here, reader, other = asks(app), asks(app, "192.0.2.9"), asks(app, "203.0.113.5")
    assert here.get("/healthz").json() == {"status": "ready", "models": {}, "made": 0, "waiting": 0}
    assert other.get("/healthz").json() == {"status": "ready"}
    assert {here.get("/metrics").status_code, reader.get("/metrics").status_code} == {200}
    assert other.get("/metrics").status_code == 404
    # A proxy on this machine that nobody named does not lend its address to those behind it.
    assert here.get("/metrics", headers={"X-Forwarded-For": "203.0.113.5"}).status_code == 404
    assert here.get("/metrics", headers={"Host": "evil.example"}).status_code == 421
    # Nor does a browser on this machine to a page that it shows.
    assert here.get("/metrics", headers={"Origin": "https://evil.example"}).status_code == 403
    assert (
        here.get("/metrics", headers={"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}).status_code == 403
    )
    assert {here.options("/metrics").status_code, here.options("/healthz").status_code} == {405}
    sessions.draining = True
    ending = here.get("/healthz")
    assert (ending.status_code, ending.json()["status"]) == (503, "draining")
    sessions.draining, app.starting = False, True
    assert here.get("/healthz").json()["status"] == "starting"
    assert here.post("/gradio_api/mcp/", json={}).status_code == 503  # Gradio would make a client of its own for it


def test_metrics_follow_a_run(models: Models, sessions: Sessions) -> None:
    metrics = Metrics(sessions, {"piano": models})
    sessions.watch = metrics
    do = PianoTab(models, sessions)
    list(run(do))
    token = do.begin(type("Request", (), {"session_hash": "page"})())[3]
    assert figures(metrics.text().decode())["shortcut_gen_active_runs", "waiting"] == 1
    list(run(do, token=token, used=0.2))  # refused: too short a part
    got = figures(metrics.text().decode())
    assert got["shortcut_gen_runs_total", "done", "piano"] == 1
    assert got["shortcut_gen_runs_total", "failed", "piano"] == 1
    ids = len(sessions.steps("page", "piano")[0].made[0].ids)
    assert got["shortcut_gen_tokens_total", models.default] == ids > 0
    assert got["shortcut_gen_first_sound_seconds_count", "piano"] == 1
    assert got["shortcut_gen_run_seconds_count", "piano"] == 2
    assert got["shortcut_gen_rows", models.default, "playing"] == 0
    assert got["shortcut_gen_rows", models.default, "places"] > 0
    sessions.of_client = 1
    sessions.ask("a", "piano", "", "203.0.113.5")
    sessions.ask("b", "piano", "", "203.0.113.5")
    assert figures(metrics.text().decode())["shortcut_gen_runs_total", "refused", "piano"] == 1


def test_requests_are_counted_by_kind_and_nothing_of_a_client_is_a_label(sessions: Sessions) -> None:
    app = front(sessions, limits=Limits(uploads=0))
    asks(app).get("/")
    asks(app).get("/results/abcdef/secret-name.wav")
    asks(app).get("/no/such/secret-name")
    asks(app).post(UPLOAD, content=b"x")
    text = asks(app).get("/metrics").text
    got = figures(text)
    assert got["shortcut_gen_requests_total", "page", "200"] == 1
    assert got["shortcut_gen_requests_total", "result", "200"] == 1
    assert got["shortcut_gen_requests_total", "upload", "429"] == 1
    assert "secret-name" not in text and "127.0.0.1" not in text


def test_what_runs_is_made_before_the_end_and_nothing_more_is_taken(do: PianoTab, sessions: Sessions) -> None:
    steps = run(do)
    next(steps)
    seen: list[str] = []
    worker = threading.Thread(target=lambda: seen.extend(step[1] for step in steps if isinstance(step[1], str)))
    ended = threading.Thread(target=lambda: drain(sessions, 60, lambda: 0, lambda: 0.0))
    ended.start()
    while not sessions.draining:
        time.sleep(0.01)
    assert sessions.ask("late", "piano")[0] is Admission.REFUSED
    worker.start()
    ended.join(60)
    assert not ended.is_alive() and not worker.is_alive()
    assert "tokens" in seen[-1] and "server ends" not in seen[-1]


def test_what_takes_too_long_is_handed_back_with_a_word(do: PianoTab, sessions: Sessions) -> None:
    begun = run(do, seconds=120.0)
    next(begun)
    waits = do.begin(type("Request", (), {"session_hash": "other"})())[3]
    seen: list[tuple[Any, ...]] = []
    worker = threading.Thread(target=lambda: seen.extend(begun))
    worker.start()
    assert drain(sessions, 0.1, lambda: 0, lambda: 0.0) is False
    worker.join(60)
    assert "Stopped" in seen[-1][1] and "The server ends now" in seen[-1][1]
    assert seen[-1][3]["interactive"] is True
    last = list(run(do, key="other", token=waits))[-1]
    assert "The server ends now" in last[1]


def test_while_it_ends_a_page_is_told_so(sessions: Sessions) -> None:
    sessions.draining = True
    for answer in (asks(front(sessions)).get("/"), asks(front(sessions)).post(UPLOAD, content=b"x")):
        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) > 0
        assert "about to end" in answer.text
        assert answer.text.count("\n") <= 1
    assert asks(front(sessions)).get("/results/a/b.wav").status_code == 200  # what was made can be fetched


def test_a_proxy_may_show_the_page_under_a_path(sessions: Sessions) -> None:
    client = asks(front(sessions, root_path="/piano"))
    assert client.get("/piano/config").json()["path"] == "/config"
    assert client.get("/config").json()["path"] == "/config"  # the proxy has taken it away
    assert client.get("/pianoforte").json()["path"] == "/pianoforte"
    assert client.get("/piano").headers["location"] == "/piano/"
    assert client.get("/piano/healthz").json()["status"] == "ready"


def test_logs_hold_no_content(capsys: pytest.CaptureFixture[str]) -> None:
    secret = "my-daughters-name.mid"

    def fails() -> None:
        raise ValueError(f"{secret} cannot be read")

    with logs.written("json"):
        for name in ("asyncio", "gradio", "uvicorn.error"):
            logging.getLogger(name).error("Task failed: %r", secret)
        logging.getLogger("asyncio").error(f"Task failed: {secret}")
        try:
            fails()
        except ValueError:
            logging.getLogger("ui.tab").exception("a run failed")
            traceback.print_exc()  # as Gradio does
        thread = threading.Thread(target=fails)
        thread.start()
        thread.join()
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.warn(f"{secret} is odd", stacklevel=1)
        more = {"status": 429, "seconds": 0.1, "client": "abc", "path": secret}
        logging.getLogger("ui.x").info("refused", extra=more)
    said = capsys.readouterr().err
    assert secret not in said and "my-daughters" not in said
    lines = [json.loads(line) for line in said.splitlines()]
    assert len(lines) == 9
    assert all({"time", "level", "event"} <= set(line) <= {"time", "level", "event", *logs.FIELDS} for line in lines)
    assert sum("ValueError at ui/test_ui_operate.py:" in line["event"] for line in lines) == 3
    assert lines[-1] | {"time": ""} == {
        "time": "",
        "level": "info",
        "event": "refused",
        "status": 429,
        "seconds": 0.1,
        "client": "abc",
    }


def test_a_client_in_the_log_is_no_address(sessions: Sessions, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "ui")
    app = front(sessions, limits=Limits(uploads=0))
    for address in ("203.0.113.5", "203.0.113.5", "203.0.113.6"):
        asks(app, address).post(UPLOAD, content=b"x")
    clients = [record.client for record in caplog.records]  # type: ignore[attr-defined]
    assert clients[0] == clients[1] != clients[2]
    assert "203.0" not in "".join(map(logs.event_of, caplog.records)) + "".join(clients)


def test_only_what_a_dead_server_of_ours_has_left_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    alive = Sessions()
    dead, begins, elsewhere = (tmp_path / f"shortcut-gen-{name}" for name in ("dead", "begins", "elsewhere"))
    other = tmp_path / "something-else"
    for folder in (dead, begins, other):
        (folder / "results").mkdir(parents=True)
        (folder / "results" / "a.wav").write_bytes(b"1")
    for folder in (dead, other):
        (folder / storage.LOCK).touch()
    elsewhere.symlink_to(other)
    assert storage.remove_dead() == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        path.name for path in (alive.files.root, begins, elsewhere, other)
    )
    assert (other / "results" / "a.wav").exists()
    alive.clear()
    assert not alive.files.root.exists()


def test_files_are_bounded_in_age(sessions: Sessions, monkeypatch: pytest.MonkeyPatch) -> None:
    (sessions.files.uploads / "abc").mkdir()
    (sessions.files.uploads / "abc" / "old.mid").write_bytes(b"12345")
    (sessions.files.temporary / "cut").write_bytes(b"123")
    (sessions.files.uploads / "tmpabc").write_bytes(b"1")
    storage.remove_cut(sessions.files.uploads)
    assert (sessions.files.uploads / "tmpabc").exists()  # it may still come
    os.utime(sessions.files.uploads / "tmpabc", (0, 0))
    storage.remove_cut(sessions.files.uploads)
    assert sessions.files.stored() == {"results": 0, "uploads": 5, "temporary": 3}
    sessions.tidy(3600, 3600)
    assert sessions.files.stored()["uploads"] == 5
    sessions.tidy(-1, -1)
    assert sessions.files.stored() == {"results": 0, "uploads": 0, "temporary": 0}
    assert list(sessions.files.uploads.iterdir()) == []
    run = sessions.add("page", "piano", "browser")
    assert run is not None
    sessions.sweep()
    assert run.folder.is_dir()
    run.heard_at = run.asked_at = time.monotonic() - 2 * 24 * 3600  # a page that never said that it was closed
    sessions.sweep()
    assert not run.folder.exists()


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--max-queue", "-1"], "max-queue is -1; a whole number from 0 to 10,000"),
        (["--max-seconds", "1"], "max-seconds is 1; a number from 2 to 120"),
        (["--max-upload", "0"], "max-upload is 0; a number from 0.01"),
        (["--max-stored", "100"], "max-stored is 100 MB; at least 200 are needed"),
        (["--per-client", "-2"], "per-client is -2"),
        (["--drain", "nan"], "drain is nan"),
        (["--threads", "0"], "threads is 0; a whole number of at least 1 is needed"),
        (["--runs", "99"], "runs is 99; a whole number from 1 to 64 is needed"),
        (["--proxies", "proxy.example.org"], "proxies names 'proxy.example.org'; addresses or networks"),
        (["--metrics-from", "x"], "metrics-from names 'x'"),
        (["--root-path", "/a b"], "root-path is '/a b'; a path such as /piano"),
        (["--allowed-hosts", "http://a"], "allowed-hosts names 'http://a'; names such as demo.example.org"),
        (["--auth", "/nonexistent"], "/nonexistent cannot be read"),
    ],
)
def test_a_wrong_flag_is_one_line(words: list[str], line: str) -> None:
    given = parse_args(words)

    def read() -> None:
        options.check(given)
        policy_of(given)
        operation_of(given)

    with pytest.raises(SettingsError) as caught:
        read()
    assert line in str(caught.value) and "\n" not in str(caught.value)


def test_this_machine_alone_has_no_limits_and_others_have() -> None:
    def limits(*words: str) -> Limits:
        return operation_of(parse_args(words)).limits

    assert limits() == limits("--host", "localhost") == limits("--host", "::1") == Limits()
    assert limits("--host", "0.0.0.0").runs == limits("--proxies", "127.0.0.1").runs == 4
    assert limits("--host", "0.0.0.0", "--per-client", "0", "--rate", "9") == Limits(rate=9, uploads=120, stored=2**28)
    assert limits("--per-client", "3") == Limits(runs=3)
    old, new = (policy_of(parse_args([flag, "demo.example.org"])) for flag in ("--hosts", "--allowed-hosts"))
    assert old == new
    assert policy_of(parse_args(["--root-path", "piano/"])).path == "/piano/"
    assert options.LEAST_SECONDS == settings.LEAST_SECONDS


def test_the_longest_run_can_be_made_shorter(models: Models, sessions: Sessions) -> None:
    sessions.most_seconds = 10.0
    do = PianoTab(models, sessions)
    assert "from 2 to 10 is needed" in list(run(do, seconds=11.0))[-1][1]
    assert (do.most_seconds, do.usual.seconds) == (10.0, 10.0)
    assert PianoTab.most_seconds > 10
