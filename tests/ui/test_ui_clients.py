"""Who asks, and how much each may ask for; on parts, without a server."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.datastructures import Headers

from tests.shared.front import JOIN, UPLOAD, asks, front
from ui import operate
from ui.bodies import RefusalError
from ui.clients import WAITING_OF_CLIENT, Clients, Limits, client_of, networks
from ui.guard import Policy
from ui.piano import PianoTab
from ui.sessions import Admission, Run, Sessions

PROXY = "10.9.8.7"


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
