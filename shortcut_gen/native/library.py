"""The shared library of engine.cpp: where it lies, its functions' types, and what the machine can run."""

import ctypes
from ctypes import POINTER, c_double, c_int, c_int32, c_int64, c_long, c_void_p
from functools import cache
from pathlib import Path

from shortcut_gen.errors import SettingsError

ABI = 3
"""What `shortcut_abi` must answer: a library built from other sources is not used."""

LEVELS = ("plain", "avx2", "avx512", "avx512-dot")
"""Instruction sets by number, each with those before it; avx512-dot has products of bf16 and of int8 too."""


class Choice(ctypes.Structure):
    """Sampling settings, as sampling.h has them."""

    _fields_ = (("temperature", c_double), ("top_p", c_double), ("min_p", c_double), ("top_k", c_int32))


class Draw(ctypes.Structure):
    """Where C finds what it draws with and where it puts the ids, as pass.h has it."""

    _fields_ = (("how", c_void_p), ("allowed", c_void_p), ("uniforms", c_void_p), ("ids", c_void_p))


_FUNCTIONS: dict[str, tuple[object, tuple[object, ...]]] = {
    "shortcut_abi": (c_int, ()),
    "shortcut_level": (c_int, ()),
    "shortcut_model": (
        c_void_p,
        (POINTER(c_int32), POINTER(c_void_p), POINTER(c_int64), c_int, c_int, c_int, c_int),
    ),
    "shortcut_free_model": (None, (c_void_p,)),
    "shortcut_state": (c_void_p, (c_void_p, c_int)),
    "shortcut_free_state": (None, (c_void_p,)),
    "shortcut_pass": (c_int, (c_void_p, c_int, c_void_p, c_void_p, c_void_p, c_int, c_void_p, c_void_p)),
    "shortcut_copy": (None, (c_void_p, c_int, c_int, c_int)),
    "shortcut_choose": (c_int, (c_void_p, c_void_p, c_long, c_int, c_int, c_void_p)),
}


@cache
def _load() -> ctypes.CDLL | str:
    """The library, or why there is none."""
    found = [path for suffix in ("so", "dylib", "pyd") for path in Path(__file__).parent.glob(f"_engine*.{suffix}")]
    if not found:
        return "the native engine was not built (a C++17 compiler was missing when this was installed)"
    try:
        lib = ctypes.CDLL(str(found[0]))
        for name, (result, arguments) in _FUNCTIONS.items():
            function = getattr(lib, name)
            function.restype, function.argtypes = result, arguments
    except (OSError, AttributeError) as error:
        return f"the native engine cannot be loaded ({' '.join(str(error).split())})"
    if lib.shortcut_abi() != ABI:
        return "the native engine was built from other sources; install the project again"
    return lib


def problem() -> str | None:
    """Why the native engine cannot run here, in one line; None where it can."""
    loaded = _load()
    return loaded if isinstance(loaded, str) else None


def library() -> ctypes.CDLL:
    """The library. Raises SettingsError where there is none."""
    loaded = _load()
    if isinstance(loaded, str):
        raise SettingsError(f"{loaded}; choose the torch engine")
    return loaded


def machine_level() -> str:
    """The best of LEVELS that this machine has. Raises SettingsError where the library is not built."""
    return LEVELS[library().shortcut_level()]
