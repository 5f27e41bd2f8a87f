"""The checkpoint folder: what is written comes back, and every damage has its one line."""

import errno
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from shortcut_gen import CheckpointInfo, ModelConfig, ShortcutLM, load_checkpoint, save_checkpoint
from shortcut_gen.checkpoint import read_info, write_info
from shortcut_gen.errors import CheckpointError

CONFIG = ModelConfig(
    context=16, layers=3, width=8, heads=2, feedforward=8, taps=(1, 2), feature_hidden=8, shortcut_heads=2
)
INFO = CheckpointInfo(
    model=CONFIG,
    tokenizer="piano",
    corpus={"name": "maestro"},
    figures={"test": {"nll": 2.5}},
    licence="CC BY-NC-SA 4.0",
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    save_checkpoint(tmp_path / "piano", ShortcutLM(CONFIG), INFO)
    return tmp_path / "piano"


def refusal(folder: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(folder)
    text = str(caught.value)
    assert "\n" not in text
    return text


def edit(folder: Path, **changes: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_round_trip(folder: Path) -> None:
    torch.manual_seed(0)
    model = ShortcutLM(CONFIG).eval()
    loaded = load_checkpoint(folder)
    assert loaded.info == INFO
    assert not loaded.model.training
    tokens = torch.randint(0, 388, (2, 16))
    rounded = ShortcutLM(CONFIG).eval()
    rounded.load_state_dict({name: value.bfloat16().float() for name, value in model.state_dict().items()})
    assert torch.equal(loaded.model(tokens), rounded(tokens))
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]


def test_figures_can_be_written_without_the_weights(folder: Path) -> None:
    before = (folder / "model.safetensors").read_bytes()
    write_info(folder, CheckpointInfo(model=CONFIG, tokenizer="piano", figures={"test": {"nll": 1.9}}))
    assert read_info(folder).figures == {"test": {"nll": 1.9}}
    assert (folder / "model.safetensors").read_bytes() == before


def test_a_missing_and_an_extra_tensor(folder: Path) -> None:
    path = folder / "model.safetensors"
    state = load_file(path)
    save_file({name: value for name, value in state.items() if name != "norm.weight"}, path)
    assert "lacks the tensor norm.weight that" in refusal(folder)
    save_file(state | {"stray": torch.zeros(1)}, path)
    assert "holds the tensor stray that" in refusal(folder)


def test_a_tensor_of_another_shape_or_not_finite(folder: Path) -> None:
    path = folder / "model.safetensors"
    state = load_file(path)
    save_file(state | {"norm.weight": torch.ones(9)}, path)
    assert "norm.weight has shape (9,); (8,) is needed" in refusal(folder)
    save_file(state | {"norm.weight": torch.full((8,), torch.nan)}, path)
    assert "not finite" in refusal(folder)


@pytest.mark.parametrize("size", [0, 4, 100, 2000])
def test_truncated_weights(folder: Path, size: int) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:size])
    assert "model.safetensors: cannot be read, perhaps cut short" in refusal(folder)


def test_wrong_vocabulary(folder: Path) -> None:
    edit(folder, model=ModelConfig(vocab_size=1024).to_dict())
    assert "1024 ids but the piano tokenizer 388" in refusal(folder)


def test_damaged_configs(folder: Path) -> None:
    edit(folder, author="me")
    assert "unknown key 'author'" in refusal(folder)
    path = folder / "config.json"
    values = json.loads(path.read_text())
    del values["author"]
    path.write_text(json.dumps(values | {"model": values["model"] | {"depth": 4}}))
    assert "unknown key 'depth'" in refusal(folder)
    path.write_text(json.dumps(values | {"model": values["model"] | {"width": "wide"}}))
    assert "width is 'wide'" in refusal(folder)
    path.write_text(json.dumps(values | {"tokenizer": "harp"}))
    assert "unknown tokenizer 'harp'" in refusal(folder)
    path.write_text(json.dumps(values | {"format": 9}))
    assert "format is not 1" in refusal(folder)
    for wrong in ("figures", "corpus", "model"):
        path.write_text(json.dumps(values | {wrong: 3}))
        assert f"{wrong} is a int" in refusal(folder)
    path.write_text("[]")
    assert "holds a list" in refusal(folder)
    path.write_text('{"model": ')
    assert "not JSON" in refusal(folder)


def test_missing_parts(folder: Path, tmp_path: Path) -> None:
    assert "no config.json there" in refusal(tmp_path / "nowhere")
    (folder / "model.safetensors").unlink()
    assert "no model.safetensors there" in refusal(folder)


def test_a_full_disk_leaves_the_old_checkpoint(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(CheckpointError, match="cannot be written: no space left on device"):
        save_checkpoint(folder, ShortcutLM(CONFIG), INFO)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_figures_that_are_no_numbers_are_not_written(folder: Path) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        write_info(folder, CheckpointInfo(model=CONFIG, tokenizer="piano", figures={"nll": float("nan")}))
    assert read_info(folder) == INFO
