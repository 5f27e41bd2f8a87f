"""MIDI files written byte by byte, so that tests can also write wrong ones."""

from collections.abc import Sequence

DIVISION = 480  # ticks a quarter note; at 120 a minute a tick is 1/960 s
END = b"\x00\xff\x2f\x00"
TICK = 0.5 / DIVISION


def length(value: int) -> bytes:
    """A variable-length number."""
    out = [value & 0x7F]
    while value := value >> 7:
        out.append(value & 0x7F | 0x80)
    return bytes(reversed(out))


def on(delta: int, pitch: int, velocity: int = 64, channel: int = 0) -> bytes:
    return length(delta) + bytes([0x90 | channel, pitch, velocity])


def off(delta: int, pitch: int, channel: int = 0) -> bytes:
    return length(delta) + bytes([0x80 | channel, pitch, 64])


def control(delta: int, controller: int, value: int, channel: int = 0) -> bytes:
    return length(delta) + bytes([0xB0 | channel, controller, value])


def pedal(delta: int, value: int, channel: int = 0) -> bytes:
    return control(delta, 64, value, channel)


def program(delta: int, number: int, channel: int = 0) -> bytes:
    return length(delta) + bytes([0xC0 | channel, number])


def tempo(delta: int, microseconds: int) -> bytes:
    return length(delta) + b"\xff\x51\x03" + microseconds.to_bytes(3, "big")


def meta(delta: int, kind: int, data: bytes) -> bytes:
    return length(delta) + bytes([0xFF, kind]) + length(len(data)) + data


def chunk(name: bytes, data: bytes) -> bytes:
    return name + len(data).to_bytes(4, "big") + data


def file(*tracks: bytes, kind: int = 1, division: int | bytes = DIVISION, end: bytes = END) -> bytes:
    """A file of tracks, each given an end-of-track."""
    if isinstance(division, int):
        division = division.to_bytes(2, "big")
    header = kind.to_bytes(2, "big") + len(tracks).to_bytes(2, "big") + division
    return chunk(b"MThd", header) + b"".join(chunk(b"MTrk", track + end) for track in tracks)


def riff(kind: bytes, chunks: Sequence[tuple[bytes, bytes]]) -> bytes:
    body = kind
    for name, data in chunks:
        body += name + len(data).to_bytes(4, "little") + data + b"\x00" * (len(data) % 2)
    return b"RIFF" + len(body).to_bytes(4, "little") + body
