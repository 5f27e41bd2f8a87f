"""What goes in and comes out: notes and sound, read from files, written to files, rendered."""

from shortcut_gen.media.files import MAX_AUDIO_BYTES, is_midi, read, read_audio, read_score
from shortcut_gen.media.midi import MAX_EVENTS
from shortcut_gen.media.performed import performed
from shortcut_gen.media.scores import MAX_MIDI_BYTES, MAX_SECONDS, parse_score
from shortcut_gen.media.types import Audio, Note, Score, midi_bytes, one_hand, playable

__all__ = [
    "MAX_AUDIO_BYTES",
    "MAX_EVENTS",
    "MAX_MIDI_BYTES",
    "MAX_SECONDS",
    "Audio",
    "Note",
    "Score",
    "is_midi",
    "midi_bytes",
    "one_hand",
    "parse_score",
    "performed",
    "playable",
    "read",
    "read_audio",
    "read_score",
]
