"""The rooms of the repository import each other only as pyproject.toml says."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest


def test_imports_keep_to_the_contracts(root: Path) -> None:
    command = shutil.which("lint-imports", path=str(Path(sys.executable).parent)) or shutil.which("lint-imports")
    if command is None:
        pytest.skip("import-linter is not installed (the extra 'dev')")
    done = subprocess.run([command, "--no-logo", "--no-cache"], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
