"""The fields and buttons of a tab."""

EXAMPLES = "A beginning"
NO_PROMPT = "No prompt"
WITHOUT = "the model begins by itself"
"""What having no prompt means."""
UPLOAD_MIDI = "Or a MIDI file of your own (.mid, .midi, .kar), or a saved take (.json)"
UPLOAD_RECORDING = "Or a recording (.wav, .flac, .mp3, .ogg, .aiff), or a saved take (.json)"
RECORD = "Record with the microphone"
START = "Where in it to begin (seconds)"
USED = "How much of it to use (seconds)"
SECONDS = "How long to go on (seconds)"
BARS = "The same in bars"
ENDING = "To an ending"
VARIATIONS = "Variations"
DARING = "Safer or bolder"
DARING_WORDS = {"safer": "safer", "usual": "usual", "bolder": "bolder"}
MODEL = "Model"
MORE = "More settings"
SEED = "Seed"
FRESH = "A new seed each time"
TEMPERATURE, TEMPERATURE_INFO = "Temperature", "Higher is bolder."
TOP_P, TOP_P_INFO = "Top-p", "Lower is safer."
TOP_K, TOP_K_INFO = "Top-k", "0 keeps all."
MIN_P, MIN_P_INFO = "Min-p", "Higher is safer."
GUIDANCE, GUIDANCE_INFO = "Hold to the prompt", "More keeps its voice or manner; more than 0 takes longer."
ALOUD = "Play the first variation while it is made"
CONTINUE, STOP = "Continue", "Stop"
WHERE, GO_ON, SHOW = "Where", "Go on", "Show"
"""Of fields and buttons that only scripts use."""
WAITING_PIANO = (
    "Here the piece goes on.",
    f"Choose a beginning, then press <b>{CONTINUE}</b>: you hear and see the notes as the model finds them.",
)
"""What stands where the takes will be, in two lines of HTML."""
WAITING_SPEECH = (
    "Here the voice goes on.",
    f"Choose a voice, then press <b>{CONTINUE}</b>: you hear the first variation while it is made.",
)

SHORTCUTS = "Shortcuts"
NO_SHORTCUTS = "This model has no shortcuts: its last layer looks at no other."
SHORTCUTS_DO = (
    "How much each layer that the last one looks back to counts in its attention: 1 as trained, 0 not at all. What "
    "that costs is said when the run is done."
)
LAYER = "Layer"

NAMES = {
    "start": "where to begin",
    "used": "how much to use",
    "seconds": "how long to go on",
    "top_p": "top-p",
    "top_k": "top-k",
    "min_p": "min-p",
    "guidance": "hold to the prompt",
    "fresh": "a new seed",
    "ending": "to an ending",
}
"""What refusals call the values; those not here are called by their own names."""


def ending_info(seconds: float) -> str:
    """What going on to an ending does, with how far it looks."""
    return f"Looks up to {seconds:g} s further for a chord to end on."


def bars(meter: str) -> str:
    """The field of a length in bars, with what a bar is."""
    return f"{BARS} ({meter})"


def meter(quarters: float, beats: int, part: int) -> str:
    """How a piece is counted."""
    return f"{quarters:.0f} quarters a minute, {beats}/{part}"


def layer(tap: int) -> str:
    """The slider of a tap, a block of the Transformer."""
    return f"{LAYER} {tap}"


def with_loss(name: str, loss: float, codebooks: int | None = None) -> str:
    """A model in the list of them. Losses on different numbers of codebooks do not compare."""
    on = "" if codebooks is None else f" on {codebooks} codebook{'' if codebooks == 1 else 's'}"
    return f"{name} (test loss {loss:.2f}{on})"
