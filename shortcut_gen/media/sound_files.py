"""What a sound file is before it is decoded: where it begins, what its header gets wrong, and how much it promises.

libsndfile is handed a stream without a name, so it knows an MP3 file by its first bytes alone; and it takes a length of
0, or one beyond the end, in some containers for an empty or a broken file. Both are mended here, in a view of the
stream: nothing is copied.
"""

import io
import re
import struct
from dataclasses import dataclass
from typing import BinaryIO, Literal

from shortcut_gen.files import SizedStream

_LOOKED_AT = 4096  # first bytes that tell the kind
_OGG_TAIL = 2 * 65_536  # a page has 65,307 bytes at most (RFC 3533)
_MPEG_WINDOW = 1 << 20  # bytes that are searched for the first frame of an MP3 file
_TAG = 128  # bytes behind the last frame that most files have (ID3v1)
_MPEG_HEAD = re.compile(rb"\xff[\xe2\xe3\xf2\xf3\xfa\xfb](?=[\x10-\xef])")  # sync, version, layer; a bitrate
_MOST_IDLE = 8  # windows without a frame, in which frames are looked for behind others
_MPEG_FRAMES = 3  # that must follow one another: what looks like one header is often none
_MPEG_RATES = (44_100, 48_000, 32_000)  # Hz, of MPEG-1; MPEG-2 has half and MPEG-2.5 a quarter (ISO 11172-3, 13818-3)
_MPEG_1 = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)  # kbit/s of layer III
_MPEG_2 = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
_MOST_CHUNKS = 4096
_NEAR = 1 << 16  # programs that write to a pipe give 2^32 or 2^31 bytes, a little more or less
_VIDEOS = {
    b"\x1aE\xdf\xa3": "a Matroska or WebM video",
    b"FLV": "a Flash video",
    b"\x00\x00\x01\xba": "an MPEG video",
    b"0&\xb2u": "a Windows Media file",
}


@dataclass(frozen=True, kw_only=True)
class Header:
    """What is to be known of a sound file besides what libsndfile says of it."""

    start: int = 0
    """Where the sound file begins in the stream, in bytes."""
    prefix: bytes = b""
    """What is to be read before it."""
    patch: tuple[int, bytes] = (0, b"")
    """Bytes that are to be read in place of the file's own, and where, counted from its start."""
    said: int = 0
    """Bytes of sound that the header promises; 0 where it does not say."""
    there: int = 0
    """Bytes of sound that there are."""
    broken_off: bool = False
    """Whether the part that ends such a file is missing, where how much is missing cannot be told."""
    counts: Literal["whole", "there", "guess"] = "there"
    """What libsndfile's number of samples counts: those of the whole file, those that are there, or neither: it is
    estimated from the size of the file."""

    @property
    def cut(self) -> bool:
        """Whether there is less than the header promises."""
        return self.broken_off or self.said > self.there


class View(SizedStream):
    """A stream as libsndfile is to see it: from some byte on, and with some other bytes in its header.

    libsndfile takes an error of reading for the end of the file; it is kept, to be raised by whoever asks.
    """

    def __init__(self, stream: BinaryIO, header: Header) -> None:
        self._stream, self._header = stream, header
        self._size = len(header.prefix) + stream.seek(0, io.SEEK_END) - header.start
        self.error: OSError | None = None

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # any buffer, in io's own words
        """As io has it, but for an error, which ends the file."""
        prefix, (place, patch) = self._header.prefix, self._header.patch
        data = prefix[self._at : self._at + len(buffer)]
        try:
            self._stream.seek(self._header.start + max(self._at - len(prefix), 0))
            data += self._stream.read(len(buffer) - len(data))
        except OSError as error:
            self.error = error
            return 0
        place += len(prefix)
        first, last = max(place, self._at), min(place + len(patch), self._at + len(data))
        if first < last:
            data = data[: first - self._at] + patch[first - place : last - place] + data[last - self._at :]
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)


def look(stream: BinaryIO, lost: bool = False) -> Header:
    """What a sound file's own bytes say. lost: libsndfile does not know it, so look for an MP3 further on, too.

    Raises OSError.
    """
    size = stream.seek(0, io.SEEK_END)
    start = _at(stream, 0, _LOOKED_AT)
    if start[:4] == b"OggS":
        return Header(broken_off=not _ogg_ends(_at(stream, max(size - _OGG_TAIL, 0), _OGG_TAIL)))
    if start[:4] == b".snd":
        return _snd(start, size)
    for layout in _LAYOUTS:
        if layout.fits(start):
            return layout.header(stream, size)
    if lost or start[:3] == b"ID3" or _mpeg_bytes(start[:4]):
        return _mpeg(stream, start)
    return Header(counts="whole" if start[:4] == b"fLaC" else "there")


def other_kind(start: bytes) -> str:
    """What a file is by its first bytes, if it is one of those often taken for sound; else ""."""
    if start[4:8] in (b"ftyp", b"moov", b"mdat", b"wide"):
        return "an MP4 or QuickTime file (a video, or AAC sound)"
    if start[:4] == b"RIFF" and start[8:12] == b"AVI ":
        return "an AVI video"
    for magic, kind in _VIDEOS.items():
        if start.startswith(magic):
            return kind
    return "text" if _is_text(start) else ""


def _is_text(start: bytes) -> bool:
    if not start or any(byte < 32 and byte not in b"\t\n\r\f\x1b" for byte in start):
        return False
    try:
        start.decode()
    except UnicodeDecodeError as error:
        return error.start > len(start) - 4  # a character cut in two by the end of what was looked at
    return True


def _at(stream: BinaryIO, place: int, count: int) -> bytes:
    stream.seek(place)
    return stream.read(count)


@dataclass(frozen=True, kw_only=True)
class _Layout:
    """A container of chunks, each a name, a length and so many bytes."""

    magic: tuple[bytes, ...]
    kinds: tuple[bytes, ...] = (b"",)
    """What stands in bytes 8 to 11."""
    first: int
    """Where the first chunk begins."""
    length: str
    """Of a chunk, as struct has it."""
    sound: bytes
    """Name of the chunk that holds the samples."""
    align: int
    """Chunks begin at multiples of so many bytes from one another."""
    whole: bool = False
    """Whether a length counts the name and itself."""
    exact: bool = False
    """Whether libsndfile refuses a length beyond the end of the file."""

    def fits(self, start: bytes) -> bool:
        """Whether a file begins so."""
        return start.startswith(self.magic) and start[8:12].startswith(self.kinds)

    def header(self, stream: BinaryIO, size: int) -> Header:
        """By the chunk of samples; the plain one where there is none."""
        width = struct.calcsize(self.length)
        fixed = len(self.sound) + width
        at, long = self.first, (0, 0)  # of RF64: where the true length stands, and what it is
        for _ in range(_MOST_CHUNKS):
            head = _at(stream, at, fixed)
            if len(head) < fixed:
                break
            length: int = struct.unpack(self.length, head[-width:])[0] - (fixed if self.whole else 0)
            body = at + fixed
            if head[:-width] == self.sound:
                place, form = (long[0], "<Q") if long[0] else (body - width, self.length)
                follows = _at(stream, body, 4 + width)
                return self._sound(long[1] if long[0] else length, size - body, follows).patched(place, form)
            if head[:4] == b"ds64" and len(sizes := _at(stream, body, 16)) == 16:  # EBU Tech 3306
                long = (body + 8, struct.unpack("<8xQ", sizes)[0])
            at = body + max(length, 0) + (-length % self.align)
        return Header()

    def _sound(self, length: int, rest: int, follows: bytes) -> "_Sound":
        """What the chunk of samples says, and what is there of it."""
        if length <= 0 and (not rest or _is_chunk(follows, rest, self.length)):
            return _Sound(0, 0)  # without a sample
        open_end = length <= 0 or (length > rest and (length >= 1 << 62 or _is_a_pipes(length)))
        wrong = (length == 0 and not self.whole) or (self.exact and not 0 < length <= rest)
        return _Sound(0 if open_end else length, rest, wrong)


@dataclass(frozen=True, slots=True)
class _Sound:
    """The chunk of samples."""

    said: int
    there: int
    wrong: bool = False
    """Whether libsndfile would not read it."""

    def patched(self, place: int, form: str) -> Header:
        """The header; its length, which stands at a place in a form that struct has, is set right if need be."""
        if not self.wrong:
            return Header(said=self.said, there=self.there)
        length = min(self.there, (1 << 8 * struct.calcsize(form)) - 1)
        return Header(patch=(place, struct.pack(form, length)), said=self.said, there=self.there)


def _is_a_pipes(length: int) -> bool:
    """Whether a length is one that stands for "not known"."""
    return any(abs(length - whole) <= _NEAR for whole in (1 << 31, 1 << 32))


def _is_chunk(head: bytes, rest: int, length: str) -> bool:
    """Whether a chunk begins so and ends in the rest of the file."""
    size = struct.calcsize(length)
    if len(head) < 4 + size or not all(32 <= byte < 127 for byte in head[:4]):
        return False
    return bool(struct.unpack(length, head[4 : 4 + size])[0] + 4 + size <= rest)


_W64 = bytes.fromhex("2e91cf11a5d628db04c10000"), bytes.fromhex("f3acd3118cd100c04f8edb8a")  # of its GUIDs
_LAYOUTS = (
    _Layout(magic=(b"RIFF", b"RF64", b"BW64"), kinds=(b"WAVE",), first=12, length="<I", sound=b"data", align=2),
    _Layout(magic=(b"FORM",), kinds=(b"AIFF", b"AIFC"), first=12, length=">I", sound=b"SSND", align=2),
    _Layout(magic=(b"caff",), first=8, length=">q", sound=b"data", align=1, exact=True),
    _Layout(magic=(b"riff" + _W64[0],), first=40, length="<q", sound=b"data" + _W64[1], align=8, whole=True),
)


def _snd(start: bytes, size: int) -> Header:
    """Of an AU file: magic, where the samples begin, how many bytes of them, 2^32 - 1 for "not known"."""
    if len(start) < 12:
        return Header()
    begin, length = struct.unpack(">II", start[4:12])
    rest = max(size - begin, 0)
    if length == 0 and rest:
        return Header(patch=(8, b"\xff" * 4), there=rest)
    return Header(said=0 if length == (1 << 32) - 1 else length, there=rest)


def _ogg_ends(tail: bytes) -> bool:
    """Whether the last page is whole and says that it is the last of its stream (RFC 3533, section 6)."""
    at = tail.rfind(b"OggS")
    page = tail[at:] if at >= 0 else b""
    if len(page) < 27 or not page[5] & 4:
        return False
    table = page[27 : 27 + page[26]]
    return len(table) == page[26] and len(page) >= 27 + len(table) + sum(table)


def _mpeg(stream: BinaryIO, start: bytes) -> Header:
    """Of an MP3 file: from its first frame on, whatever stands before."""
    places = [0]
    if start[:3] == b"ID3" and len(start) >= 10:
        size = 0
        for byte in start[6:10]:  # 28 bits, 7 a byte (id3.org, ID3v2.4, section 3.1)
            size = size << 7 | byte & 127
        places.insert(0, 10 + size)
    for place in places:
        data = _at(stream, place, _MPEG_WINDOW)
        if (first := _first_frame(data)) is not None:
            at = place + first
            frame = data[first : first + _mpeg_bytes(data[first : first + 4])]
            return _xing(stream, at, frame) or Header(
                start=at, prefix=_count_frame(frame, _frames(stream, at)), counts="guess"
            )
    return Header()


def _xing(stream: BinaryIO, start: int, frame: bytes) -> Header | None:
    """By a first frame that says how many follow, and how many bytes: "Xing" or "Info", flags, frames, bytes; None
    where it does not.

    libmpg123 complains where the bytes are others, and reads no further where there are more frames, as in files that
    were put one behind the other: they are set right.
    """
    at = max(frame.find(b"Xing"), frame.find(b"Info"))
    if at < 0 or len(frame) < at + 16 or frame[at + 7] & 3 != 3:
        return None
    there = stream.seek(0, io.SEEK_END) - start
    frames, said = (int.from_bytes(frame[at + place : at + place + 4]) for place in (8, 12))
    if there - said > _TAG and (found := _frames(stream, start)) > frames + 2:
        frames = found
    patch = frames.to_bytes(4) + min(there, (1 << 32) - 1).to_bytes(4)
    return Header(start=start, counts="whole", patch=(at + 8, patch), said=said, there=there)


def _count_frame(first: bytes, count: int) -> bytes:
    """A frame of the kind of a file's first, to be put before it, which says how many follow.

    Without one libmpg123 estimates, and libsndfile reads no further.
    """
    head = bytes([0xFF, first[1] | 1, first[2] & 12 | 0x90, first[3]])  # no checksum, 128 or 80 kbit/s
    side = {(True, False): 32, (True, True): 17, (False, False): 17, (False, True): 9}  # bytes before the tag
    skip = side[first[1] >> 3 & 3 == 3, first[3] >> 6 == 3]
    return (head + bytes(skip) + b"Xing" + (1).to_bytes(4) + count.to_bytes(4)).ljust(_mpeg_bytes(head), b"\0")


def _frames(stream: BinaryIO, at: int) -> int:
    """How many frames of MPEG layer III there are from a place on."""
    count = idle = 0
    while idle < _MOST_IDLE and (data := _at(stream, at, _MPEG_WINDOW)):
        place = 0 if _mpeg_bytes(data[:4]) else _first_frame(data)
        if place is None:
            idle += 1
            place = len(data) if len(data) < _MPEG_WINDOW else len(data) - _LOOKED_AT
        while length := _mpeg_bytes(data[place : place + 4]):
            place += length
            count += 1
        at += place
    return count


def _first_frame(data: bytes) -> int | None:
    """Where frames of MPEG layer III begin that follow one another."""
    for match in _MPEG_HEAD.finditer(data):
        at = place = match.start()
        for _ in range(_MPEG_FRAMES):
            length = _mpeg_bytes(data[place : place + 4])
            if not length or data[place + 1] & 0xFE != data[at + 1] & 0xFE or (data[place + 2] ^ data[at + 2]) & 12:
                break
            place += length
        else:
            return at
    return None


def _mpeg_bytes(head: bytes) -> int:
    """Length of the frame of MPEG layer III that begins with these 4 bytes; 0 where none does."""
    if len(head) < 4 or head[0] != 0xFF or head[1] >> 5 != 7:
        return 0
    version, layer, bitrate, rate = head[1] >> 3 & 3, head[1] >> 1 & 3, head[2] >> 4, head[2] >> 2 & 3
    if version == 1 or layer != 1 or bitrate in (0, 15) or rate == 3:
        return 0
    kbits, words = (_MPEG_1[bitrate], 144) if version == 3 else (_MPEG_2[bitrate], 72)
    hertz = _MPEG_RATES[rate] >> {3: 0, 2: 1, 0: 2}[version]
    return words * 1000 * kbits // hertz + (head[2] >> 1 & 1)
