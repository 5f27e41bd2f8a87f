"""training.average: the mean of checkpoints, and one line where there is none."""

import dataclasses
import shutil
from pathlib import Path

import pytest
import torch

from shortcut_gen.checkpoint import load_checkpoint, read_info, save_checkpoint
from training import average


@pytest.fixture
def other(tiny_checkpoint: Path, tmp_path: Path) -> Path:
    """The same model with other weights."""
    loaded = load_checkpoint(tiny_checkpoint)
    state = {name: weights + 0.5 for name, weights in loaded.model.state_dict().items()}
    loaded.model.load_state_dict(state)
    info = dataclasses.replace(loaded.info, figures={"test": {"nll": 1.0}}, licence="CC0")
    save_checkpoint(tmp_path / "other", loaded.model, info, torch.float32)
    return tmp_path / "other"


def test_the_mean_lies_between_and_has_no_figures(tiny_checkpoint: Path, other: Path, tmp_path: Path) -> None:
    out = tmp_path / "mean"
    assert average.main([str(tiny_checkpoint), str(other), "--out", str(out)]) == 0
    before, after = (load_checkpoint(folder).model.state_dict() for folder in (tiny_checkpoint, out))
    for name, weights in before.items():
        torch.testing.assert_close(after[name], weights + 0.25, rtol=1e-2, atol=1e-2)
    info = read_info(out)
    assert not info.figures
    assert "`tiny` and `other`" in (out / "README.md").read_text()
    assert "CC0" in info.licence


def test_shares_say_how_much_each_counts(tiny_checkpoint: Path, other: Path, tmp_path: Path) -> None:
    out = tmp_path / "mean"
    assert average.main([str(tiny_checkpoint), str(other), "--out", str(out), "--shares", "3", "1"]) == 0
    before, after = (load_checkpoint(folder).model.state_dict() for folder in (tiny_checkpoint, out))
    for name, weights in before.items():
        torch.testing.assert_close(after[name], weights + 0.125, rtol=1e-2, atol=1e-2)
    assert "`tiny` (75%) and `other` (25%)" in (out / "README.md").read_text()


@pytest.mark.parametrize("shares", [["1"], ["1", "0"], ["1", "-1"], ["1", "1", "1"]])
def test_shares_that_are_none_are_told_in_a_line(
    tiny_checkpoint: Path, other: Path, tmp_path: Path, shares: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [str(tiny_checkpoint), str(other), "--out", str(tmp_path / "mean"), "--shares", *shares]
    assert average.main(arguments) == 2
    assert "above 0 for each of the 2 folders" in capsys.readouterr().err
    assert not (tmp_path / "mean").exists()


@pytest.mark.parametrize("lacking", ["one alone", "another model", "no checkpoint"])
def test_what_cannot_be_averaged_is_told_in_a_line(
    tiny_checkpoint: Path, other: Path, tmp_path: Path, lacking: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = [str(tiny_checkpoint)]
    if lacking == "another model":
        loaded = load_checkpoint(other)
        config = dataclasses.replace(loaded.model.config, context=64)
        small = type(loaded.model)(config)
        save_checkpoint(other, small, dataclasses.replace(loaded.info, model=config))
        folders.append(str(other))
    elif lacking == "no checkpoint":
        shutil.rmtree(other)
        folders.append(str(other))
    assert average.main([*folders, "--out", str(tmp_path / "mean")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "mean").exists()
