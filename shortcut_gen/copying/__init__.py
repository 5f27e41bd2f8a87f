"""Is it copying? The longest run of notes that training performances have too, beside what real music comes to."""

from shortcut_gen.copying.file import INDEX, open_copying, write_copying
from shortcut_gen.copying.index import Copying, Performance, Real, Run, clock_time, told
from shortcut_gen.copying.runs import Line, line, line_of
from shortcut_gen.copying.strings import LEAST

__all__ = [
    "INDEX",
    "LEAST",
    "Copying",
    "Line",
    "Performance",
    "Real",
    "Run",
    "clock_time",
    "line",
    "line_of",
    "open_copying",
    "told",
    "write_copying",
]
