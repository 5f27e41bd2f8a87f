"""What the libraries in C++ (native/, cpu_kernels/) have in common: how one is found, and the instruction sets."""

import ctypes
import os
from collections.abc import Mapping
from pathlib import Path

LEVELS = ("plain", "avx2", "avx512", "avx512-dot")
"""Instruction sets by number, each with those before it; avx512-dot has products of bf16 and of int8 too."""

FORCED_LEVEL = "SHORTCUT_GEN_NATIVE"
"""An environment variable: one of LEVELS, to run below what the machine can do."""

Functions = Mapping[str, tuple[object, tuple[object, ...]]]
"""Result and arguments of each function, as ctypes has them."""


def load(folder: Path, stem: str, what: str, functions: Functions) -> ctypes.CDLL | str:
    """The library of that stem, or why there is none; `what` is its name in the sentence, verb included."""
    found = [path for suffix in ("so", "dylib", "pyd") for path in folder.glob(f"{stem}*.{suffix}")]
    if not found:
        return f"{what} not built (a C++17 compiler was missing when this was installed)"
    try:
        library = ctypes.CDLL(str(found[0]))
        for name, (result, arguments) in functions.items():
            function = getattr(library, name)
            function.restype, function.argtypes = result, arguments
    except (OSError, AttributeError) as error:
        return f"{what} not loaded ({' '.join(str(error).split())})"
    return library


def forced_level() -> str | None:
    """The level that the environment names, which may be none of LEVELS."""
    return os.environ.get(FORCED_LEVEL) or None
