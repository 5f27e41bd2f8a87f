"""The tabs of the page, one for each modality: a tab is a module with what it does, and a line here."""

from collections.abc import Callable
from dataclasses import dataclass

from shortcut_gen.pipeline import Prompt
from ui.examples.listing import VOICES, load_examples
from ui.models import Models
from ui.sessions import Sessions
from ui.text import page


@dataclass(frozen=True)
class Entry:
    """What the page says of a tab, and how it is made."""

    title: str
    continues: str
    """What it continues, in a few words."""
    build: Callable[[Models, Sessions], None]
    warm_up: Callable[[], Prompt]
    """A short prompt that touches all that a run needs."""
    credit: str = ""
    """Whose work is on the page beside ours."""


def _piano(models: Models, sessions: Sessions) -> None:
    from ui.piano import build

    build(models, sessions)


def _speech(models: Models, sessions: Sessions) -> None:
    # What sound needs (torchaudio, the codec) is imported where there is a model for it.
    from ui.speech import build

    build(models, sessions)


def _first_voice() -> Prompt:
    return Prompt.from_file(VOICES / load_examples(VOICES)[0].file, 1.0)


TABS: dict[str, Entry] = {
    "piano": Entry(page.PIANO, page.PIANO_CONTINUES, _piano, Prompt.empty),
    "speech": Entry(page.SPEECH, page.SPEECH_CONTINUES, _speech, _first_voice, credit=page.VOICES),
}
"""By tokenizer; a modality joins the page by a line here and a checkpoint."""
