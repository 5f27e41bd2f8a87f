"""`shortcut-gen COMMAND`, from any folder."""

import subprocess
import sys
from pathlib import Path

import pytest

import shortcut_gen
from shortcut_gen import console, shipped


def test_it_lists_every_command_and_refuses_others(capsys: pytest.CaptureFixture[str]) -> None:
    assert console.main(["--help"]) == 0
    listed = capsys.readouterr().out
    for name in ("demo", "generate", "fit", "prepare", "evaluate"):
        assert f"  {name} " in listed
    assert console.main([]) == 2
    assert console.main(["generat"]) == 2
    assert "there is no command 'generat'" in capsys.readouterr().err
    assert console.main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == shortcut_gen.__version__


def test_a_command_gets_its_arguments_and_gives_its_exit_code(root: Path, tmp_path: Path) -> None:
    environment = {"PYTHONPATH": str(root), "PATH": "/usr/bin:/bin"}
    for arguments, code, said in (
        (["generate", "nothing.mid", "--out", "out"], 2, "error: nothing.mid: no such file"),
        (["fit", "--dta.path", "x"], 2, "did you mean --data.path?"),
        (["generate", "--help"], 0, "--top-p"),
    ):
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-m", "shortcut_gen.console", *arguments],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code, done.stderr
        assert said in done.stdout + done.stderr


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def lacking(*_: object, **__: object) -> None:
        raise ModuleNotFoundError("No module named 'gradio'", name="gradio")

    monkeypatch.setattr(console.runpy, "run_module", lacking)
    assert console.main(["demo"]) == 2
    assert "pip install 'shortcut-gen[ui]'" in capsys.readouterr().err


def test_checkpoints_are_found_from_any_folder(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert shipped.checkpoints() == root / "checkpoints"
    (tmp_path / "checkpoints").mkdir()
    assert shipped.checkpoints() == Path("checkpoints")  # one's own go first
    package = tmp_path / "site-packages/shortcut_gen"
    (package / "checkpoints/piano").mkdir(parents=True)
    monkeypatch.setattr(shipped, "__file__", str(package / "shipped.py"))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert shipped.checkpoints() == package / "checkpoints"
