"""The pieces of HTML that change while the page is used: the prompt's card, the variations, the status line."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from ui.piano_figures import legend
from ui.text import pictures, runs


@dataclass(frozen=True)
class Onward:
    """A variation from which one can go on."""

    where: str
    """Its step and variation, such as 3.2."""
    seconds: float
    """How long it lasts with its prompt."""


@dataclass(frozen=True, kw_only=True)
class Variation:
    """One variation as it stands."""

    figure: str
    """Its picture, as HTML."""
    number: int
    prompt: str
    """What it continues, in words."""
    facts: str
    sound: str = ""
    """The address of what its player plays, once there is something."""
    files: tuple[tuple[str, str, str], ...] = ()
    """What can be downloaded: a label such as "MIDI", the file's name, its address."""
    onward: Onward | None = None
    copied: tuple[str, str] = ("", "")
    """How much of it training performances have too: a sentence, and the figures behind it."""


@dataclass(frozen=True)
class Live:
    """Sound that is heard while it is made."""

    address: str
    rate: int
    """Samples a second, in Hz."""
    channels: int = 1


def empty(first: str, second: str) -> str:
    """What stands where the variations will be. `second` may hold HTML."""
    return f'<div class="empty"><p>{first}</p><p>{second}</p></div>'


def status(text: str, kind: str = "quiet", live: Live | None = None) -> str:
    """The line under the buttons. `kind` is quiet, busy or error; `live` is what the page is to play meanwhile."""
    role = ' role="alert"' if kind == "error" else ""
    sound = f' data-live="{escape(live.address)}" data-rate="{live.rate}"' if live else ""
    sound += f' data-channels="{live.channels}"' if live else ""
    return f'<p class="status {kind}"{role}{sound}>{escape(text)}</p>' if text else ""


def player(sound: str, label: str) -> str:
    """The browser's own player. It asks for the sound, which may then have to be made, when it is to play."""
    return f'<audio controls preload="none" src="{escape(sound)}" aria-label="{escape(label)}"></audio>'


def prompt_card(figure: str, facts: str, *, rest: bool, kept: str = "", sound: str = "") -> str:
    """What the chosen prompt looks like: facts and kept are plain text, `rest` says that a part of it is not used."""
    note = f'<p class="kept">{escape(kept)}</p>' if kept else ""
    colours = legend(unused=True) if rest else ""
    listen = f'<div class="listen">{player(sound, runs.PROMPT_PLAYER)}</div>' if sound else ""
    return f'<div class="card prompt"><p class="facts">{escape(facts)}</p>{note}{figure}{colours}{listen}</div>'


def _listen(variation: Variation) -> str:
    if not variation.sound:
        return ""
    links = "".join(
        f'<a class="button" href="{escape(where)}" download="{escape(name)}">{escape(label)}'
        f'<span class="hidden">{runs.of_variation(variation.number)}</span></a>'
        for label, name, where in variation.files
    )
    heard = player(variation.sound, runs.player(variation.number))
    return f'<div class="listen">{heard}{links}</div>{_onward(variation)}'


def _onward(variation: Variation) -> str:
    """From where in it to go on, and the button that does."""
    if variation.onward is None:
        return ""
    end = f"{variation.onward.seconds:.1f}"
    label = runs.where_in(variation.number)
    return (
        f'<div class="onward" data-where="{variation.onward.where}">'
        f'<input type="range" min="0.5" max="{end}" step="0.1" value="{end}" aria-label="{label}">'
        f'<output>{runs.seconds(end)}</output><button type="button" class="button">{runs.GO_ON_FROM}'
        f'<span class="hidden">{runs.in_variation(variation.number)}</span></button></div>'
    )


def _copied(variation: Variation) -> str:
    sentence, figures = (escape(each) for each in variation.copied)
    if not figures:
        return f'<p class="facts copied">{sentence}</p>' if sentence else ""
    return f'<details class="copied"><summary>{sentence}</summary><p>{figures}</p></details>'


def views() -> str:
    """The choice of what the drawings show, folded, and out of sight until a script has something to choose from."""
    options = "".join(
        f'<label title="{escape(about)}"><input type="radio" value="{value}">{label}</label>'
        for value, (label, about) in pictures.VIEWS.items()
    )
    return (
        f'<details class="inside" hidden><summary>{pictures.INSIDE} '
        f'<span class="faint">{pictures.INSIDE_SHOWS}</span></summary>'
        f'<fieldset class="views"><legend>{pictures.SHOW}</legend>{options}<p class="key"></p></fieldset></details>'
    )


def variations_html(variations: Sequence[Variation]) -> str:
    """One fills the width, several stand side by side where there is room."""
    cards = "".join(
        f'<article class="card take"><h2>{runs.variation(each.number)}'
        f'<span class="facts">{escape(each.facts)}</span></h2>'
        f'<p class="facts of">{escape(each.prompt)}</p>{each.figure}{_copied(each)}{_listen(each)}</article>'
        for each in variations
    )
    return f'{views()}<div class="takes n{len(variations)}">{cards}</div>{legend()}'
