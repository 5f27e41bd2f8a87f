"""What goes in and comes out: notes and sound, read from files, written to files, rendered."""

from shortcut_gen.media.files import (
    MAX_AUDIO_BYTES,
    MAX_MIDI_BYTES,
    MAX_SECONDS,
    Audio,
    Note,
    Score,
    is_midi,
    midi_bytes,
    one_hand,
    parse_score,
    playable,
    read,
    read_audio,
    read_score,
)

__all__ = [
    "MAX_AUDIO_BYTES",
    "MAX_MIDI_BYTES",
    "MAX_SECONDS",
    "Audio",
    "Note",
    "Score",
    "is_midi",
    "midi_bytes",
    "one_hand",
    "parse_score",
    "playable",
    "read",
    "read_audio",
    "read_score",
]
