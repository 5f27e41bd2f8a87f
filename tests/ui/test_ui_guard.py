"""Who may ask the page for what, tried on an application that answers everything."""

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.testclient import TestClient

from shortcut_gen.errors import SettingsError
from ui import alive
from ui import guard as guard_module
from ui.__main__ import parse_args, policy_of
from ui.guard import COOKIE, Guard, Policy
from ui.logs import event_of

HOST = "http://127.0.0.1:7860"
JOIN = "/gradio_api/queue/join"


async def everything(scope: Any, receive: Any, send: Any) -> None:
    """An application that says what reached it, and lets any origin read it."""
    if scope["path"] == "/":
        answer: Response = HTMLResponse("<head><script>one()</script><script src='a.js'></script></head>")
    else:
        body = await Request(scope, receive).body()
        answer = JSONResponse({"body": body.decode()}, headers={"Access-Control-Allow-Origin": "*"})
    await answer(scope, receive, send)


@pytest.fixture
def uploads(tmp_path: Path) -> Path:
    (tmp_path / "uploads").mkdir()
    return tmp_path / "uploads"


def made(uploads: Path, policy: Policy | None = None) -> Guard:
    return Guard(everything, policy or Policy(), uploads, lambda: {0: [False], 1: [True], 3: [False, False]})


def browser(app: Guard, opened: bool = True, host: str = HOST) -> TestClient:
    client = TestClient(app, base_url=host)
    if opened:
        assert client.get("/").status_code == 200
    return client


def body(**changes: Any) -> dict[str, Any]:
    return {"data": [1], "fn_index": 0, "session_hash": "abc123", "event_data": None, "trigger_id": 5} | changes


@pytest.mark.parametrize(
    "host", ["127.0.0.1:7860", "localhost", "localhost:99", "[::1]:7860", "192.168.1.9", "a.localhost"]
)
def test_addresses_of_this_machine_are_answered(uploads: Path, host: str) -> None:
    assert browser(made(uploads)).get("/", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:7860",
        "127.0.0.1.evil.example",
        "",
        "[::1",
        "localhost.evil",
        "evil.example@127.0.0.1",
        "evil/@localhost",
        "a b",
    ],
)
def test_names_of_others_are_not(uploads: Path, host: str) -> None:
    answer = browser(made(uploads)).get("/", headers={"Host": host})
    assert answer.status_code in (421, 400)
    assert "--allowed-hosts" in answer.text


def test_a_name_can_be_given(uploads: Path) -> None:
    app = made(uploads, Policy(hosts=frozenset({"demo.example.org"})))
    assert browser(app).get("/", headers={"Host": "demo.example.org"}).status_code == 200
    assert (
        browser(made(uploads, Policy(hosts=frozenset("*")))).get("/", headers={"Host": "any.name"}).status_code == 200
    )


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:7861"},
        {"Origin": "file://127.0.0.1:7860"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"},
        {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "cors"},
    ],
)
def test_pages_of_others_may_not_ask(uploads: Path, headers: dict[str, str]) -> None:
    client = browser(made(uploads))
    assert client.post(JOIN, json=body(), headers=headers).status_code == 403
    assert client.get("/config", headers=headers).status_code == 403


def test_a_link_from_another_page_is_followed_and_the_page_itself_may_ask(uploads: Path) -> None:
    client = browser(made(uploads))
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert client.get("/", headers=link).status_code == 200
    assert client.post(JOIN, json=body(), headers={"Origin": HOST}).status_code == 200


def test_no_answer_may_be_read_by_others(uploads: Path) -> None:
    answer = browser(made(uploads)).get("/config")
    assert not [name for name in answer.headers if name.startswith("access-control")]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "frame-ancestors 'self'" in answer.headers["content-security-policy"]
    framed = browser(made(uploads, Policy(frames=("https://school.example",)))).get("/")
    assert "frame-ancestors 'self' https://school.example" in framed.headers["content-security-policy"]


def test_each_page_has_a_nonce_of_its_own(uploads: Path) -> None:
    client = browser(made(uploads))
    pages = [client.get("/") for _ in range(2)]
    nonces = []
    for page in pages:
        found = set(re.findall(r'<script nonce="([^"]+)"', page.text))
        assert len(found) == 1
        assert page.text.count("<script nonce=") == page.text.count("<script") == 3  # alive.js with the two
        assert f"'nonce-{min(found)}'" in page.headers["content-security-policy"]
        assert int(page.headers["content-length"]) == len(page.content)
        nonces += found
    assert len(set(nonces)) == 2


def test_the_cookie_is_out_of_reach_of_scripts_and_other_sites(uploads: Path) -> None:
    plain, secure = (browser(made(uploads, Policy(secure=s)), opened=False).get("/") for s in (False, True))
    said = plain.headers["set-cookie"]
    assert said.startswith(f"{COOKIE}=")
    assert "HttpOnly" in said
    assert "SameSite=Lax" in said
    assert "Secure" not in said
    assert "Secure" in secure.headers["set-cookie"]
    client = browser(made(uploads))
    assert "set-cookie" not in client.get("/").headers  # it has one


STOPS = [
    ("POST", "/gradio_api/cancel", {"json": {"session_hash": "abc123", "fn_index": 0, "event_id": "e"}}),
    ("POST", "/gradio_api/reset", {"json": {"session_hash": "abc123", "event_id": "e"}}),
    ("POST", JOIN, {"json": body()}),
    ("POST", "/gradio_api/run/predict", {"json": body()}),
    ("GET", "/gradio_api/heartbeat/abc123", {}),
    ("GET", "/gradio_api/queue/data?session_hash=abc123", {}),
]


@pytest.mark.parametrize(("method", "path", "more"), STOPS)
def test_a_pages_hash_alone_is_not_enough_to_speak_for_it(
    uploads: Path, method: str, path: str, more: dict[str, Any]
) -> None:
    app = made(uploads)
    owner, stranger, nobody = browser(app), browser(app), browser(app, opened=False)
    assert owner.post(JOIN, json=body()).status_code == 200
    assert owner.request(method, path, **more).status_code == 200
    assert stranger.request(method, path, **more).status_code == 403
    assert nobody.request(method, path, **more).status_code == 403
    assert stranger.post(JOIN, json=body(session_hash="other1")).status_code == 200  # a page of its own


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/gradio_api/vibe-edit"),
        ("POST", "/gradio_api/process_recording"),
        ("POST", "/gradio_api/component_server"),
        ("POST", "/gradio_api/call/run"),
        ("GET", "/gradio_api/proxy=http://example.org"),
        ("GET", "/monitoring"),
        ("GET", "/docs"),
        ("PUT", "/"),
        ("DELETE", "/gradio_api/upload"),
        ("POST", "/"),
        *[("GET", f"{base}{'a' * 256}") for base in ("/static/", "/assets/", "/gradio_api/file=/tmp/")],
        ("GET", "/assets/" + "a/" * 2500),
    ],
)
def test_what_the_page_does_not_use_is_not_there(uploads: Path, method: str, path: str) -> None:
    assert browser(made(uploads)).request(method, path).status_code == 404


WRONG = [
    b"",
    b"\xff\xfe",
    b"[" * 100_000,
    b'{"a":' * 5000,
    b"null",
    b"7",
    b"[]",
    json.dumps(body(session_hash=None)).encode(),
    json.dumps(body(session_hash="../..")).encode(),
    json.dumps(body(session_hash="a" * 65)).encode(),
    json.dumps(body(fn_index=9)).encode(),
    json.dumps(body(fn_index="0")).encode(),
    json.dumps(body(fn_index=True)).encode(),
    json.dumps(body(fn_index=None)).encode(),
    json.dumps(body(data=None)).encode(),
    json.dumps(body(data=[])).encode(),
    json.dumps(body(data=[1, 2])).encode(),
    json.dumps(body(data=[[1]])).encode(),
    json.dumps(body(data=["x" * 2000])).encode(),
    json.dumps(body(data=["x"], fn_index=1)).encode(),
    json.dumps(body(data=[{"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}}], fn_index=1)).encode(),
    json.dumps(body(data=[{"path": 7, "meta": {"_type": "gradio.FileData"}}], fn_index=1)).encode(),
    json.dumps(body(data=[{"a": {"b": [1] * 9}}])).encode(),
    json.dumps(body(event_data={"x": 1})).encode(),
    json.dumps(body(event_id=[1])).encode(),
    json.dumps(body() | {"data": ["x" * 900] * 100}).encode(),
]


@pytest.mark.parametrize("sent", WRONG, ids=range(len(WRONG)))
def test_a_body_that_the_page_does_not_send_is_one_line(uploads: Path, sent: bytes) -> None:
    answer = browser(made(uploads)).post(JOIN, content=sent)
    assert answer.status_code in (403, 413, 422)
    assert answer.json()["detail"]
    assert "\n" not in answer.json()["detail"]


def test_a_file_must_be_one_of_the_uploads(uploads: Path, tmp_path: Path) -> None:
    client = browser(made(uploads))
    (uploads / "mine.mid").write_bytes(b"MThd")
    (tmp_path / "secret.mid").write_bytes(b"MThd")
    (uploads / "link.mid").symlink_to(tmp_path / "secret.mid")

    def ask(path: str) -> int:
        file = {"path": path, "orig_name": "a.mid", "size": 4, "meta": {"_type": "gradio.FileData"}, "url": None}
        return client.post(JOIN, json=body(data=[file], fn_index=1)).status_code

    assert ask(str(uploads / "mine.mid")) == 200
    for path in (uploads / "gone.mid", uploads / "../secret.mid", uploads / "link.mid", uploads, "a\0b", "x" * 900):
        assert ask(str(path)) == 422


def test_the_body_reaches_the_page_as_it_was_sent(uploads: Path) -> None:
    sent = json.dumps(body(data=[1.5, "ü"], fn_index=3))
    assert browser(made(uploads)).post(JOIN, content=sent).json()["body"] == sent


def test_uploads_have_a_limit_together(uploads: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    client = browser(made(uploads))
    assert client.post("/gradio_api/upload", files={"files": b"1"}).status_code == 200
    assert browser(made(uploads), opened=False).post("/gradio_api/upload", files={"files": b"1"}).status_code == 403
    (uploads / "big").write_bytes(bytes(5000))
    monkeypatch.setattr(guard_module, "UPLOADED_BYTES", 4000)
    assert client.post("/gradio_api/upload", files={"files": b"1"}).status_code == 507


def test_pages_are_remembered_up_to_a_number(uploads: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard_module, "PAGES", 3)
    app = made(uploads)
    one, other = browser(app), browser(app)
    for k in range(5):
        assert one.post(JOIN, json=body(session_hash=f"page{k}")).status_code == 200
    assert other.post(JOIN, json=body(session_hash="page4")).status_code == 403
    assert other.post(JOIN, json=body(session_hash="page0")).status_code == 200  # forgotten


def test_a_web_socket_is_closed(uploads: Path) -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(made(uploads)({"type": "websocket", "path": "/"}, None, send))  # type: ignore[arg-type]
    assert sent == [{"type": "websocket.close", "code": 1008}]


def test_the_command_line_names_hosts_and_frames() -> None:
    policy = policy_of(parse_args(["--hosts", "Demo.example.org", "--frames", "https://a.example", "--https"]))
    assert policy.knows("demo.example.org:443")
    assert not policy.knows("other.example.org")
    assert (policy.frames, policy.secure) == (("https://a.example",), True)
    for wrong in (["--hosts", "http://a"], ["--frames", "a.example; script-src *"], ["--frames", "https://a/b"]):
        with pytest.raises(SettingsError, match="needed"):
            policy_of(parse_args(wrong))


def test_a_page_alone_says_that_it_is_open_or_closed(uploads: Path) -> None:
    told: list[str] = []
    says = alive.route(lambda page: told.append(f"{page} open"), lambda page: told.append(f"{page} closed"))
    app = Guard(Starlette(routes=[says, Route("/", lambda _: HTMLResponse(""))]), Policy(), uploads, lambda: {0: []})
    client = browser(app)
    assert client.get("/alive/abc123").status_code == 204
    assert client.post("/alive/abc123", content=b"whatever").status_code == 204
    assert told == ["abc123 open", "abc123 closed"]
    for other in (browser(app), browser(app, opened=False)):
        assert {other.get("/alive/abc123").status_code, other.post("/alive/abc123").status_code} == {403}
    assert len(told) == 2


def test_what_gradio_fails_at_is_the_requests_fault(uploads: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def failing(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/":
            return await everything(scope, receive, send)
        if "queue" in scope["path"]:
            await send({"type": "http.response.start", "status": 200, "headers": []})
        raise TypeError("not\nwhat was expected")

    client = browser(Guard(failing, Policy(), uploads, lambda: {0: [False]}))
    assert client.post("/gradio_api/upload", files={"files": b"1"}).status_code == 400
    assert client.get("/gradio_api/queue/data?session_hash=abc123").status_code == 200
    assert "Gradio did not expect" in caplog.text
    assert "what was expected" not in "".join(map(event_of, caplog.records))  # it may be someone's content
    with pytest.raises(TypeError):
        client.get("/config")
