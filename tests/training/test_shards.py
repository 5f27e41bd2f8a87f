"""Shards and manifests: what is written is what is read, whole or not at all."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shortcut_gen.errors import DataError
from training.corpus.shards import Corpus, ShardWriter, write_json

PIECES = {"a": [1, 2, 3], "b": [387], "c": list(range(300))}


def write_corpus(folder: Path, pieces: dict[str, list[int]], split: str = "train") -> Path:
    with ShardWriter(folder, f"{split}/shard-00000.npy") as writer:
        for name, ids in pieces.items():
            writer.add(name, np.array(ids, np.uint16), notes=len(ids), seconds=0.5)
        shard = writer.close()
    head = {"format": 1, "corpus": "c", "tokenizer": "piano", "vocab_size": 388, "licence": "CC0", "skipped": []}
    write_json(folder / "manifest.json", {**head, "splits": {split: {"shards": [shard.to_dict()]}}})
    return folder


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    return write_corpus(tmp_path / "corpus", PIECES)


def test_pieces_come_back_as_they_were_written(corpus: Path) -> None:
    opened = Corpus.open(corpus)
    split = opened.split("train")
    assert {name: ids.tolist() for name, ids in split} == PIECES
    assert (split.tokens, split.notes, split.seconds, len(split)) == (304, 304, 1.5, 3)
    assert (opened.name, opened.tokenizer, opened.vocab_size, opened.licence) == ("c", "piano", 388, "CC0")
    opened.verify()


def test_ids_are_mapped_not_read(corpus: Path) -> None:
    split = Corpus.open(corpus).split("train")
    assert isinstance(split[2][1], np.memmap)
    assert len(pickle.dumps(split)) < 2000  # a worker maps the file itself
    assert pickle.loads(pickle.dumps(split))[2][1].tolist() == PIECES["c"]


@settings(deadline=None)
@given(lengths=st.lists(st.integers(0, 2000), max_size=6))
def test_any_lengths(lengths: list[int], tmp_path_factory: pytest.TempPathFactory) -> None:
    pieces = {str(number): list(range(length)) for number, length in enumerate(lengths)}
    split = Corpus.open(write_corpus(tmp_path_factory.mktemp("any"), pieces)).split("train")
    assert {name: ids.tolist() for name, ids in split} == pieces


def test_the_header_keeps_its_length(tmp_path: Path) -> None:
    """It is written before the number of tokens is known."""
    for tokens in (0, 9, 123_456, 2**31):
        with ShardWriter(tmp_path, f"{tokens}.npy") as writer:
            start = writer._stream.tell()  # type: ignore[union-attr]
            writer._tokens = tokens
            writer._stream.seek(0)  # type: ignore[union-attr]
            writer._header()
            assert writer._stream.tell() == start  # type: ignore[union-attr]


def test_an_unfinished_shard_leaves_nothing(tmp_path: Path) -> None:
    with ShardWriter(tmp_path, "train/shard-00000.npy") as writer:
        writer.add("a", np.arange(5, dtype=np.uint16))
    assert list((tmp_path / "train").iterdir()) == []


def test_no_corpus(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has no manifest\.json"):
        Corpus.open(tmp_path)


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"format": 1}', '{"format": 1, "splits": {"train": 3}}', "\0"])
def test_a_damaged_manifest(corpus: Path, text: str) -> None:
    (corpus / "manifest.json").write_text(text)
    with pytest.raises(DataError, match="damaged"):
        Corpus.open(corpus)


def test_another_format(corpus: Path) -> None:
    (corpus / "manifest.json").write_text('{"format": 2}')
    with pytest.raises(DataError, match="format 2; format 1 is needed"):
        Corpus.open(corpus)


def test_a_missing_or_short_shard(corpus: Path) -> None:
    shard = corpus / "train/shard-00000.npy"
    shard.write_bytes(shard.read_bytes()[:200])
    with pytest.raises(DataError, match="cut short"):
        Corpus.open(corpus)
    shard.unlink()
    with pytest.raises(DataError, match="missing"):
        Corpus.open(corpus)


def test_a_shard_of_something_else(corpus: Path) -> None:
    np.save(corpus / "train/shard-00000.npy", np.zeros(400, np.float32))
    with pytest.raises(DataError, match="longer than its manifest says"):
        Corpus.open(corpus).split("train")[0]


@pytest.mark.parametrize(
    ("text", "other"),
    [
        (b"'shape'", b"'shape["),  # no end for numpy's reader of Python
        (b"'<u2'", b"')u2'"),
        (b"'<u2'", b"'|O' "),
        (b"{'descr", b" 'descr"),
        (b"\x93NUMPY", b"PK\3\4NU"),
    ],
)
def test_a_shard_whose_header_is_damaged(corpus: Path, text: bytes, other: bytes) -> None:
    shard = corpus / "train/shard-00000.npy"
    content = shard.read_bytes()
    assert text in content
    shard.write_bytes(content.replace(text, other, 1))
    with pytest.raises(DataError, match="prepare the corpus again"):
        Corpus.open(corpus).split("train")[0]


def test_a_changed_shard(corpus: Path) -> None:
    shard = corpus / "train/shard-00000.npy"
    shard.write_bytes(shard.read_bytes()[:-2] + b"\1\1")
    with pytest.raises(DataError, match="hash differs"):
        Corpus.open(corpus).verify()


def test_a_shard_outside_the_folder(corpus: Path) -> None:
    manifest = json.loads((corpus / "manifest.json").read_text())
    manifest["splits"]["train"]["shards"][0]["file"] = "../other.npy"
    (corpus / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(DataError, match="outside"):
        Corpus.open(corpus)


def test_no_such_split(corpus: Path) -> None:
    with pytest.raises(DataError, match="no split 'test'; it has train"):
        Corpus.open(corpus).split("test")
