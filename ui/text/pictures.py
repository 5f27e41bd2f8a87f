"""Drawings in words, their legends, and the names of notes and ids."""

PITCHES = ("C", "C♯", "D", "D♯", "E", "F", "F♯", "G", "G♯", "A", "A♯", "B")
SPOKEN_PITCHES = ("C", "C sharp", "D", "D sharp", "E", "F", "F sharp", "G", "G sharp", "A", "A sharp", "B")
"""Of the keys of the piano, for who hears them."""
GROWING_ROLL = "Piano roll, still being made."
EMPTY_ROLL = "Piano roll, still empty."
GROWING_SOUND = "Loudness and spectrogram, still being made."
PROMPT, CONTINUATION, UNUSED, PALER = "Prompt", "Continuation", "Not used", "paler is softer"
FREQUENCIES = {250: "250 Hz", 1000: "1 kHz", 2000: "2 kHz", 4000: "4 kHz"}
"""Named beside a spectrogram."""
INSIDE = "Look inside the model"
INSIDE_SHOWS = "which of its layers it looked at while it wrote, and what surprised it"
SHOW = "Colours"
VIEWS = {
    "layers": ("Layers", "The layer that got more attention than usual"),
    "shares": ("Raw shares", "The layer that got the largest share of the attention"),
    "surprise": ("Surprise", "-ln p of each note by the model's own softmax, in nats"),
    "loudness": ("Loudness", "Paler is softer, as without a look inside"),
}
"""What the colours of a take can show, each with what it is in the field's terms; `static/depth.js` shows the choice
where there is one, the first one first."""


def pitch(number: int) -> str:
    """`C4` for 60, middle C."""
    return f"{PITCHES[number % 12]}{number // 12 - 1}"


def clock(seconds: float) -> str:
    """`8 s`, or `1:05` from a minute on."""
    return f"{seconds:.0f} s" if seconds < 60 else f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}{'' if number == 1 else 's'}"


def roll(old: int, old_seconds: float, new: int, end: float, unused: bool, low: int, high: int) -> str:
    """A piano roll. old, new: notes of the prompt and after it; unused: which are left out; low, high: pitches."""
    text = f"Piano roll: {_count(old, 'note')} of the prompt in {old_seconds:.1f} s"
    if unused and new:
        text += f", {_count(new, 'other note')} of the file not used"
    elif new:
        text += f", then {_count(new, 'new note')} up to {end:.1f} s"
    return f"{text}; from {pitch(low)} to {pitch(high)}."


def sound(used: float, later: float, unused: bool) -> str:
    """Loudness and spectrogram: seconds of the prompt, and of what comes later."""
    text = f"Loudness and spectrogram: {used:.1f} s of the prompt"
    if later < 0.05:
        return f"{text}."
    return f"{text}, {later:.1f} s of the file not used." if unused else f"{text}, then {later:.1f} s new."


def loudness(velocity: int) -> str:
    """An id of velocity."""
    return f"loudness {velocity}"


def pause(seconds: float) -> str:
    """An id of time."""
    return f"{seconds:g} s pause"


def end_of(number: int) -> str:
    """An id that ends a note."""
    return f"end of {pitch(number)}"
