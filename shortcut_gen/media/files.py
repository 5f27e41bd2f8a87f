"""Scores and sound read from files, whatever their names say."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from shortcut_gen.errors import MediaError
from shortcut_gen.files import reason
from shortcut_gen.media.midi import MAX_EVENTS
from shortcut_gen.media.scores import MAX_MIDI_BYTES, parse_score
from shortcut_gen.media.sound import Sound
from shortcut_gen.media.types import Audio, Score

MAX_AUDIO_BYTES = 1024 * 1024 * 1024
"""A larger sound file is refused before it is read."""
MAX_PROMPT_AUDIO_SECONDS = 600.0
"""A longer recording is refused where not told how much of its start to read."""
MAX_AUDIO_VALUES = 256 * 1024 * 1024
"""Samples of all channels that are decoded of a prompt at most."""
AUDIO_RATES = (8_000, 48_000)
"""A recording of fewer or more samples a second is kept at the nearer of these rates, in Hz."""


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
    """The notes of a MIDI file, as `parse_score` has them, and how they were played. Raises MediaError on all else."""
    path = Path(path)
    return parse_score(_read_bytes(path, MAX_MIDI_BYTES), str(path), most_events, played=True)


def read_audio(path: str | os.PathLike[str], seconds: float | None = None, most_values: int | None = None) -> Audio:
    """The sound of a sound file (WAV, FLAC, Ogg, MP3) as one channel, (1, S): its first `seconds`, or all of it.

    What is wrong with it is mended as `media.sound` does, and told in `kept`; a rate outside AUDIO_RATES is
    changed. Raises MediaError on anything else, where there are more than MAX_PROMPT_AUDIO_SECONDS and no `seconds`,
    and where more than `most_values` (MAX_AUDIO_VALUES if not given) samples of all channels would be decoded.
    """
    path = Path(path)
    with _opened(path, MAX_AUDIO_BYTES) as file:
        return _audio(file, path, seconds, "no sound file", most_values)


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


def _audio(file: BinaryIO, path: Path, seconds: float | None, complaint: str, most_values: int | None = None) -> Audio:
    """The sound of an open file, or one line on what else it is."""
    most = MAX_PROMPT_AUDIO_SECONDS
    try:
        wanted = most + 1 if seconds is None else seconds
        sound = Sound(file, seconds=wanted, most_values=most_values or MAX_AUDIO_VALUES, complaint=complaint)
        if seconds is None and sound.seconds > most:
            length = f"{sound.promised:,.0f} s" if sound.promised else f"more than {most:.0f} s"
            raise MediaError(f"lasts {length}; at most {most:.0f} s are read unless a part is asked for")
        rate = min(max(sound.sample_rate, AUDIO_RATES[0]), AUDIO_RATES[1])
        samples = np.concatenate(list(sound.blocks(rate)))[None]  # (1, S)
    except MediaError as error:
        raise MediaError(f"{path} {error}") from error
    return Audio(samples, rate, kept=sound.kept, file_rate=sound.sample_rate, file_channels=sound.channels)
