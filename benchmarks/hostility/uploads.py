"""Uploads that end too early, never, or are none; and those of two gigabytes, which are made while they are sent."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from itertools import repeat

from benchmarks.hostility.sockets import (
    API,
    CLOSED,
    Answer,
    Tally,
    Target,
    ask,
    asked,
    connect,
    drop,
    request,
    whole,
)

BOUNDARY = "hostile"
TYPE = f"multipart/form-data; boundary={BOUNDARY}"
PIECE = bytes(range(256)) * 256  # 64 KiB
REFUSED = ("400", "411", "413", "422", "429", "503", "507", CLOSED)
"""Where an upload is wrong."""
AT_ONCE = 3
"""As many as one client may send."""


def part(name: str = "a.mid", more: str = "", field: str = "files") -> bytes:
    """The beginning of a file in a form."""
    said = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{field}"; filename="{name}"\r\n{more}\r\n'
    return said.encode("utf-8", "surrogateescape")


END = f"\r\n--{BOUNDARY}--\r\n".encode()


def chunked(pieces: Iterator[bytes], ends: bool = True) -> Iterator[bytes]:
    """As chunks of HTTP/1.1. ends: with the last one."""
    for piece in pieces:
        yield b"%x\r\n%s\r\n" % (len(piece), piece)
    if ends:
        yield b"0\r\n\r\n"


def sound(size: int) -> Iterator[bytes]:
    """A form with a file of so many bytes, of which none is stored."""
    yield part("large.wav")
    yield from repeat(PIECE, size // len(PIECE))
    yield END


def _head(target: Target, path: str = f"{API}/upload", **headers: str) -> bytes:
    said = {"Content-Type": TYPE} | {name.replace("_", "-"): value for name, value in headers.items()}
    return request(target, "POST", path, said)


async def _cut(target: Target, reset: bool, after: int = 40) -> Answer:
    """Ten megabytes are announced, some come, and the connection ends."""
    try:
        _, writer = await connect(target)
    except (OSError, TimeoutError):
        return Answer(CLOSED)
    try:
        writer.write(_head(target, Content_Length=str(10 * 1024**2)) + part())
        for _ in range(after):
            writer.write(PIECE)
            await writer.drain()
    except OSError:
        pass
    finally:
        drop(writer, reset)
    return Answer("cut")


async def cut(target: Target) -> Tally:
    """Closed in the middle."""
    return await _in_threes([_cut(target, False) for _ in range(target.many // 5)])


async def reset(target: Target) -> Tally:
    """Reset in the middle."""
    return await _in_threes([_cut(target, True) for _ in range(target.many // 5)])


async def _in_threes(asking: list) -> Tally:  # type: ignore[type-arg]
    tally = Tally()
    for first in range(0, len(asking), AT_ONCE):
        some = await asked(asking[first : first + AT_ONCE])
        tally.answers += some.answers
        tally.megabytes += some.megabytes
        await asyncio.sleep(0.05)
    return tally


async def endless(target: Target) -> Tally:
    """Chunks, and no last one: then nothing more comes."""

    async def body() -> AsyncIterator[bytes]:
        for piece in chunked(iter([part(), PIECE]), ends=False):
            yield piece
        await asyncio.sleep(target.seconds)

    head = _head(target, Transfer_Encoding="chunked")
    tally = await _in_threes([ask(target, head, body(), target.seconds) for _ in range(9)])
    return tally.allow(*REFUSED, "408")


async def lengths(target: Target) -> Tally:
    """Lengths that are not those of what comes: more, less, none, negative, two of them, no number, chunks besides."""
    form = part() + PIECE + END
    said = [str(len(form) * 2), str(len(form) // 2), "0", "-1", "1e3", "9" * 40, "0x40", f"{len(form)}, 7"]
    heads = [_head(target, Content_Length=length) for length in said]
    heads.append(_head(target, Content_Length=str(len(form)), Transfer_Encoding="chunked"))
    heads.append(_head(target, Transfer_Encoding="gzip, chunked"))
    twice = _head(target, Content_Length="5")
    heads.append(twice.replace(b"Content-Length: 5", b"Content-Length: 5\r\nContent-Length: %d" % len(form)))
    tally = await _in_threes([ask(target, head, whole([form]), target.seconds) for head in heads])
    return tally.allow(*REFUSED, "408", "501", "200")  # a form that ends early is one without a file, as below


async def forms(target: Target) -> Tally:
    """Forms that are none: no boundary, another one, no end, headers and names of a megabyte, boundaries alone."""
    form = part() + PIECE + END
    long = "a" * 2**20
    bodies = [
        (TYPE.partition(";")[0], form),
        (f"{TYPE}x", form),
        (f"multipart/form-data; boundary={'b' * 5000}", form),
        ("text/plain", form),
        ("application/json", b"{}"),
        (TYPE, part() + PIECE),
        (TYPE, b""),
        (TYPE, b"\r\n" * 2**19),
        (TYPE, PIECE * 16),
        (TYPE, part(more=f"X: {long}\r\n") + END),
        (TYPE, part(more="X: y\r\n" * 2**17) + END),
        (TYPE, part(field=long) + END),
        (TYPE, b"--" * 2**19),
        (TYPE, (f"--{BOUNDARY}\r\n".encode()) * 2**15),
    ]
    asking = []
    for kind, body in bodies:
        head = _head(target, Content_Type=kind, Content_Length=str(len(body)))
        asking.append(ask(target, head, whole([body]), target.seconds))
    # Gradio takes a form in which no file is, or whose last part has no end, for one of no files.
    return (await _in_threes(asking)).allow(*REFUSED, "408", "200")


async def parts(target: Target) -> Tally:
    """Forms of thousands of files and of fields."""
    field = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="a"\r\n\r\nb\r\n'.encode()
    asking = []
    for body in ((part() + b"a\r\n") * 5000 + END, field * 50_000 + END, (part("") + b"\r\n") * 5000 + END):
        head = _head(target, Content_Length=str(len(body)))
        asking += [ask(target, head, whole([body]), target.seconds) for _ in range(3)]
    return (await _in_threes(asking)).allow(*REFUSED, "408")


async def large(target: Target) -> Tally:
    """Files of two gigabytes that say so."""
    head = _head(target, Content_Length=str(target.large))
    tally = await _in_threes([ask(target, head, whole(sound(target.large)), 600) for _ in range(2 * AT_ONCE)])
    return _early(tally.allow("413", CLOSED), 6)


async def large_chunked(target: Target) -> Tally:
    """The same in chunks, which do not say how many there are."""
    head = _head(target, Transfer_Encoding="chunked")
    tally = await _in_threes([ask(target, head, whole(chunked(sound(target.large))), 600) for _ in range(2 * AT_ONCE)])
    return _early(tally.allow("413", CLOSED), 6 * 100)


async def large_json(target: Target) -> Tally:
    """JSON of two gigabytes, one that says so and one in chunks, where a few hundred bytes are wanted."""

    def pieces() -> Iterator[bytes]:
        return repeat(b"[" * len(PIECE), target.large // len(PIECE))

    asking = []
    for path in (f"{API}/queue/join", f"{API}/run/predict", f"{API}/call/continue_midi", f"{API}/cancel"):
        said = {"Content-Type": "application/json"}
        head = request(target, "POST", path, said | {"Content-Length": str(target.large)})
        asking.append(ask(target, head, whole(pieces()), 600))
        head = request(target, "POST", path, said | {"Transfer-Encoding": "chunked"})
        asking.append(ask(target, head, whole(chunked(pieces())), 600))
    tally = await _in_threes(asking)
    return _early(tally.allow("403", "404", "413", CLOSED), 100)


def _early(tally: Tally, megabytes: float) -> Tally:
    """Whether they were refused before more than so much was taken of them; buffers on the way take some."""
    if tally.megabytes > megabytes + 8 * tally.sent:
        tally.faults.append(f"{tally.megabytes:.0f} MB were taken before they were refused")
    return tally


SCENARIOS = (cut, reset, endless, lengths, forms, parts, large, large_chunked, large_json)
