"""The command that attacks a server: what it sends, what it takes for a fault, and that a bad setting is one line."""

import asyncio
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks import hostile
from benchmarks.hostility import sockets
from benchmarks.hostility.paths import addresses, leaked, outside, tricks
from benchmarks.hostility.rounds import SCENARIOS, Bounds, Row, bad_lines
from benchmarks.hostility.sockets import CLOSED, KEPT, Answer, Tally, Target, ask, request, status_of, whole
from benchmarks.hostility.uploads import chunked, sound
from benchmarks.hostility.visitor import Served
from benchmarks.hostility.watch import Seen, State, stored
from benchmarks.measuring.timing import command

QUIET = State(mib=500.0, files=20, threads=30, disk=1.0)


def row(**changes: Any) -> Row:
    """One that has held."""
    seen = Seen([0.1, 0.3], [QUIET, replace(QUIET, mib=600.0, disk=20.0)])
    usual = {
        **{"family": "slow", "name": "bodies", "what": "Slow bodies.", "tally": Tally(Counter({"408": 3}))},
        **{"seconds": 4.0, "seen": seen, "before": QUIET, "after": QUIET},
        **{"meanwhile": Served("answered", 2.0), "afterwards": Served("answered", 1.0)},
    }
    return Row(**(usual | changes))


def test_a_request_is_what_a_browser_would_send_unless_said_otherwise() -> None:
    target = Target(7860)
    plain = request(target, "GET", "/")
    assert plain.startswith(b"GET / HTTP/1.1\r\nHost: 127.0.0.1:7860\r\nCookie: shortcut-gen=aaaa")
    assert plain.endswith(b"\r\n\r\n")
    bent = request(target, "POST", "/x", {"Host": "evil.example", "Cookie": ""}, b"body")
    assert bent == b"POST /x HTTP/1.1\r\nHost: evil.example\r\nContent-Length: 4\r\n\r\nbody"


def test_an_answer_is_told_from_what_comes_before_it() -> None:
    assert status_of(b"HTTP/1.1 100 Continue\r\n\r\n") is None
    assert status_of(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 413 \r\n") == "413"
    assert status_of(b"HTTP/1.") is None


def test_large_uploads_are_made_while_they_are_sent() -> None:
    assert sum(map(len, sound(2**20))) == 2**20 + len(next(sound(0))) + len(list(sound(0))[-1])
    endless = sound(2**60)  # would not fit anywhere
    assert [len(next(endless)) for _ in range(3)][1:] == [65536, 65536]
    assert b"".join(chunked(iter([b"abc", b"d" * 16]))) == b"3\r\nabc\r\n10\r\n" + b"d" * 16 + b"\r\n0\r\n\r\n"
    assert b"".join(chunked(iter([b"abc"]), ends=False)) == b"3\r\nabc\r\n"


def test_a_path_is_spelt_in_every_way_and_its_bytes_are_known_again() -> None:
    spelt = list(tricks("/etc/passwd"))
    assert len(set(spelt)) == len(spelt) > 20
    for part in ("../", "%2e%2e", "%252e", "\\", "%00", "file://", "//"):
        assert any(part in each for each in spelt), part
    secrets = {"/etc/passwd": b"root:", "/else/where": b"mark"}
    asked = list(addresses(secrets, "/up/planted.mid"))
    assert max(map(len, asked)) > 20_000
    assert any(each.startswith("/gradio_api/file=") and "planted" in each for each in asked)
    assert leaked(secrets, b"abc root:x:0:0") == "/etc/passwd"
    assert leaked(secrets, b"nothing") == ""
    assert not outside(b'["/tmp/server/uploads/abc/....x.mid"]')
    assert outside(b'["/tmp/server/uploads/abc/../../x.mid"]') and outside(b'["/tmp/x.mid"]')


def test_answers_that_should_not_be_are_faults() -> None:
    assert Tally(Counter({"413": 2, CLOSED: 1})).allow("413", CLOSED).faults == []
    assert Tally(Counter({"413": 2, "200": 1})).allow("413").faults == ["1 were answered 200, none should be"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, ""),
        ({"tally": Tally(faults=["gave bytes of /etc/passwd"])}, "gave bytes"),
        ({"meanwhile": Served("refused", 1.0, "busy")}, "a visitor meanwhile: refused, busy"),
        ({"afterwards": Served("lost", 1.0)}, "a visitor afterwards: lost"),
        ({"seen": Seen([0.1, None], [QUIET])}, "GET / was not answered 1 times"),
        ({"seen": Seen([11.0], [QUIET])}, "GET / took 11.0 s"),
        ({"seen": Seen([], [])}, "GET / took nan"),
        ({"seen": Seen([0.1], [replace(QUIET, mib=2000.0)])}, "1500 MiB more memory"),
        ({"seen": Seen([0.1], [replace(QUIET, disk=900.0)])}, "899 MB more on the disk"),
        ({"after": replace(QUIET, mib=700.0)}, "200 MiB more memory afterwards"),
        ({"after": replace(QUIET, files=200)}, "180 more files afterwards"),
        ({"after": replace(QUIET, threads=200)}, "170 more threads afterwards"),
        ({"said": ["the log says 1 times: Traceback"]}, "Traceback"),
    ],
)
def test_what_has_not_held_is_said(changes: dict[str, Any], said: str) -> None:
    made = row(**changes)
    problems = made.problems(Bounds())
    assert [said in each for each in problems] == ([True] if said else [])
    assert made.cells(Bounds())[-1] == ("NOT HELD" if said else "held")
    assert made.to_dict(Bounds())["problems"] == problems


def test_the_log_is_read_for_faults_alone() -> None:
    text = "INFO: fine\nERROR: bad\nTraceback (most recent call last):\nERROR: bad\n"
    assert bad_lines(text) == [
        "the log says 2 times: ERROR: bad",
        "the log says 1 times: Traceback (most recent call last):",
    ]


def test_what_was_watched_may_end_in_half_a_line() -> None:
    seen = Seen()
    seen.read(iter(["[0.5, [600, 30, 40, 2.5]]\n", "[null, []]\n", "[0.7, [6"]))
    assert (seen.slowest, seen.unanswered, seen.most("mib"), seen.most("files")) == (0.5, 1, 600, 30)


def test_results_are_no_attackers_disk(tmp_path: Path) -> None:
    for name in ("shortcut-gen-a/results/b/c.wav", "shortcut-gen-a/uploads/tmpx", "shortcut-gen-a/temporary/y"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(bytes(100))
    assert stored(tmp_path) == 200


def test_each_attack_says_what_it_does() -> None:
    every = [each for family in SCENARIOS.values() for each in family]
    assert len(every) > 25
    for attack in every:
        assert attack.__doc__ and attack.__doc__.endswith(".")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="one address among several of this machine")
def test_sending_ends_with_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or two gigabytes would be sent to one who has refused them."""

    async def served(answer: bytes, ends: bool) -> Answer:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                await reader.read(1000)
                writer.write(answer)
                while not ends and await reader.read(2**16):
                    pass
            except ConnectionError:
                pass
            finally:
                writer.transport.abort() if not ends else writer.close()
                done.set()

        done = asyncio.Event()
        server = await asyncio.start_server(serve, "127.0.0.1")
        async with server:
            target = Target(server.sockets[0].getsockname()[1])
            head = request(target, "POST", "/", {"Content-Length": str(2**31)})
            got = await ask(target, head, whole([bytes(1000)] * (10**6 if answer else 10)), patience=2)
            await done.wait()
            await asyncio.sleep(0.05)  # what was closed is gone with the next turn
            return got

    refused = asyncio.run(served(b"HTTP/1.1 413 \r\nContent-Length: 3\r\n\r\nno!", ends=False))
    assert (refused.how, refused.body) == ("413", b"no!")
    assert refused.sent < 10**9
    assert asyncio.run(served(b"", ends=True)).how == CLOSED
    assert asyncio.run(served(b"", ends=False)).how == KEPT
    monkeypatch.setattr(sockets, "CONNECT_SECONDS", 1.0)
    assert asyncio.run(ask(Target(1), b"")).how == CLOSED  # nobody is there


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (
            ["--many", "0"],
            "error: many is 0, seconds 75, page_seconds 10; 1 to 1000, 1 to 600 and more than 0 are needed",
        ),
        (["--names", "nobody"], "error: names has 'nobody'; some of "),
    ],
)
def test_a_bad_setting_is_one_line(words: list[str], line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(hostile.main, hostile.arguments(words)) == 2
    err = capsys.readouterr().err
    assert err.startswith(line)
    assert err.count("\n") == 1
