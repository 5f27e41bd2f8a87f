"""The shared library of kernels.cpp: where it lies, its functions' types, and what the machine can run."""

import ctypes
from ctypes import c_float, c_int, c_int64, c_void_p
from functools import cache
from pathlib import Path

from shortcut_gen import compiled

LEVELS = (*compiled.LEVELS[:3], "amx")
"""Instruction sets by number, each with those before it; amx has products of bfloat16 tiles."""

_FUNCTIONS: compiled.Functions = {
    "kernels_level": (c_int, ()),
    "attention_forward": (c_int, (c_int, c_int, c_void_p, c_void_p, c_void_p, c_void_p, c_void_p)),
    "attention_backward": (
        c_int,
        (c_int, c_int, c_void_p, c_void_p, c_void_p, c_void_p, c_void_p, c_void_p, c_void_p),
    ),
    "gelu": (c_int, (c_int, c_int, c_int, c_int64, c_void_p, c_void_p, c_void_p)),
    "gated": (c_int, (c_int, c_int, c_int, c_int64, c_int, c_void_p, c_void_p, c_void_p)),
    "rotary": (c_int, (c_int, c_int, c_void_p, c_void_p, c_void_p, c_void_p, c_void_p, c_float, c_void_p)),
}


@cache
def load() -> ctypes.CDLL | str:
    """The library, or why there is none."""
    return compiled.load(Path(__file__).parent, "_kernels", "the kernels in C++ were", _FUNCTIONS)


def problem() -> str | None:
    """Why the kernels in C++ cannot run here, in one line; None where it can."""
    loaded = load()
    return loaded if isinstance(loaded, str) else None


def level(lib: ctypes.CDLL) -> int:
    """Number of the best level that the machine has and the environment does not forbid."""
    best: int = lib.kernels_level()
    forced = (compiled.forced_level() or "").removesuffix("-dot")
    return min(best, LEVELS.index(forced)) if forced in LEVELS else best
