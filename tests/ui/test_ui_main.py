"""Starting the demo: its command line, and the checkpoints that it finds."""

import math
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from shortcut_gen.errors import CheckpointError, SettingsError
from shortcut_gen.pipeline import Prompt
from ui.__main__ import check_port, main
from ui.models import Models, find_checkpoints


def test_a_damaged_checkpoint_is_left_out_and_an_empty_folder_refused(
    tiny_checkpoint: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copytree(tiny_checkpoint, tmp_path / "good")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "config.json").write_text("{")
    found = find_checkpoints(tmp_path)
    assert [entry.name for entry in found["piano"]] == ["good"]
    assert "bad" in caplog.text
    for folder in (tmp_path / "bad", tmp_path / "nowhere"):
        with pytest.raises(CheckpointError, match=folder.name):
            find_checkpoints(folder)
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match="no checkpoint"):
        find_checkpoints(tmp_path / "empty")


def test_a_checkpoint_whose_weights_cannot_be_used_does_not_keep_the_page_from_starting(
    tiny_checkpoint: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither one whose header shows it, nor one that only running shows, though it would be the first."""
    for name in ("piano", "cut", "good"):
        shutil.copytree(tiny_checkpoint, tmp_path / name)
    (tmp_path / "cut/model.safetensors").write_bytes(b"\x10")
    weights = load_file(tmp_path / "piano/model.safetensors")
    weights["norm.weight"].fill_(math.nan)
    save_file(weights, tmp_path / "piano/model.safetensors")
    models = Models(find_checkpoints(tmp_path)["piano"])
    assert models.default == "piano"
    models.warm_up(Prompt.empty())
    assert [entry.name for entry in models.entries] == ["good"]
    assert "cut" in caplog.text
    assert "norm.weight holds values that are not finite" in caplog.text


def test_the_models_of_a_page_are_loaded_once(models: Models) -> None:
    assert models.pipeline() is models.pipeline("tiny")
    assert models.entries[0].label == "tiny"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--checkpoints", "/nowhere/at/all", "--port", "7999"], "/nowhere/at/all is no folder"),
        (["--port", "99999"], "port is 99999"),
        (["--threads", "0", "--port", "7999"], "threads is 0"),
        (["--host", "not a host", "--port", "7999"], "not a host"),
    ],
)
def test_a_bad_command_line_is_one_line_and_2(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert message in error


def test_a_port_in_use_is_one_line() -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(SettingsError, match=f"port {port}"):
            check_port("127.0.0.1", port)
