"""The checkpoint folder: what is written comes back, and every damage has its one line."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
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


# What a damaged or hostile folder may not do ---------


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"layers": 10**6}, "model layers is 1000000; a whole number from 1 to 1,024"),
        ({"context": 10**9, "position": "rotary"}, "model context is 1000000000"),
        ({"shortcut_heads": 2.0}, "model shortcut_heads is 2.0; a whole number"),
        ({"width": True}, "model width is True"),
        ({"taps": [True, 2]}, "taps are (True, 2)"),
        ({"taps": 3}, "taps is 3; a list"),
        ({"dropout": "much"}, "dropout is much"),
        ({"layers": 900}, "lacks the tensor"),
        ({"context": 2**20, "position": "rotary", "width": 2**14}, "GiB of keys and values"),
    ],
)
def test_a_shape_is_checked_before_memory_is_taken(
    folder: Path, change: dict[str, object], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shortcut_gen.folder.load_file", lambda path: pytest.fail("the weights were read"))
    model = json.loads((folder / "config.json").read_text())["model"]
    edit(folder, model=model | change)
    assert said in refusal(folder)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"[" * 100_000, "nested deeper than 64"),
        (b'{"a":' * 70 + b"1" + b"}" * 70, "nested deeper than 64"),
        (b'{"format": 1, "figures": {"nll": NaN}}', "NaN is no number"),
        (b'{"format": 1e999}', "a number out of range"),
        (b"\xff\xfe{}", "not JSON"),
        (b" " * (5 * 2**20), "more than 4,194,304 bytes"),
    ],
)
def test_a_config_that_is_no_sane_json_is_refused(folder: Path, text: bytes, said: str) -> None:
    (folder / "config.json").write_bytes(text)
    assert said in refusal(folder)


def header(tensors: object, length: int | None = None) -> bytes:
    text = json.dumps(tensors).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "no header"),
        (header({}, length=2**40), "its header has 1,099,511,627,776 bytes"),
        (header({}, length=60_000), "ends inside its header"),
        (header({f"t{i}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for i in range(100_000)}), "bytes"),
        (header([1, 2]), "damaged"),
        (header({"norm.weight": {"dtype": "I64", "shape": [8], "data_offsets": [0, 64]}}), "of type I64"),
        (header({"norm.weight": 5}), "damaged"),
    ],
)
def test_a_header_is_checked_before_the_weights_are_read(
    folder: Path, data: bytes, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shortcut_gen.folder.load_file", lambda path: pytest.fail("the weights were read"))
    (folder / "model.safetensors").write_bytes(data)
    assert said in refusal(folder)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_pipe_or_a_folder_in_a_files_place_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    os.mkfifo(folder / name)
    assert "is a pipe; a file is needed" in refusal(folder)
    (folder / name).unlink()
    (folder / name).mkdir()
    assert "is a folder" in refusal(folder)


@given(st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
def test_mutated_folders_are_read_or_refused_in_a_line(folder: Path, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(["config.json", "model.safetensors"]))
    path = folder / name
    whole = path.read_bytes()
    mutated = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, min(len(mutated) - 1, 3000)))
        if data.draw(st.booleans()):
            mutated[at] = data.draw(st.integers(0, 255))
        else:
            del mutated[at : at + data.draw(st.integers(1, 40))]
    path.write_bytes(bytes(mutated))
    said = ""
    try:
        load_checkpoint(folder)
    except CheckpointError as error:
        said = str(error)
    finally:
        path.write_bytes(whole)
    assert "\n" not in said


def test_loading_imports_no_compiler(folder: Path) -> None:
    code = f"import sys; from shortcut_gen import load_checkpoint; load_checkpoint({str(folder)!r})"
    code += "; print('torch._dynamo' in sys.modules)"
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
