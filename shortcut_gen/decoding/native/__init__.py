"""The native engine: decoding on a CPU in C++, called through ctypes. Where it was not built, `problem()` says so."""

from shortcut_gen.compiled import LEVELS
from shortcut_gen.decoding.native.engine import NativeDecoding, NativeEngine, Precision, default_precision
from shortcut_gen.decoding.native.library import machine_level, problem

__all__ = [
    "LEVELS",
    "NativeDecoding",
    "NativeEngine",
    "Precision",
    "default_precision",
    "machine_level",
    "problem",
]
