"""The notes of piano ids as lines to look for copies in, without a score in between: a corpus takes a second."""

import numpy as np
from numpy.typing import NDArray

from shortcut_gen.copying import Line, line
from shortcut_gen.modalities.piano import NOTE_OFF, TICKS_PER_SECOND, TIME_SHIFT, VELOCITY


def line_of_ids(ids: NDArray[np.uint16]) -> Line:
    """The line of a performance's ids."""
    waits = (ids >= TIME_SHIFT) & (ids < VELOCITY)
    tick = np.cumsum(np.where(waits, ids.astype(np.int64) - TIME_SHIFT + 1, 0))
    struck = ids < NOTE_OFF
    return line(ids[struck], tick[struck] / TICKS_PER_SECOND)
