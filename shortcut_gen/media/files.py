"""Scores and sound read from files, whatever their names say."""

import contextlib
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile

from shortcut_gen.errors import MediaError
from shortcut_gen.files import reason
from shortcut_gen.media.midi import MAX_EVENTS
from shortcut_gen.media.scores import MAX_MIDI_BYTES, parse_score
from shortcut_gen.media.types import Audio, Score

MAX_AUDIO_BYTES = 1024 * 1024 * 1024
"""A larger sound file is refused before it is read."""
MAX_PROMPT_AUDIO_SECONDS = 600.0
"""A longer recording is refused where not told how much of its start to read."""
MAX_AUDIO_VALUES = 256 * 1024 * 1024
"""Samples of all channels that are read at most: 1 GB of them."""
_BLOCK = 1 << 20  # samples read at a time: a header may promise more than there is
_VIDEOS = {
    b"\x1aE\xdf\xa3": "a Matroska or WebM video",
    b"FLV": "a Flash video",
    b"\x00\x00\x01\xba": "an MPEG video",
    b"0&\xb2u": "a Windows Media file",
}


@contextlib.contextmanager
def _opened(path: Path, limit: int) -> Iterator[BinaryIO]:
    """A regular file of a sensible size, open to read."""
    try:
        if path.is_dir():
            raise MediaError(f"{path} is a folder; a file is needed")
        if path.exists() and not path.is_file():
            raise MediaError(f"{path} is not a regular file")
        size = path.stat().st_size
        if size > limit:
            raise MediaError(f"{path} has {size:,} bytes; at most {limit:,} are read")
        if not size:
            raise MediaError(f"{path} is empty")
        with path.open("rb") as file:
            yield file
    except (OSError, ValueError) as error:
        why = reason(error) if isinstance(error, OSError) else str(error)
        raise MediaError(f"{path} cannot be read: {why}") from error


def _read_bytes(path: Path, limit: int) -> bytes:
    """The bytes of a regular file of a sensible size."""
    with _opened(path, limit) as file:
        return file.read()


def read_score(path: str | os.PathLike[str], most_events: int = MAX_EVENTS) -> Score:
    """The notes of a MIDI file, as `parse_score` has them. Raises MediaError on anything else."""
    path = Path(path)
    return parse_score(_read_bytes(path, MAX_MIDI_BYTES), str(path), most_events)


def read_audio(path: str | os.PathLike[str], seconds: float | None = None) -> Audio:
    """The samples of a sound file (WAV, FLAC, Ogg, MP3): its first `seconds`, or all of it.

    Raises MediaError on anything else, and where there are more than MAX_PROMPT_AUDIO_SECONDS and no `seconds`.
    Floating-point sound that is louder than 1 is scaled down to it.
    """
    path = Path(path)
    with _opened(path, MAX_AUDIO_BYTES) as file:
        return _audio(file, path, seconds, "no sound file")


def read(path: str | os.PathLike[str], seconds: float | None = None) -> Score | Audio:
    """A score or a sound file, told apart by content, whatever the name says. Raises MediaError.

    seconds: how much of the start of a sound file to read, as in read_audio; a score is read whole.
    """
    path = Path(path)
    with _opened(path, MAX_AUDIO_BYTES) as file:
        if not is_midi(file.read(12)):
            return _audio(file, path, seconds, "neither a MIDI file nor a sound file")
    return read_score(path)


def is_midi(start: bytes) -> bool:
    """Whether a file that begins with these 12 bytes says that it is a MIDI file."""
    return start[:4] == b"MThd" or (start[:4] == b"RIFF" and start[8:12] == b"RMID")


def _audio(file: BinaryIO, path: Path, seconds: float | None, complaint: str) -> Audio:
    """The samples of an open file, or one line on what else it is."""
    file.seek(0)
    start = file.read(4096)
    file.seek(0)
    if kind := _other_kind(start):
        raise MediaError(f"{path} is {kind}, {complaint} that can be read (WAV, FLAC, Ogg and MP3 can)")
    try:
        with soundfile.SoundFile(file) as sound:
            return _samples(sound, path, seconds)
    except (soundfile.SoundFileError, RuntimeError, TypeError) as error:
        raise MediaError(f"{path} is {complaint} that can be read") from error


def _samples(sound: soundfile.SoundFile, path: Path, seconds: float | None) -> Audio:
    rate, channels = sound.samplerate, sound.channels
    limit = math.floor(MAX_PROMPT_AUDIO_SECONDS * rate)
    wanted = limit if seconds is None else min(math.ceil(seconds * rate), sound.frames)
    if seconds is None and sound.frames > limit:
        raise MediaError(
            f"{path} lasts {sound.frames / rate:,.0f} s; at most {MAX_PROMPT_AUDIO_SECONDS:.0f} s are read unless a "
            "part is asked for"
        )
    if min(wanted, sound.frames) * channels > MAX_AUDIO_VALUES:
        raise MediaError(
            f"{path} has {channels} channels of {rate:,} samples a second; less, or a shorter part, is needed"
        )
    blocks = []
    while wanted > 0 and len(block := sound.read(min(_BLOCK, wanted), dtype="float32", always_2d=True)):  # (S, C)
        blocks.append(block)
        wanted -= len(block)
    if not blocks:
        raise MediaError(f"{path} is a sound file without samples; some are needed")
    samples = np.ascontiguousarray(np.concatenate(blocks).T)  # (C, S)
    peak = float(np.abs(samples).max())  # not finite where one of them is not
    if not math.isfinite(peak):
        raise MediaError(f"{path} holds samples that are no numbers; finite ones are needed")
    if peak > 1:
        samples /= peak
    return Audio(samples, rate)


def _other_kind(start: bytes) -> str:
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
