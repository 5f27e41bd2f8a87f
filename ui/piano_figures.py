"""Pictures of music for the page: a piano roll as a few lines of SVG and HTML, cheap enough to redraw while it grows.

Notes of one colour and loudness are one SVG path, so that a minute of music is a few kilobytes. Text is HTML laid over
the drawing, so that it keeps its size on a narrow screen. Colours are CSS variables of `static/page.css`.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

from shortcut_gen.media import Note, Score

NAMES = ("C", "C♯", "D", "D♯", "E", "F", "F♯", "G", "G♯", "A", "A♯", "B")
BLACK = frozenset({1, 3, 6, 8, 10})
LOWEST, HIGHEST = 36, 95
"""C2 to B6 are always shown; the drawing reaches further by octaves where the notes do."""
SHADES = 6
"""Steps of loudness, drawn as opacity."""
UNITS = 100
"""Drawing units per second: the tokens' grid of 10 ms."""
ROW = 4
"""Drawing units per semitone."""
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


def pitch_name(pitch: int) -> str:
    """`C4` for 60, middle C."""
    return f"{NAMES[pitch % 12]}{pitch // 12 - 1}"


def pitch_range(notes: Iterable[Note]) -> tuple[int, int]:
    """Lowest and highest row, in whole octaves from C to B, so that the picture seldom moves while it grows."""
    pitches = [note.pitch for note in notes]
    low = min([LOWEST, *pitches]) // 12 * 12
    high = max([HIGHEST, *pitches]) // 12 * 12 + 11
    return low, high


def time_step(seconds: float, most: int = 8) -> float:
    """Distance of the marks on the time axis: the smallest round one that needs at most `most` of them."""
    steps = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600)
    return next((step for step in steps if seconds / step <= most), 10 ** math.ceil(math.log10(seconds / most)))


def clock(seconds: float) -> str:
    """`8 s`, or `1:05` from a minute on."""
    return f"{seconds:.0f} s" if seconds < 60 else f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def count(number: int, thing: str) -> str:
    """`1 note`, `2 notes`."""
    return f"{number} {thing}{'' if number == 1 else 's'}"


def time_axis(seconds: float, origin: float = 0.0) -> tuple[str, list[float]]:
    """The labels under a drawing of that many seconds, as HTML, and the times that are marked, in seconds.

    origin: what the left edge is called.
    """
    step = time_step(seconds)
    times = [step * k - origin for k in range(math.ceil(origin / step), math.floor((origin + seconds) / step) + 1)]
    # A label at the very edge would be cut off; its grid line stays.
    labels = "".join(
        f'<span style="left:{100 * t / seconds:.2f}%">{clock(t + origin)}</span>' for t in times if t < 0.96 * seconds
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
        return "Piano roll, still empty."
    old = sum(1 for note in notes if roll.begin <= note.start < roll.seam)
    new = len(notes) - old
    low, high = min(note.pitch for note in notes), max(note.pitch for note in notes)
    text = f"Piano roll: {count(old, 'note')} of the prompt in {roll.seam - roll.begin:.1f} s"
    if roll.unused and new:
        text += f", {count(new, 'other note')} of the file not used"
    elif new:
        text += f", then {count(new, 'new note')} up to {roll.score.duration:.1f} s"
    return f"{text}; from {pitch_name(low)} to {pitch_name(high)}."


def _paths(notes: Sequence[Note], name: str, high: int) -> str:
    """One path per step of loudness; each note is a horizontal stroke on its row."""
    strokes: list[list[str]] = [[] for _ in range(SHADES)]
    for note in notes:
        width = max(round((note.end - note.start) * UNITS), 4)
        y = (high - note.pitch) * ROW + ROW // 2
        strokes[min(note.velocity, 127) * SHADES // 128].append(f"M{round(note.start * UNITS)} {y}h{width}")
    return "".join(
        f'<path class="{name}" opacity="{0.4 + 0.6 * shade / (SHADES - 1):.2f}" d="{"".join(shades)}"/>'
        for shade, shades in enumerate(strokes)
        if shades
    )


def _restrikes(notes: Sequence[Note], high: int) -> str:
    """A hairline where a key is struck again as it falls silent: two notes must not look like one."""
    ends: dict[int, float] = {}
    marks = []
    for note in notes:
        if note.start - ends.get(note.pitch, -1.0) < 0.05:
            marks.append(f"M{round(note.start * UNITS)} {(high - note.pitch) * ROW}v{ROW}")
        ends[note.pitch] = note.end
    return f'<path class="restrike" d="{"".join(marks)}"/>'


def _rows(low: int, high: int, width: int) -> str:
    """Shaded rows of the black keys, and a line under every C."""
    black = "".join(f"M0 {(high - p) * ROW + ROW // 2}h{width}" for p in range(low, high + 1) if p % 12 in BLACK)
    octaves = "".join(f"M0 {(high - p + 1) * ROW}h{width}" for p in range(low, high + 1) if p % 12 == 0)
    return f'<path class="black" d="{black}"/><path class="octave" d="{octaves}"/>'


def _keyboard(low: int, high: int) -> str:
    """The pitch axis: a keyboard on its side, the Cs named."""
    rows = high - low + 1
    black = "".join(f"M0 {(high - p) * ROW + ROW // 2}h6" for p in range(low, high + 1) if p % 12 in BLACK)
    # White keys meet at the lower edge of C and of F.
    edges = "".join(f"M0 {(high - p + 1) * ROW}h10" for p in range(low, high + 1) if p % 12 in (0, 5))
    names = "".join(
        f'<span style="top:{100 * (high - p + 0.5) / rows:.2f}%">{pitch_name(p)}</span>'
        for p in range(low, high + 1)
        if p % 12 == 0
    )
    return (
        f'<div class="keys"><svg viewBox="0 0 10 {rows * ROW}" preserveAspectRatio="none">'
        f'<path class="black" d="{black}"/><path class="edge" d="{edges}"/></svg>{names}</div>'
    )


def piano_roll(roll: Roll) -> str:
    """The roll as HTML: keyboard, notes in two colours with loudness as opacity, seam, seconds."""
    notes = roll.score.notes[:MAX_DRAWN]
    low, high = pitch_range(notes)
    seconds = max([roll.seconds, 1.0, *(note.end for note in notes)])
    width, height = round(seconds * UNITS), (high - low + 1) * ROW
    old = [note for note in notes if roll.begin <= note.start < roll.seam]
    new = [note for note in notes if not roll.begin <= note.start < roll.seam]
    axis, times = time_axis(seconds, roll.origin)
    grid = "".join(f"M{round(t * UNITS)} 0v{height}" for t in times if t > 0)
    later = "unused" if roll.unused else "new"
    return (
        f'<div class="roll{" overview" if roll.thin else ""}" data-seconds="{seconds:.3f}" data-seam="{roll.seam:.3f}"'
        f"{choosing(roll.choose)}>{'' if roll.thin else _keyboard(low, high)}"
        f'<div class="field" role="img" aria-label="{escape(describe(roll))}">'
        f'<svg viewBox="0 0 {width} {height}" preserveAspectRatio="none" aria-hidden="true">'
        f'{_rows(low, high, width)}<path class="grid" d="{grid}"/>'
        f"{_paths(old, 'old', high)}{_paths(new, later, high)}{_restrikes(notes, high)}</svg>"
        f'{seam_mark(roll.begin, seconds)}{seam_mark(roll.seam, seconds)}<i class="playhead"></i></div>{axis}</div>'
    )


def legend(unused: bool = False) -> str:
    """What the colours mean."""
    second = ("unused", "Not used") if unused else ("new", "Continuation")
    return (
        '<p class="legend"><span class="chip old"></span>Prompt'
        f'<span class="chip {second[0]}"></span>{second[1]}'
        '<span class="faint">paler is softer</span></p>'
    )
