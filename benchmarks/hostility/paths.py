"""Addresses that lead out of what is served: no answer may hold bytes of a file outside."""

import asyncio
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import quote

from benchmarks.hostility.sockets import API, Answer, Tally, Target, ask, request, whole
from benchmarks.hostility.uploads import END, TYPE, part

SERVING = (
    *("/", "/file=", "/file/", "/static/", "/assets/", "/svelte/", "/results/", "/live/", "/notes/", "/why/"),
    *("/keyboard/", "/alive/", f"/results/{'a' * 32}/", f"/results/{'a' * 32}/take.mid/"),
    *(f"{API}/file=", f"{API}/file/", f"{API}/stream/", f"{API}/static/", f"{API}/assets/", f"{API}/custom_component/"),
    *(f"{API}/proxy=", f"{API}/download/", f"{API}/upload/", f"{API}/media/", "/proxy=", "/custom_component/"),
)
"""Addresses behind which files are served here or in Gradio."""
AT_ONCE = 8


def tricks(path: str) -> Iterator[str]:
    """Spellings of an absolute path that may lead to it from a folder of anyone's."""
    bare = path.lstrip("/")
    for up in (
        "../",
        "..%2f",
        "%2e%2e/",
        "%2e%2e%2f",
        "%252e%252e%252f",
        "..\\",
        "..%5c",
        "....//",
        "..;/",
        "%c0%ae%c0%ae/",
    ):
        yield up * 12 + bare
        yield "a/" + up * 12 + bare
    yield from (path, f"/{path}", f"//{path}", quote(path, safe=""), f"file://{path}", f"http://127.0.0.1{path}")
    yield from (f"{path}%00.mid", f"a.mid%00{path}", f"{path}%0a", f".{path}", f"~{path}", f"{path}/.", f"{path}%20")
    yield from (f"\\\\127.0.0.1\\c$\\{bare}", f"C:{path}", f"/proc/self/root{path}", f"/dev/fd/0/../..{path}")


def addresses(secrets: Mapping[str, bytes], planted: str) -> Iterator[str]:
    """All of them: of each way to serve files to each secret, and some that are very long. planted: a link to one."""
    for base in SERVING:
        for path in secrets:
            yield from (base + trick for trick in tricks(path))
        yield from (base + planted, base + "a" * 30_000, base + "../" * 5_000 + "etc/passwd", base + "%00", base + "%")


def leaked(secrets: Mapping[str, bytes], body: bytes) -> str:
    """The file of which a body holds bytes; "" where it holds none."""
    return next((path for path, secret in secrets.items() if secret in body), "")


def outside(body: bytes) -> bool:
    """Whether an upload was put elsewhere than in a folder of its own, by what is answered to it."""
    paths = [Path(each) for each in json.loads(body)]
    return not all(".." not in each.parts and each.parent.parent.name == "uploads" for each in paths)


async def reads(target: Target) -> Tally:
    """Each address by GET, and a third of them by HEAD with a range, to /proc, the checkpoints and our own sources."""
    tally, places = Tally(), asyncio.Queue[tuple[str, str]]()
    planted = next((path for path in target.secrets if path.endswith("planted.mid")), "")
    for number, address in enumerate(addresses(target.secrets, planted)):
        places.put_nowait(("GET", address))
        if number % 3 == 0:
            places.put_nowait(("HEAD", address))

    async def work(worker: int) -> None:
        number = worker
        while not places.empty():
            method, address = places.get_nowait()
            number += AT_ONCE
            # Each of some hundred addresses is a client of its own: what is asked is to be looked at, not counted.
            mine = Target(target.port, source=f"127.0.7.{number // 400 % 250 + 1}")
            answer = await ask(mine, request(mine, method, address, {"Connection": "close"}), None, 60, 2**22)
            _note(tally, target, f"{method} {address[:80]}", answer)

    await asyncio.gather(*(work(each) for each in range(AT_ONCE)))
    return tally


def _note(tally: Tally, target: Target, what: str, answer: Answer) -> None:
    tally.answers[answer.how] += 1
    if path := leaked(target.secrets, answer.body):
        tally.faults.append(f"{what} gave bytes of {path}")
    if answer.how.startswith("5") or answer.how == "kept":
        tally.faults.append(f"{what} was answered {answer.how}")


async def names(target: Target) -> Tally:
    """Uploads whose file is named by a path that leads elsewhere; and prompts that are to be read at such paths."""
    tally = Tally()
    some = (
        "../../x.mid",
        "/tmp/hostile.mid",
        "..\\..\\x.mid",
        "%2e%2e%2fx.mid",
        "a\0b.mid",
        ".",
        "..",
        "",
        "a" * 5000,
        "con",
    )
    for name in some:
        body = part(name) + b"MThd" + END
        head = request(target, "POST", f"{API}/upload", {"Content-Type": TYPE, "Content-Length": str(len(body))})
        answer = await ask(target, head, whole([body]), 60)
        _note(tally, target, f"an upload named {name[:40]!r}", answer)
        if answer.how == "200" and outside(answer.body):
            tally.faults.append(f"an upload named {name[:40]!r} was put at {answer.body[:200]!r}")
    for path in target.secrets:
        for spelt in (path, f"file://{path}", f"http://{target.name}{API}/file={path}", f"http://127.0.0.1:1{path}"):
            value = {"path": spelt, "meta": {"_type": "gradio.FileData"}}
            body = json.dumps({"midi": value}).encode()
            mine = request(target, "POST", f"{API}/call/v2/continue_midi", {"Cookie": ""}, body)
            answer = await ask(target, mine, None, 60)
            _note(tally, target, f"a prompt at {spelt[:60]}", answer)
            if answer.how == "200":
                tally.faults.append(f"a prompt at {spelt[:60]} was taken")
    return tally


SCENARIOS = (reads, names)
