"""How a server is operated: who asks how much, health and metrics, logs, its folder; on parts, without a server."""

import asyncio
import io
import json
import logging
import os
import threading
import time
import traceback
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.testclient import TestClient

from shortcut_gen.errors import SettingsError
from tests.shared.tabs import run
from ui import auth, logs, operate, options, settings, storage
from ui.auth import Accounts, line_for
from ui.bodies import RefusalError
from ui.clients import WAITING_OF_CLIENT, Clients, Limits, client_of, networks
from ui.ending import drain
from ui.guard import Policy
from ui.metrics import Metrics
from ui.models import Models
from ui.operate import Front, Operation
from ui.options import operation_of, parse_args, policy_of
from ui.piano import PianoTab
from ui.sessions import Admission, Run, Sessions

ROOT = Path(__file__).resolve().parents[2]
UPLOAD = "/gradio_api/upload"
JOIN = "/gradio_api/queue/join"
PROXY = "10.9.8.7"


async def everything(scope: Any, receive: Any, send: Any) -> None:
    """An application that reads what it is sent, and says from whom; a body that breaks off is its own fault."""
    request = Request(scope, receive)
    try:
        size = len(await request.body())
    except ClientDisconnect:
        size = -1
    except Exception:
        await Response("Gradio's own words", 500)(scope, receive, send)
        raise
    answer = {"client": scope["client"][0], "path": scope["path"], "scheme": scope["scheme"], "size": size}
    answer["host"] = request.headers.get("x-forwarded-host", "")
    await PlainTextResponse(json.dumps(answer))(scope, receive, send)


def front(sessions: Sessions, policy: Policy | None = None, **changes: Any) -> Front:
    policy = policy or Policy(hosts=frozenset({"demo.example.org"}))
    return Front(everything, sessions, Metrics(sessions, {}), Operation(**changes), policy, {})


def asks(app: Front, address: str = "127.0.0.1") -> TestClient:
    return TestClient(app, base_url="http://127.0.0.1:7860", client=(address, 5000), follow_redirects=False)


def figures(text: str) -> dict[tuple[str, ...], float]:
    """Values by name and labels' values, these in the order of their names."""
    families = text_string_to_metric_families(text)
    return {(each.name, *each.labels.values()): each.value for family in families for each in family.samples}


# ------------------------------------------------------------------------------------------------ who asks


@pytest.mark.parametrize(
    ("peer", "noted", "name", "proxied"),
    [
        ("203.0.113.5", None, "203.0.113.5", False),
        ("203.0.113.5", "198.51.100.1", "203.0.113.5", True),  # no proxy of ours: it may write what it likes
        (PROXY, None, PROXY, False),
        (PROXY, "198.51.100.1", "198.51.100.1", False),
        (PROXY, "127.0.0.1, 198.51.100.1", "198.51.100.1", False),  # the first is what the client wrote
        (PROXY, f"198.51.100.1, {PROXY}", "198.51.100.1", False),  # two proxies of ours
        (PROXY, "198.51.100.1, nonsense", PROXY, True),  # it passes somebody on, and does not say whom
        (PROXY, "", PROXY, True),
        (PROXY, "198.51.100.1:4433", "198.51.100.1", False),
        (PROXY, "[2001:db8:1:2:3::4]:443", "2001:db8:1:2::/64", False),
        ("::ffff:203.0.113.5", None, "203.0.113.5", False),
        (None, None, "unknown", False),
    ],
)
def test_a_client_is_an_address_and_a_proxy_is_believed_where_it_was_named(
    peer: str | None, noted: str | None, name: str, proxied: bool
) -> None:
    headers = Headers({} if noted is None else {"X-Forwarded-For": noted})
    client = client_of(peer, headers, networks(["10.0.0.0/8"], "proxies"))
    assert (client.name, client.proxied) == (name, proxied)


def test_what_comes_behind_sees_the_client_and_no_header_that_it_made_up(sessions: Sessions) -> None:
    app = front(sessions, proxies=networks([PROXY], "proxies"))
    made_up = {"X-Forwarded-For": "198.51.100.1", "X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "https"}
    assert asks(app, "203.0.113.5").get("/", headers=made_up).json() | {"client": "203.0.113.5", "host": ""} == {
        "client": "203.0.113.5",
        "path": "/",
        "scheme": "http",
        "size": 0,
        "host": "",
    }
    said = asks(app, PROXY).get("/", headers=made_up | {"X-Forwarded-Host": "demo.example.org"}).json()
    assert (said["client"], said["scheme"], said["host"]) == ("198.51.100.1", "https", "demo.example.org")
    assert asks(app, PROXY).get("/", headers=made_up).json()["host"] == ""
    secure = front(sessions, Policy(secure=True))
    assert asks(secure).get("/").json()["scheme"] == "https"


def test_each_client_has_a_rate_and_none_has_anothers(sessions: Sessions) -> None:
    app = front(sessions)
    app.clients = Clients(Limits(rate=40), lambda: 0.0)
    one, other = asks(app, "203.0.113.5"), asks(app, "203.0.113.6")
    answers = [one.get("/") for _ in range(11)]
    assert [each.status_code for each in answers] == [200] * 10 + [429]  # a quarter of a minute's at once
    assert int(answers[-1].headers["retry-after"]) >= 1
    assert "more than 40 requests in a minute" in answers[-1].text
    assert other.get("/").status_code == 200
    # A header that anyone can write makes nobody another client.
    assert one.get("/", headers={"X-Forwarded-For": "198.51.100.7"}).status_code == 429


def test_what_was_not_asked_for_comes_back_with_time() -> None:
    now = [0.0]
    clients = Clients(Limits(rate=60), lambda: now[0])
    for _ in range(15):
        clients.count("a")
    with pytest.raises(RefusalError, match="60 requests"):
        clients.count("a")
    now[0] = 2.0
    clients.count("a")
    clients.count("a")
    with pytest.raises(RefusalError):
        clients.count("a")


def test_one_client_does_not_take_all_connections_by_listening(
    sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also behind a proxy, which may have any number of them."""
    monkeypatch.setattr("ui.clients.LISTENING_OF_CLIENT", 2)
    clients = Clients(Limits(rate=1000))
    with clients.listening("a"), clients.listening("a"):
        with pytest.raises(RefusalError, match="too many pages"), clients.listening("a"):
            pass
        with clients.listening("b"):
            pass
    with clients.listening("a"):
        pass
    app = front(sessions, limits=Limits(rate=1000))
    with app.clients.listening("203.0.113.5"), app.clients.listening("203.0.113.5"):
        one = asks(app, "203.0.113.5")
        refused = one.get("/gradio_api/heartbeat/page1")
        assert (refused.status_code, refused.headers["connection"]) == (429, "close")
        assert one.get("/").status_code == 200
        assert asks(app, "203.0.113.6").get("/gradio_api/heartbeat/page1").status_code == 200
    with clients.listening("a"), Clients(Limits()).listening("a"):  # for oneself there is no limit
        pass


def test_one_client_does_not_fill_the_queue_before_all_others(sessions: Sessions) -> None:
    app = front(sessions, limits=Limits(rate=1000, runs=4))
    mine, school = "203.0.113.5", "203.0.113.6"
    app.waiting = lambda: [mine] * WAITING_OF_CLIENT + [school] * (WAITING_OF_CLIENT - 1)
    refused = asks(app, mine).post(JOIN, json={})
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "5")
    assert "too many clicks" in refused.text
    assert asks(app, mine).post(JOIN.replace("queue/join", "cancel"), json={}).status_code == 200  # what waits can go
    assert asks(app, school).post(JOIN, json={}).status_code == 200
    # An operator who lets one address have more runs lets as many of them wait.
    app.clients.limits = Limits(rate=1000, runs=WAITING_OF_CLIENT + 1)
    assert asks(app, mine).post(JOIN, json={}).status_code == 200
    app.clients.limits = Limits()  # for oneself there is no limit
    assert asks(app, mine).post(JOIN, json={}).status_code == 200


def test_uploads_of_a_client_are_few_and_small_together(sessions: Sessions) -> None:
    app = front(sessions, limits=Limits(uploads=3, stored=1000))
    one = asks(app, "203.0.113.5")
    assert one.post(UPLOAD, content=b"x" * 600).status_code == 200
    refused = one.post(UPLOAD, content=b"x" * 600)
    assert refused.status_code == 507
    assert "of uploads from your address are kept" in refused.json()["error"]
    assert one.post(UPLOAD, content=b"x" * 300).status_code == 200
    assert one.post(UPLOAD, content=b"x").status_code == 200
    assert one.post(UPLOAD, content=b"x").status_code == 429
    assert asks(app, "203.0.113.6").post(UPLOAD, content=b"x" * 600).status_code == 200
    now = [0.0]
    clients = Clients(Limits(stored=1000), lambda: now[0])
    clients.note_upload("a", 900)
    with pytest.raises(RefusalError):
        clients.check_upload("a", 200)
    now[0] = 3 * 3600.0  # by then they are gone
    clients.check_upload("a", 200)


def test_runs_of_a_client_are_few_whatever_its_browser_says(do: PianoTab, sessions: Sessions) -> None:
    sessions.of_client = 2
    for k in range(2):
        assert sessions.ask(f"page {k}", "piano", f"browser {k}", "203.0.113.5")[0] is Admission.SERVED
    assert sessions.ask("page 3", "piano", "another browser", "203.0.113.5")[0] is Admission.REFUSED
    assert sessions.start_run("page 3", "piano", None, "203.0.113.5") is None  # past the button, too
    assert sessions.ask("page 4", "piano", "browser 4", "203.0.113.6")[0] is not Admission.REFUSED
    assert sessions.ask("page 0", "piano", "browser 0", "203.0.113.5")[0] is not Admission.REFUSED  # its own place


def test_who_keeps_most_makes_room_first(sessions: Sessions, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ui.sessions.KEEP_RUNS", 4)

    def kept(page: str, client: str) -> Run:
        run = sessions.start_run(page, "piano", None, client)
        assert run is not None
        sessions.end_run(run)
        return run

    mine = kept("mine", "203.0.113.5")
    others = [kept(f"page {k}", "203.0.113.6") for k in range(6)]
    assert mine.folder.exists()
    assert [run.folder.exists() for run in others] == [False] * 3 + [True] * 3


# ------------------------------------------------------------------------------------------------ bodies


def test_what_says_that_it_is_too_large_is_refused_before_any_of_it_is_read(sessions: Sessions) -> None:
    app = front(sessions, most_upload=1024**2)
    read: list[bytes] = []

    def body() -> Iterator[bytes]:
        for _ in range(64):
            read.append(b"x" * 65536)
            yield read[-1]

    said = asks(app).post(UPLOAD, content=b"", headers={"Content-Length": str(2 * 1024**3)})
    assert (said.status_code, said.json()["detail"]) == (413, "the file is larger than 1 MB")
    # One that does not say so is ended when it is, and Gradio's words about that are not the answer.
    said = asks(app).post(UPLOAD, content=body())
    assert (said.status_code, said.json()["detail"]) == (413, "the file is larger than 1 MB")


def test_a_body_that_does_not_come_is_not_waited_for(sessions: Sessions, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operate, "BODY_SECONDS", 0.2)
    monkeypatch.setattr(operate, "LINGER_SECONDS", 0.1)
    app, sent = front(sessions), []

    async def nothing() -> Any:
        await asyncio.sleep(60)

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": UPLOAD, "headers": [(b"host", b"localhost")], "scheme": "http"}
    asyncio.run(app(scope | {"client": ("203.0.113.5", 1), "query_string": b""}, nothing, send))
    assert sent[0]["status"] == 408
    assert b"too slowly" in b"".join(each.get("body", b"") for each in sent)
    assert not sent[-1].get("more_body")


# ------------------------------------------------------------------------------------------------ passwords


@pytest.fixture(scope="module")
def passwords(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("auth") / "passwords"
    file.write_text(f"# who may play\n{line_for('clara', 'träumerei opus 15')}\n", encoding="utf-8")
    return file


def test_only_who_has_a_password_comes_in(sessions: Sessions, passwords: Path) -> None:
    app = front(sessions, accounts=Accounts.read(passwords))
    client = asks(app, "203.0.113.5")
    refused = client.get("/")
    assert refused.status_code == 401
    assert refused.headers["www-authenticate"].startswith("Basic realm=")
    assert client.get("/", auth=("clara", "träumerei opus 15")).status_code == 200
    assert client.post(JOIN, json={}, auth=("clara", "träumerei opus 15")).status_code == 200
    for wrong in (("clara", "no"), ("robert", "träumerei opus 15"), ("", ""), ("clara", "")):
        assert client.get("/", auth=wrong).status_code == 401
    for header in ("Basic", "Basic !!!", "Bearer abc", "Basic " + "A" * 9000):
        assert client.get("/", headers={"Authorization": header}).status_code == 401
    assert client.get("/healthz").status_code == 200  # what watches a server has no password


def test_passwords_cannot_be_tried_without_end(sessions: Sessions, passwords: Path) -> None:
    app = front(sessions, accounts=Accounts.read(passwords))
    client = asks(app, "203.0.113.5")
    assert client.get("/", auth=("clara", "träumerei opus 15")).status_code == 200
    tried = [client.get("/", auth=("clara", f"wrong {k}")).status_code for k in range(auth.FAILURES + 1)]
    assert tried == [401] * auth.FAILURES + [429]
    assert client.get("/", auth=("clara", "träumerei opus 15")).status_code == 200  # who was let in before stays
    assert asks(app, "203.0.113.6").get("/").status_code == 401


@pytest.mark.parametrize(
    "text", ["clara:secret-word", "clara", "", "clara:scrypt$00$00", "a b:" + line_for("c", "secret-word")[2:]]
)
def test_a_file_of_other_than_hashes_is_refused_without_a_word_of_it(tmp_path: Path, text: str) -> None:
    file = tmp_path / "passwords"
    file.write_text(text)
    with pytest.raises(SettingsError, match=r"python -m ui\.auth") as caught:
        Accounts.read(file)
    assert "secret-word" not in str(caught.value)
    with pytest.raises(SettingsError, match="cannot be read"):
        Accounts.read(tmp_path / "none")


def test_a_line_is_made_of_a_password_that_is_no_argument(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def made(password: str) -> int:
        monkeypatch.setattr("sys.argv", ["ui.auth", "clara"])
        monkeypatch.setattr("sys.stdin", io.StringIO(f"{password}\n"))
        return auth.main()

    assert made("a long enough one") == 0
    line = capsys.readouterr().out
    assert "a long enough one" not in line
    (tmp_path / "passwords").write_text(line)
    accounts = Accounts.read(tmp_path / "passwords")
    assert accounts.check("Basic Y2xhcmE6YSBsb25nIGVub3VnaCBvbmU=", "203.0.113.5") == "clara"
    assert made("short") == 2
    assert capsys.readouterr().err == "error: the password has 5 characters; 8 to 1,024 are needed\n"


# ------------------------------------------------------------------------------------------------ health, metrics


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


# ------------------------------------------------------------------------------------------------ the end


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


# ------------------------------------------------------------------------------------------------ paths


def test_a_proxy_may_show_the_page_under_a_path(sessions: Sessions) -> None:
    client = asks(front(sessions, root_path="/piano"))
    assert client.get("/piano/config").json()["path"] == "/config"
    assert client.get("/config").json()["path"] == "/config"  # the proxy has taken it away
    assert client.get("/pianoforte").json()["path"] == "/pianoforte"
    assert client.get("/piano").headers["location"] == "/piano/"
    assert client.get("/piano/healthz").json()["status"] == "ready"


# ------------------------------------------------------------------------------------------------ logs


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


# ------------------------------------------------------------------------------------------------ files


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


# ------------------------------------------------------------------------------------------------ the command line


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
