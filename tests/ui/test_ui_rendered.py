"""Pages that are rendered once: for whom, of what, and what a rendering may know of who asks."""

import asyncio
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.testclient import TestClient

from ui import rendered
from ui.rendered import Rendered


class Gradio:
    """Counts what it is asked, and says all that it sees of who asks."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.status = 200

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        request = Request(scope, receive)
        self.asked.append(f"{request.method} {request.url}")
        seen = sorted(f"{name}: {value}" for name, value in request.headers.items())
        text = f"{request.url} {request.client} {seen}"
        await HTMLResponse(text, self.status)(scope, receive, send)


@pytest.fixture
def gradio() -> Gradio:
    return Gradio()


@pytest.fixture
def client(gradio: Gradio) -> TestClient:
    return TestClient(Rendered(gradio), base_url="http://127.0.0.1:7860")


def test_the_page_and_its_description_are_rendered_once_for_all(gradio: Gradio, client: TestClient) -> None:
    first = client.get("/", headers={"Cookie": "shortcut-gen=mine", "Authorization": "Basic c2VjcmV0"})
    later = client.get("/?page=other&deep_link=x", headers={"Cookie": "shortcut-gen=another", "X-Other": "1"})
    assert first.text == later.text == "http://127.0.0.1:7860/ None ['host: 127.0.0.1:7860']"
    assert client.get("/config").text == client.get("/config").text
    assert client.head("/").headers["content-length"] == first.headers["content-length"]
    assert gradio.asked == ["GET http://127.0.0.1:7860/", "GET http://127.0.0.1:7860/config"]


def test_each_address_of_the_server_has_its_own(gradio: Gradio, client: TestClient) -> None:
    named: list[dict[str, str]] = [{}, {"Host": "localhost"}, {"X-Forwarded-Host": "demo.example.org"}]
    named.append({"X-Forwarded-Proto": "https"})
    texts = [client.get("/", headers=headers).text for headers in named]
    assert len(set(texts)) == 4
    assert [client.get("/", headers=headers).text for headers in named] == texts
    assert len(gradio.asked) == 4


def test_only_so_many_are_kept(gradio: Gradio, client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendered, "ADDRESSES", 2)
    for host in ("a", "b", "a", "c", "a", "b"):
        assert host in client.get("/", headers={"Host": host}).text
    assert [url.split("/")[2] for url in gradio.asked] == ["a", "b", "c", "b"]


def test_everything_else_and_every_failure_is_asked_for_each_time(gradio: Gradio, client: TestClient) -> None:
    for _ in range(2):
        assert "cookie: a=b" in client.get("/theme.css?v=1", headers={"Cookie": "a=b"}).text
        client.post("/config")
    gradio.status = 503
    assert [client.get("/").status_code for _ in range(2)] == [503, 503]
    gradio.status = 200
    assert client.get("/").status_code == 200
    assert len(gradio.asked) == 7


def test_a_crowd_that_comes_at_once_waits_for_one_rendering() -> None:
    asked, sent = [], []

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        asked.append(scope["path"])
        await asyncio.sleep(0.01)
        await Response("page")(scope, receive, send)

    async def come() -> None:
        app = Rendered(slow)
        scope = {"type": "http", "asgi": {}, "http_version": "1.1", "scheme": "http", "path": "/", "raw_path": b"/"}
        scope |= {"method": "GET", "headers": [(b"host", b"a")], "query_string": b""}

        async def send(message: Any) -> None:
            sent.append(message.get("body"))

        await app.render("a")
        await asyncio.gather(*(app(dict(scope), None, send) for _ in range(20)))  # type: ignore[arg-type]
        await asyncio.gather(*(app(scope | {"headers": []}, None, send) for _ in range(20)))  # type: ignore[arg-type]

    asyncio.run(come())
    assert asked == ["/", "/config", rendered.ANY, "/"]
    assert sent.count(b"page") == 40
