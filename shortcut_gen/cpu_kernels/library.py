"""The shared library of kernels.cpp: where it lies, its functions' types, and what the machine can run."""

import ctypes
import os
from ctypes import c_int, c_int64, c_void_p
from functools import cache
from pathlib import Path

LEVELS = ("plain", "avx2", "avx512")
"""Instruction sets by number, each with those before it."""

FORCED_LEVEL = "SHORTCUT_GEN_NATIVE"
"""Environment variable that names a lower level, for tests and comparisons: the one that the native engine reads."""

_FUNCTIONS = {
    "kernels_level": (),
    "attention_forward": (c_int, c_int, c_void_p, c_void_p, c_void_p, c_void_p, c_void_p),
    "attention_backward": (c_int, c_int, c_void_p, c_void_p, c_void_p, c_void_p, c_void_p, c_void_p, c_void_p),
    "gelu": (c_int, c_int, c_int, c_int64, c_void_p, c_void_p, c_void_p),
}


@cache
def load() -> ctypes.CDLL | str:
    """The library, or why there is none."""
    found = [path for suffix in ("so", "dylib") for path in Path(__file__).parent.glob(f"_kernels*.{suffix}")]
    if not found:
        return "the kernels in C++ were not built (a C++17 compiler was missing when this was installed)"
    try:
        lib = ctypes.CDLL(str(found[0]))
        for name, arguments in _FUNCTIONS.items():
            function = getattr(lib, name)
            function.restype, function.argtypes = c_int, arguments
    except (OSError, AttributeError) as error:
        return f"the kernels in C++ cannot be loaded ({' '.join(str(error).split())})"
    return lib


def problem() -> str | None:
    """Why the kernels in C++ cannot run here, in one line; None where it can."""
    loaded = load()
    return loaded if isinstance(loaded, str) else None


def level(lib: ctypes.CDLL) -> int:
    """Number of the best level that the machine has and the environment does not forbid."""
    best: int = lib.kernels_level()
    forced = os.environ.get(FORCED_LEVEL, "").removesuffix("-dot")
    return min(best, LEVELS.index(forced)) if forced in LEVELS else best
