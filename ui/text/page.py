"""The head and the foot of the page, and its tabs."""

from collections.abc import Sequence

LANGUAGE = "en"
"""As HTML and JavaScript name it."""
TITLE = "shortcut-gen"
PIANO, SPEECH = "Piano", "Speech"
"""The tabs' titles."""
PIANO_CONTINUES, SPEECH_CONTINUES = "a piano performance", "a spoken sentence"
"""What they continue, as `about` has it."""
VOICES = "Example voices: LibriSpeech test-other (Panayotov et al., 2015), CC BY 4.0, single utterances in Opus."
LOCAL = "Everything is computed on this machine; nothing is sent elsewhere."
PLAIN = "FluidSynth is not installed, so the sound is plainer."
MODELS_AND_SOUNDS = "About the models and sounds"


def about(continues: Sequence[str]) -> str:
    """What the page is for."""
    return (
        f"Give it the beginning of {' or of '.join(continues)}, and it goes on. A small Transformer writes what "
        "follows piece by piece; its last layer looks back into the layers before it."
    )


def model(name: str, layers: int, width: int, corpus: str | None, loss: float | None, licence: str | None) -> str:
    """One model in a few words. loss: in nats."""
    facts = [f"{layers} layers of width {width}"]
    facts += [f"trained on {corpus}"] if corpus else []
    facts += [f"test loss {loss:.2f} nats per token"] if loss is not None else []
    facts += [f"weights {licence}"] if licence else []
    return f"{name}: {', '.join(facts)}"


def models(said: Sequence[str]) -> str:
    """All of them."""
    return f"Models: {'; '.join(said)}."


def renderer(name: str) -> str:
    """What plays."""
    return f"Piano sound: {name}."
