"""Pictures of music for the page: a piano roll's frame, its notes as numbers, and what it shows in words.

The page draws the notes itself (`static/roll.js`): those of a prompt are in the frame, those of a run are asked for at
an address (`ui/notes.py`), so that what grows is sent once. Text is HTML beside the drawing.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from html import escape

from shortcut_gen.media import Note, Score
from ui.text import pictures

UNITS = 100
"""Parts of a second in which a note's times are told: the tokens' grid of 10 ms."""
MAX_DRAWN = 20_000
"""Notes drawn of one score at most: past that the eye sees a solid block and the browser a slow page."""


@dataclass(frozen=True, kw_only=True)
class Roll:
    """What a piano roll shows."""

    score: Score
    seam: float
    """Where the prompt ends and the continuation begins, in seconds."""
    seconds: float
    """How much time the drawing spans, at least; it never shrinks while notes arrive."""
    unused: bool = False
    """What comes after the seam is the rest of the prompt's file, left out, and not a continuation."""
    begin: float = 0.0
    """Where the used part begins, in seconds; only with `unused`."""
    origin: float = 0.0
    """What the time axis calls the drawing's left edge, in seconds."""
    choose: float = 0.0
    """If above 0, the part to use is chosen by dragging over it: the seconds that the whole prompt lasts."""
    thin: bool = False
    """As an overview, without a keyboard."""


def time_step(seconds: float, most: int = 8) -> float:
    """Distance of the marks on the time axis: the smallest round one that needs at most `most` of them."""
    steps = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600)
    return next((step for step in steps if seconds / step <= most), 10 ** math.ceil(math.log10(seconds / most)))


def time_axis(seconds: float, origin: float = 0.0) -> tuple[str, list[float]]:
    """The labels under a drawing of that many seconds, as HTML, and the times that are marked, in seconds.

    origin: what the left edge is called.
    """
    step = time_step(seconds)
    times = [step * k - origin for k in range(math.ceil(origin / step), math.floor((origin + seconds) / step) + 1)]
    # A label at the very edge would be cut off; its grid line stays.
    labels = "".join(
        f'<span style="left:{100 * t / seconds:.2f}%">{pictures.clock(t + origin)}</span>'
        for t in times
        if t < 0.96 * seconds
    )
    return f'<div class="times">{labels}</div>', times


def choosing(seconds: float) -> str:
    """The attribute of a drawing of a whole prompt, over which a part to use can be drawn; "" where seconds is 0."""
    return f' data-choose="{seconds:.3f}"' if seconds else ""


def seam_mark(seam: float, seconds: float) -> str:
    """The line where the prompt ends, where that is inside the drawing."""
    return f'<i class="seam" style="left:{100 * seam / seconds:.3f}%"></i>' if 0 < seam < seconds else ""


def describe(roll: Roll) -> str:
    """The picture in words, for those who cannot see it."""
    notes = roll.score.notes
    if not notes:
        return pictures.EMPTY_ROLL
    old = sum(1 for note in notes if roll.begin <= note.start < roll.seam)
    new = len(notes) - old
    low, high = min(note.pitch for note in notes), max(note.pitch for note in notes)
    return pictures.roll(old, roll.seam - roll.begin, new, roll.score.duration, roll.unused, low, high)


def numbers(notes: Iterable[Note]) -> list[int]:
    """Notes as the page reads them: pitch, velocity, start and length of each, one after the other."""
    found: list[int] = []
    for note in notes:
        start = round(note.start * UNITS)
        found += (note.pitch, min(note.velocity, 127), start, max(round(note.end * UNITS) - start, 1))
    return found


def piano_roll(roll: Roll, address: str = "", said: str = "") -> str:
    """The roll's frame as HTML: what `static/roll.js` draws the keyboard, the notes and the seam in.

    address: where the page asks for the notes, if they are not to be within. said: the picture in words, if it is not
    the roll's own description.
    """
    notes = roll.score.notes[:MAX_DRAWN]
    seconds = max([roll.seconds, 1.0, *(note.end for note in notes)])
    axis, _ = time_axis(seconds, roll.origin)
    keys = "" if roll.thin else '<div class="keys"></div>'
    where = f' data-from="{escape(address)}"' if address else f' data-notes="{",".join(map(str, numbers(notes)))}"'
    unused = f' data-unused data-begin="{roll.begin:.3f}"' if roll.unused else ""
    return (
        f'<div class="roll notes{" overview" if roll.thin else ""}" data-seconds="{seconds:.3f}"'
        f' data-seam="{roll.seam:.3f}" data-origin="{roll.origin:.3f}" data-step="{time_step(seconds)}"{unused}'
        f"{choosing(roll.choose)}{where}>{keys}"
        f'<div class="field" role="img" aria-label="{escape(said or describe(roll))}">'
        f'{seam_mark(roll.begin, seconds)}{seam_mark(roll.seam, seconds)}<i class="playhead"></i></div>{axis}</div>'
    )


def legend(unused: bool = False) -> str:
    """What the colours mean."""
    second = ("unused", pictures.UNUSED) if unused else ("new", pictures.CONTINUATION)
    return (
        f'<p class="legend"><span class="chip old"></span>{pictures.PROMPT}'
        f'<span class="chip {second[0]}"></span>{second[1]}'
        f'<span class="faint">{pictures.PALER}</span></p>'
    )
