"""Finds parts of a string of bytes in one long string, exactly."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

LEAST = 6
"""Length of the shortest part that is found."""
WORD = 8
"""Bytes that are compared at once."""
BUCKETS = 2**16
PAIRS = 2**18
"""Places compared in one go, which bounds the memory that looking takes."""

Places = NDArray[np.int64]


class Strings:
    """A long string of bytes, to look for parts of others in.

    Its places are sorted by a hash of the LEAST bytes there, and what is looked for is compared at every place of the
    same hash: nothing is missed and nothing found that is not there. It takes five bytes of
    memory for each of the string.
    """

    def __init__(self, text: NDArray[np.uint8]) -> None:
        """text: (N,); no part that is found holds a 0, so zeros keep apart what should not be read across."""
        self._text = _padded(text)
        self._words = _words(self._text)
        hashes = _hashes(self._text)
        self._order = np.argsort(hashes, kind="stable").astype(np.int32)  # a radix sort, for 16 bits
        self._start = np.concatenate([[0], np.cumsum(np.bincount(hashes, minlength=BUCKETS))])

    def matches(self, wanted: NDArray[np.uint8]) -> Iterator[tuple[Places, Places, Places]]:
        """Where a part of `wanted` is found that cannot be made longer to either side: (place there, place here,
        length), each (M,), in several goes."""
        other = _padded(wanted)
        words, hashes = _words(other), _hashes(other).astype(np.int64)
        full = np.flatnonzero(_alike(words, words) >= LEAST)
        first, last = self._start[hashes[full]], self._start[hashes[full] + 1]
        counts = last - first
        ends = np.concatenate([[0], np.cumsum(counts)])
        for low in range(0, int(ends[-1]), PAIRS):
            pair = np.arange(low, min(low + PAIRS, int(ends[-1])))
            row = np.searchsorted(ends, pair, "right") - 1
            here = self._order[first[row] + pair - ends[row]].astype(np.int64)
            yield self._extended(other, words, full[row], here)

    def _extended(
        self, other: NDArray[np.uint8], words: NDArray[np.uint64], there: Places, here: Places
    ) -> tuple[Places, Places, Places]:
        # Only where a part begins: of notes that are repeated, each place would otherwise be compared with each other.
        begins = (self._text[here - 1] != other[there - 1]) | (other[there - 1] == 0)
        there, here = there[begins], here[begins]
        length = _alike(self._words[here], words[there])
        found = length >= LEAST
        there, here, length = there[found], here[found], length[found]
        growing = np.flatnonzero(length == WORD)
        while len(growing):
            at = length[growing]
            more = _alike(self._words[here[growing] + at], words[there[growing] + at])
            length[growing] += more
            growing = growing[more == WORD]
        return there, here, length


def crowd(text: NDArray[np.uint8]) -> int:
    """Places of the commonest hash: every search for it looks at so many."""
    return int(np.bincount(_hashes(_padded(text))).max(initial=0))


def _padded(text: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """With a word of zeros behind, so that the place before the first is a 0 too."""
    return np.concatenate([text, np.zeros(WORD, np.uint8)])


def _words(padded: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """At each place its byte and the next seven, the first lowest: a view, without a copy."""
    return np.ndarray(len(padded) - WORD + 1, np.dtype("<u8"), padded.data, 0, (1,))


def _hashes(padded: NDArray[np.uint8]) -> NDArray[np.uint16]:
    """Of the LEAST bytes from each place."""
    count = len(padded) - WORD + 1
    out = np.zeros(count, np.uint16)
    for place in range(LEAST):
        out *= np.uint16(0x9E37)
        out ^= out >> np.uint16(7)
        out += padded[place : place + count]
    return out


def _alike(one: NDArray[np.uint64], other: NDArray[np.uint64]) -> Places:
    """How many bytes of two words are the same and not 0, from the lowest on."""
    parts = one.reshape(-1, 1).view(np.uint8)
    same = (parts == other.reshape(-1, 1).view(np.uint8)) & (parts != 0)
    return np.where(same.all(axis=1), WORD, same.argmin(axis=1))
