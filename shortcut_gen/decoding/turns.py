"""Who has the next turn in a shared batch, and how much of it: pieces of a window, cohorts of rows."""

COHORT_STEPS = 32
"""Steps that some rows make before others have their turn, where not all fit the processor's caches together."""


def pieces(length: int, most: int) -> list[int]:
    """Where the pieces end in which so many tokens are read, each at most `most`: even ones, so that none is small."""
    count = -(-length // most)
    return [length * piece // count for piece in range(1, count + 1)]


class Cohort:
    """Which of the rows that could go on do: all, or, where their caches do not stay near the processor together, some
    of them for a while and then the others."""

    def __init__(self) -> None:
        self._members: set[int] = set()
        self._last = -1
        self._left = 0

    def choose(self, lengths: dict[int, int], near: int) -> set[int]:
        """Places of the rows that make the next step, of those whose lengths are given by place."""
        whole = sum(lengths.values())
        if whole <= near or len(lengths) == 1:
            self._left = 0
            return set(lengths)
        going = self._members & lengths.keys()
        if not self._left or not going:
            share = whole / -(-whole // near)
            # All in turn, from the place behind the last that had its turn; shares as even as can be.
            turn = sorted(lengths, key=lambda place: (place <= self._last, place))
            going, held = set(), 0.0
            for place in turn:
                if going and held + lengths[place] / 2 > share:
                    break
                going.add(place)
                held += lengths[place]
                self._last = place
            self._members, self._left = going, COHORT_STEPS
        self._left -= 1
        return going
