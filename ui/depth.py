"""The depth map for the page: which id made which note, and the shares, entropy and surprise along time.

What is said is where the last block looked, and not why a note is there: attention, not cause.
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shortcut_gen.media import Note
from shortcut_gen.modalities.piano import NOTE_OFF, TICKS_PER_SECOND, PianoTokenizer
from shortcut_gen.pipeline import Continuation

BIN_SECONDS = 0.25
"""Of the strip under a roll. Speech has one for each frame."""
FIRST, LEVELS = ord("#"), 56
"""Of a share as a character: none of these does JSON escape."""


def starts(made: Continuation) -> NDArray[np.float64]:
    """When each of the new ids begins, in seconds from the start of the prompt, (T_new,)."""
    ids = np.array(made.prompt_ids + made.ids, np.int64)
    if isinstance(made.tokenizer, PianoTokenizer):
        ticks = np.append(0, made.tokenizer.ticks(ids)[:-1])  # an id begins where the one before it ends
        return ticks[len(made.prompt_ids) :] / TICKS_PER_SECOND
    frame = made.tokenizer.frame
    per_frame = made.seconds * frame / max(len(ids), 1)
    frames = np.arange(len(made.prompt_ids), len(ids)) // frame
    return frames.astype(np.float64) * per_frame


def note_places(made: Continuation, notes: Sequence[Note]) -> list[int]:
    """Which of the new ids struck each note; -1 where it was struck before the seam, by the prompt.

    A note is known by its pitch and its tick; several with the same are told apart by their ends.
    """
    ids, ticks = np.array(made.ids, np.int64), np.rint(starts(made) * TICKS_PER_SECOND).astype(np.int64)
    struck: dict[tuple[int, int], list[int]] = defaultdict(list)
    for place in np.flatnonzero(ids < NOTE_OFF):
        struck[int(ids[place]), int(ticks[place])].append(int(place))
    places = [-1] * len(notes)
    # From the last: the prompt may have struck the same key in the same tick, before.
    for index in sorted(range(len(notes)), key=lambda k: notes[k].end, reverse=True):
        there = struck.get((notes[index].pitch, round(notes[index].start * TICKS_PER_SECOND)))
        if there:
            places[index] = there.pop()
    return places


def _figures(shares: NDArray[np.float32], surprise: float) -> list[int]:
    """Surprise in hundredths of a nat, then each tap's share in thousandths; [] where the model did not draw."""
    if not np.isfinite(surprise):
        return []
    return [round(100 * float(surprise)), *(round(1000 * float(share)) for share in shares)]


def drawn(made: Continuation, notes: Sequence[Note]) -> list[list[int]]:
    """For each note the place of its id among the new ones and its figures; [] for a note of the prompt."""
    depth = made.depth
    if depth is None:
        return []
    found = []
    for place in note_places(made, notes):
        figures = _figures(depth.shares[place], depth.surprise[place]) if 0 <= place < len(depth.surprise) else []
        found.append([place, *figures] if figures else [])
    return found


def heads(made: Continuation) -> list[list[int]]:
    """For each head of the last block the taps' shares in thousandths, on average over the ids that the model drew; []
    without taps."""
    depth = made.depth
    if depth is None or depth.by_head is None or not depth.taps:
        return []
    known = depth.by_head[np.isfinite(depth.surprise)]
    means = known.mean(axis=0) if len(known) else np.zeros((0, 0), np.float32)
    found: list[list[int]] = np.rint(1000 * means).astype(int).tolist()
    return found


def strip(made: Continuation, done: bool, after: int) -> dict[str, Any]:
    """Shares and surprise along time from the seam on, without the first `after` bins: the mean over the ids that
    begin in each, as `_figures`; a bin is told when no more ids can begin in it."""
    depth = made.depth
    assert depth is not None
    bins = Bins(made)
    told = bins.count if done else max(bins.count - 1, 0)
    means = bins.means([depth.surprise, *depth.shares.T])
    rows = [_figures(means[1:, k].astype(np.float32), means[0, k]) for k in range(min(after, told), told)]
    return {"after": min(after, told), "width": bins.width, "seam": made.seam_seconds, "bins": rows}


def head_strips(made: Continuation) -> str:
    """The same head by head, of a continuation that is done: for each bin, each head and each tap a character, `FIRST`
    for a share of 0 to `LEVELS` above it for 1; spaces where no id begins. "" without taps.
    """
    depth = made.depth
    if depth is None or depth.by_head is None or not depth.taps or not len(depth.surprise):
        return ""
    ids, heads, taps = depth.by_head.shape
    means = Bins(made).means(list(depth.by_head.reshape(ids, heads * taps).T)).T  # (bins, H * L)
    levels = np.where(np.isnan(means), ord(" "), np.rint(LEVELS * np.nan_to_num(means)) + FIRST)
    return levels.astype(np.uint8).tobytes().decode("ascii")


class Bins:
    """The time from the seam on in bins, and in which of them each new id begins."""

    def __init__(self, made: Continuation) -> None:
        depth = made.depth
        assert depth is not None
        frame = made.tokenizer.frame
        piano = isinstance(made.tokenizer, PianoTokenizer)
        self.width = BIN_SECONDS if piano else made.seconds * frame / max(len(made.prompt_ids) + len(made.ids), 1)
        count = len(depth.surprise)
        place = ((starts(made)[:count] - made.seam_seconds) / self.width + 1e-6).astype(np.int64)
        self.count = int(place[-1]) + 1 if count else 0
        self._known = np.isfinite(depth.surprise)
        self._place = place[self._known]

    def means(self, columns: Sequence[NDArray[np.float32]]) -> NDArray[np.float64]:
        """Of columns of a number for each id the means of each bin, (columns, bins), NaN where no id begins."""
        weights = np.bincount(self._place, minlength=self.count)
        sums = [np.bincount(self._place, each[self._known].astype(np.float64), self.count) for each in columns]
        with np.errstate(invalid="ignore"):
            means: NDArray[np.float64] = np.stack(sums) / weights
        return means
