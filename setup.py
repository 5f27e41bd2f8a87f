"""Builds the native engine and the kernels for training where a C++17 compiler is there; otherwise PyTorch is used.

Everything else is in pyproject.toml.
"""

import json
import shutil
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_py import build_py

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


class WithCheckpoints(build_py):
    """Puts the demo's two checkpoints and the codec of the second into an installed package; a checkout has its own."""

    def run(self) -> None:
        """As in setuptools, then the checkpoints."""
        super().run()
        source = Path("checkpoints")
        if self.editable_mode or not (source / "piano").is_dir():  # the Dockerfile installs dependencies alone
            return
        codec = json.loads((source / "speech/config.json").read_text(encoding="utf-8"))["codec"]["name"]
        for name in ("piano", "speech", codec):
            shutil.copytree(source / name, Path(self.build_lib) / "shortcut_gen/checkpoints" / name, dirs_exist_ok=True)


setup(cmdclass={"build_py": WithCheckpoints}, ext_modules=[] if sys.platform == "win32" else [ENGINE, KERNELS])
