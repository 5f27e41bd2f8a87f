"""Builds the native engine where a C++17 compiler is there; without one, all else is installed the same.

Everything else is in pyproject.toml.
"""

import sys

from setuptools import Extension, setup

ENGINE = Extension(
    "shortcut_gen.native._engine",  # a plain shared library: ctypes loads it, and nothing in it knows Python
    sources=["shortcut_gen/native/engine.cpp"],
    depends=["shortcut_gen/native/kernels.h"],
    language="c++",
    # The instruction sets are chosen in the code, at run time: no -march, so that one build runs anywhere.
    extra_compile_args=["-O3", "-g0", "-std=c++17", "-pthread", "-fvisibility=hidden", "-Wno-psabi"],
    extra_link_args=["-pthread"],
    optional=True,
)

setup(ext_modules=[] if sys.platform == "win32" else [ENGINE])
