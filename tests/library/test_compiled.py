"""What is compiled at installation: it is there wherever it can be, and what cannot be loaded says why."""

import shutil
from pathlib import Path

import pytest

from shortcut_gen.compiled import load
from shortcut_gen.decoding import native
from shortcut_gen.network import cpu_kernels


@pytest.mark.skipif(shutil.which("c++") is None and shutil.which("g++") is None, reason="needs a C++ compiler")
def test_both_libraries_are_built_where_a_compiler_is() -> None:
    """A source that does not compile is left out by pip without a word, and all that tests it would be skipped."""
    assert native.problem() is None
    assert cpu_kernels.problem() is None


def test_a_library_that_is_damaged_or_lacks_a_function_says_so(tmp_path: Path) -> None:
    assert load(tmp_path, "_some", "some library was", {}) == (
        "some library was not built (a C++17 compiler was missing when this was installed)"
    )
    (tmp_path / "_some.so").write_bytes(b"not a library")
    assert str(load(tmp_path, "_some", "some library was", {})).startswith("some library was not loaded (")
