"""The pieces of HTML that change while the page is used: the prompt's card, the takes, the status line."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from urllib.parse import quote

from shortcut_gen.media import Score
from ui.figures import Roll, clock, count, legend, piano_roll

EMPTY = (
    '<div class="empty"><p>Here the piece goes on.</p>'
    "<p>Choose a beginning, then press <b>Continue</b>: the notes appear as the model finds them.</p></div>"
)


@dataclass(frozen=True, kw_only=True)
class Take:
    """One variation as it stands."""

    roll: Roll
    number: int
    title: str
    midi: Path | None = None
    wav: Path | None = None


def address(path: Path) -> str:
    """Where the server hands out a file of results."""
    return f"gradio_api/file={quote(str(path))}"


def status(text: str, kind: str = "quiet") -> str:
    """The line under the buttons. `kind` is quiet, busy or error."""
    role = ' role="alert"' if kind == "error" else ""
    return f'<p class="status {kind}"{role}>{escape(text)}</p>' if text else ""


def prompt_card(score: Score, used: float, name: str) -> str:
    """What the chosen prompt looks like, how much of it is used, and what was left out of the file."""
    shown = Roll(score=score, seam=min(used, score.duration), seconds=score.duration, unused=True)
    rest = used < score.duration
    facts = f"{escape(name)}: {count(len(score.notes), 'note')}, {clock(score.duration)}"
    kept = f'<p class="kept">{escape(score.kept)}</p>' if score.kept else ""
    colours = legend(rest) if rest else ""
    return f'<div class="card prompt"><p class="facts">{facts}</p>{kept}{piano_roll(shown)}{colours}</div>'


def _listen(take: Take) -> str:
    if take.wav is None or take.midi is None:
        return ""
    wav, midi = address(take.wav), address(take.midi)
    label = f"Variation {take.number}, prompt and continuation"
    return (
        f'<div class="listen"><audio controls preload="metadata" src="{wav}" aria-label="{label}"></audio>'
        f'<a class="button" href="{midi}" download="{escape(take.midi.name)}">MIDI'
        f'<span class="hidden"> of variation {take.number}</span></a>'
        f'<a class="button" href="{wav}" download="{escape(take.wav.name)}">WAV'
        f'<span class="hidden"> of variation {take.number}</span></a></div>'
    )


def takes_html(takes: Sequence[Take]) -> str:
    """The variations: one fills the width, several stand side by side where there is room."""
    cards = "".join(
        f'<article class="card take"><h3>Variation {take.number}<span class="facts">{escape(take.title)}</span></h3>'
        f"{piano_roll(take.roll)}{_listen(take)}</article>"
        for take in takes
    )
    return f'<div class="takes n{len(takes)}">{cards}</div>{legend()}'
