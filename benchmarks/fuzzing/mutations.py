"""Damage: bytes and JSON changed by chance, the same for the same seed."""

import json
import random
from typing import Any

NUMBERS = (0, 1, -1, 2, 7, 127, 128, 255, 256, 65535, 2**31 - 1, 2**31, 2**32 - 1, 2**63, 10**30, 0.5, 1e308, -1e-320)
VALUES: tuple[Any, ...] = (
    *NUMBERS, None, True, False, "", "x", "0", "../../etc/passwd", "/dev/zero", "a\0b", "\ud800", "é" * 70, [], {},
    [[]], [0] * 50, {"": {"": None}}, float("nan"), float("inf"),
)  # fmt: skip
WORDS = (
    b"\x00",
    b"\xff",
    b"\x7f",
    b"\x80",
    b"\xff\xff\xff\xff",
    b"\x00\x00\x00\x00",
    b"\x7f\xff\xff\xff",
    b"\x80\x00\x00\x00",
)


def damaged(data: bytes, other: bytes, chance: random.Random) -> bytes:
    """A few changes to bytes. other: a second input, pieces of which may be put in."""
    changed = bytearray(data)
    for _ in range(chance.choice((1, 1, 1, 2, 3, 5, 9))):
        change = chance.choice((_flip, _flip, _word, _word, _drop, _double, _cut, _graft, _noise))
        change(changed, other, chance)
        if not changed:
            break
    return bytes(changed)


def _flip(data: bytearray, _: bytes, chance: random.Random) -> None:
    at = _place(data, chance)
    data[at] ^= 1 << chance.randrange(8)


def _word(data: bytearray, _: bytes, chance: random.Random) -> None:
    at, word = _place(data, chance), chance.choice(WORDS)
    data[at : at + len(word)] = word


def _drop(data: bytearray, _: bytes, chance: random.Random) -> None:
    at = _place(data, chance)
    del data[at : at + chance.choice((1, 2, 4, 16, 256))]


def _double(data: bytearray, _: bytes, chance: random.Random) -> None:
    at = _place(data, chance)
    piece = data[at : at + chance.choice((1, 4, 32, 500))]
    data[at:at] = piece * chance.choice((1, 1, 2, 50))


def _cut(data: bytearray, _: bytes, chance: random.Random) -> None:
    del data[_place(data, chance) :]


def _graft(data: bytearray, other: bytes, chance: random.Random) -> None:
    start, at = chance.randrange(len(other) or 1), _place(data, chance)
    data[at:at] = other[start : start + chance.choice((4, 40, 400))]


def _noise(data: bytearray, _: bytes, chance: random.Random) -> None:
    at = _place(data, chance)
    data[at : at + 16] = chance.randbytes(chance.choice((1, 16, 64)))


def _place(data: bytearray, chance: random.Random) -> int:
    """Mostly anywhere, often near the start, where headers are."""
    return chance.randrange(min(len(data), 64)) if chance.random() < 0.4 else chance.randrange(len(data))


def damaged_json(text: bytes, chance: random.Random) -> bytes:
    """A JSON document with some of its values changed, dropped or given twice; now and then its bytes."""
    if chance.random() < 0.25:
        return damaged(text, text, chance)
    document = json.loads(text)
    for _ in range(chance.choice((1, 1, 1, 2, 4))):
        document = _changed(document, chance)
    out = json.dumps(document)
    if chance.random() < 0.05:
        depth = chance.choice((50, 1000, 100_000))
        out = out.replace("null", "[" * depth + "]" * depth, 1) if "null" in out else "[" * depth + out + "]" * depth
    return out.encode("utf-8", "surrogatepass")


def _changed(value: Any, chance: random.Random) -> Any:
    """One value somewhere in a document is another one."""
    if isinstance(value, dict) and value and chance.random() < 0.9:
        key, kind = chance.choice(list(value)), chance.random()
        if kind < 0.15:
            return {name: each for name, each in value.items() if name != key}
        if kind < 0.25:
            return value | {chance.choice(("extra", key.upper(), "__class__")): value[key]}
        return value | {key: _changed(value[key], chance)}
    if isinstance(value, list) and value and chance.random() < 0.8:
        at, kind = chance.randrange(len(value)), chance.random()
        if kind < 0.2:
            return [*value[:at], *value[at + 1 :]]
        if kind < 0.3:
            return value + [value[at]] * chance.choice((1, 3000))
        return [*value[:at], _changed(value[at], chance), *value[at + 1 :]]
    if isinstance(value, int | float) and not isinstance(value, bool) and chance.random() < 0.5:
        return chance.choice((value + 1, value - 1, -value, value * 1000, float(value), str(value)))
    return chance.choice(VALUES)
