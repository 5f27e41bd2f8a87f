"""Builds the native engine and the kernels for training where a C++17 compiler is there; otherwise PyTorch is used.

Everything else is in pyproject.toml.
"""

import sys
from pathlib import Path

from setuptools import Extension, setup

# Plain shared libraries: ctypes loads them, and nothing in them knows Python. The instruction sets are chosen in the
# code, at run time: no -march, so that one build runs anywhere.
HOW = {
    "language": "c++",
    "extra_compile_args": ["-O3", "-g0", "-std=c++17", "-pthread", "-fvisibility=hidden", "-Wno-psabi"],
    "extra_link_args": ["-pthread"],
    "optional": True,
}


def headers(folder: str) -> list[str]:
    """What a change to must build anew."""
    return sorted(str(path) for path in [*Path(folder).glob("*.h"), *Path("shortcut_gen").glob("*.h")])


ENGINE = Extension(
    "shortcut_gen.decoding.native._engine",
    sources=["shortcut_gen/decoding/native/engine.cpp"],
    depends=headers("shortcut_gen/decoding/native"),
    **HOW,
)
KERNELS = Extension(
    "shortcut_gen.network.cpu_kernels._kernels",
    sources=["shortcut_gen/network/cpu_kernels/kernels.cpp"],
    depends=headers("shortcut_gen/network/cpu_kernels"),
    **HOW,
)

setup(ext_modules=[] if sys.platform == "win32" else [ENGINE, KERNELS])
