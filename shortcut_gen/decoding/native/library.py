"""The shared library of engine.cpp: where it lies, its functions' types, and what the machine can run."""

import ctypes
from ctypes import POINTER, c_double, c_int, c_int32, c_int64, c_long, c_void_p
from functools import cache
from pathlib import Path

from shortcut_gen import compiled
from shortcut_gen.compiled import LEVELS
from shortcut_gen.errors import SettingsError

ABI = 8
"""What `shortcut_abi` must answer: a library built from other sources is not used."""


class Shape(ctypes.Structure):
    """A model's sizes and options, as model.h has them."""

    _fields_ = (
        *((name, c_int32) for name in ("vocab", "context", "layers", "width", "heads", "feedforward")),
        *((name, c_int32) for name in ("feature_hidden", "shortcut_heads", "feature_mlps", "attend_current")),
        *((name, c_int32) for name in ("literal", "rotary", "value_residual", "swiglu")),
        ("blocks", POINTER(c_int32)),
    )


class Choice(ctypes.Structure):
    """Sampling settings, as sampling.h has them."""

    _fields_ = (("temperature", c_double), ("top_p", c_double), ("min_p", c_double), ("top_k", c_int32))


class Draw(ctypes.Structure):
    """Where C finds what it draws with, row by row, and where it puts the ids, as pass.h has it."""

    _fields_ = tuple((name, c_void_p) for name in ("how", "allowed", "uniforms", "ids", "twins", "guidance"))


_FUNCTIONS: compiled.Functions = {
    "shortcut_abi": (c_int, ()),
    "shortcut_level": (c_int, ()),
    "shortcut_model": (
        c_void_p,
        (POINTER(Shape), POINTER(c_void_p), POINTER(c_int64), c_int, c_int, c_int, c_int),
    ),
    "shortcut_free_model": (None, (c_void_p,)),
    "shortcut_state": (c_void_p, (c_void_p, c_int)),
    "shortcut_free_state": (None, (c_void_p,)),
    "shortcut_pass": (c_int, (c_void_p, c_int, c_void_p, c_void_p, c_void_p, c_int, c_void_p, c_void_p)),
    "shortcut_watch": (None, (c_void_p, c_void_p, c_void_p)),
    "shortcut_bias": (c_int, (c_void_p, c_int, c_void_p)),
    "shortcut_copy": (None, (c_void_p, c_int, c_int, c_int)),
    "shortcut_choose": (c_int, (c_void_p, c_void_p, c_long, c_int, c_int, c_void_p)),
}


@cache
def _load() -> ctypes.CDLL | str:
    """The library, or why there is none."""
    found = compiled.load(Path(__file__).parent, "_engine", "the native engine was", _FUNCTIONS)
    if not isinstance(found, str) and found.shortcut_abi() != ABI:
        return "the native engine was built from other sources; install the project again"
    return found


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


def chosen_level(wanted: str | None = None) -> str:
    """The one of LEVELS to use: `wanted`, or what the environment names, or the machine's best. Raises SettingsError
    where this machine does not have it.
    """
    best = machine_level()
    named = wanted or compiled.forced_level() or best
    if named not in LEVELS[: LEVELS.index(best) + 1]:
        there = ", ".join(LEVELS[: LEVELS.index(best) + 1])
        raise SettingsError(f"the instruction set {named!r} is not available here; one of {there} is needed")
    return named
