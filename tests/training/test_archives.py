"""Folders and archives are listed and opened in one way, whatever is in them; manifests are read strictly."""

import io
import json
import os
import pickle
import socket
import tarfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shortcut_gen.errors import DataError
from tests.shared import midi_files as mf
from tests.shared.tiny_runs import arguments, write_corpus
from training import fit
from training.corpus.archives import FolderFiles, HeldFiles, name_of, open_files, read
from training.corpus.recordings import find, is_recording, open_recordings
from training.corpus.shards import Corpus
from training.prepare import main

LATIN = b"b\xe9la"
SONG = mf.file(mf.on(0, 60) + mf.off(480, 60) + mf.on(0, 64) + mf.off(480, 64))
FILES = {"a.mid": b"one", "deep/b.mid": b"two", "._a.mid": b"side", ".git/c.mid": b"hidden", "__MACOSX/a.mid": b"mac"}
SEEN = ["a.mid", "deep/b.mid"]


def pack(kind: str, tmp_path: Path, files: dict[str, bytes] = FILES) -> Path:
    path = tmp_path / f"source.{kind}"
    if kind == "folder":
        for name, data in files.items():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes(data)
    elif kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name, data in files.items():
                archive.writestr(name, data)
    else:
        with tarfile.open(path, f"w:{kind.partition('.')[2]}") as archive:  # type: ignore[call-overload]
            for name, data in files.items():
                member = tarfile.TarInfo(name)
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
    return path


KINDS = ["folder", "zip", "tar", "tar.gz", "tar.xz"]


@pytest.mark.parametrize("kind", KINDS)
def test_all_kinds_list_and_open_the_same_files(kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    files = open_files(pack(kind, tmp_path), "it")
    assert sorted(files.names()) == SEEN
    assert "left out 3 hidden files, such as" in caplog.text
    again = pickle.loads(pickle.dumps(files))  # another process opens its own
    for some in (files, again, HeldFiles(files, lambda name: True, 100)):
        assert read(some, "deep/b.mid", 3) == b"two"
        with pytest.raises(DataError, match="more than 2 bytes"):
            read(files, "deep/b.mid", 2)
        with pytest.raises(DataError):
            read(some, "none", 3)


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz"])
def test_paths_that_lead_out_of_an_archive_are_left_out_and_named(
    kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = pack(kind, tmp_path, {"../a.wav": b"x", "/b.wav": b"x", "c/../../d.wav": b"x", "./e.wav": b"x"})
    said = "left out 3 files of a path that leads out of the archive, such as ../a.wav"
    assert open_files(source, "it").names() == ["./e.wav"]
    assert said in caplog.text
    caplog.clear()
    assert [blob.name for blob in open_recordings(source).scan()] == ["./e.wav"]
    assert said in caplog.text


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("command", ["midi-folder", "novels"])
def test_every_source_takes_every_kind(kind: str, command: str, tmp_path: Path) -> None:
    suffix = "mid" if command == "midi-folder" else "txt"
    content = SONG if command == "midi-folder" else b"It was a dark and stormy night. " * 9
    source = pack(kind, tmp_path, {f"{name}.{suffix}": content + bytes([97 + k]) for k, name in enumerate("abc")})
    more = ["--tokens", "characters"] if command == "novels" else []
    out = tmp_path / "out"
    assert main([command, "--source", str(source), "--out", str(out), "--workers", "1", *more]) == 0
    assert sum(len(Corpus.open(out).split(split)) for split in ("train", "validation", "test")) == 3


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    """A folder with a file, a pipe, a socket and links to nothing, to themselves and to the file."""
    folder = tmp_path / "odd"
    folder.mkdir()
    (folder / "good.wav").write_bytes(b"x")
    os.mkfifo(folder / "pipe.wav")
    (folder / "nothing.wav").symlink_to("gone")
    (folder / "itself.wav").symlink_to("itself.wav")
    (folder / "linked.wav").symlink_to("good.wav")
    with socket.socket(socket.AF_UNIX) as server:
        here = Path.cwd()
        os.chdir(folder)  # a socket's path must be short
        server.bind("s.wav")
        os.chdir(here)
    return folder


def test_what_is_no_regular_file_is_left_out_and_named(odd: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert FolderFiles(odd).names() == ["good.wav", "linked.wav"]
    assert "left out 4 no regular files, such as" in caplog.text
    assert [path.name for path in find(odd)] == ["good.wav", "linked.wav"]
    assert [blob.name for blob in open_recordings(odd).scan()] == ["good.wav", "linked.wav"]


@pytest.mark.parametrize("name", ["pipe.wav", "nothing.wav", "itself.wav"])
def test_what_is_no_regular_file_is_no_source(odd: Path, name: str) -> None:
    for reader in (lambda path: open_files(path, "it"), open_recordings):
        with pytest.raises(DataError, match=r"not there|no regular file|too many levels"):
            reader(odd / name)


@pytest.mark.parametrize("file", ["my.music.zip", "my.music.tar", "my.music.tar.gz", "my.music.TAR.XZ", "my.music.tgz"])
def test_a_corpus_is_called_as_its_folder_whatever_the_archive(file: str, tmp_path: Path) -> None:
    (tmp_path / "my.music").mkdir()
    assert name_of(tmp_path / "my.music") == name_of(tmp_path / file) == "my.music"


def test_a_member_of_no_name_is_passed_over(tmp_path: Path) -> None:
    """zipfile cuts names at a zero byte, and its own question whether that is a folder fails."""
    path = tmp_path / "some.zip"
    with zipfile.ZipFile(path, "w") as file:
        for name in ("one.mid", "two.mid"):
            file.writestr(name, b"MThd")
    path.write_bytes(path.read_bytes().replace(b"two.mid", b"\0wo.mid"))
    assert list(open_files(path, "it").names()) == ["one.mid"]


def test_a_recording_in_a_hidden_folder_is_none() -> None:
    assert is_recording("a/b.wav")
    assert not any(map(is_recording, ["._b.wav", ".trash/b.wav", "__MACOSX/b.wav", "b.txt"]))


# Names that are no UTF-8


def test_names_that_are_no_utf8_are_prepared_and_can_be_found_again(
    tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    folder = tmp_path / "scores"
    (folder / os.fsdecode(LATIN)).mkdir(parents=True)
    for number in range(3):
        path = folder / os.fsdecode(LATIN) / os.fsdecode(LATIN + b"%d.mid" % number)
        path.write_bytes(SONG + bytes([number]))
    (folder / os.fsdecode(LATIN + b".mid")).write_bytes(b"broken")
    command = ["midi-folder", "--source", str(folder), "--out", str(tmp_path / "out"), "--workers", "1"]
    assert main(command) == 0
    corpus = Corpus.open(tmp_path / "out")
    names = [piece.name for split in corpus.manifest["splits"] for piece in corpus.split(split).pieces]
    assert len(names) == 3
    assert all((folder / name).is_file() for name in names)
    assert main(command) == 0  # again: it is complete
    out, errors = capsysbinary.readouterr()
    assert b"complete already" in out
    assert b"Traceback" not in errors


# Manifests


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    return write_corpus(tmp_path / "data", {"train": [90, 40], "validation": [60], "test": [50]})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda m: m | {"vocab_size": "388"}, "vocab_size is '388'"),
        (lambda m: m | {"vocab_size": 10**9}, "vocab_size is 1000000000"),
        (lambda m: m | {"corpus": 3}, "corpus is no text"),
        (lambda m: m | {"codec": [1]}, "codec is no object"),
        (lambda m: m | {"splits": [1]}, "damaged"),
        (lambda m: [m], "damaged"),
        (lambda m: json.loads(json.dumps(m).replace('"offset": 0', '"offset": false')), "another type"),
        (lambda m: json.loads(json.dumps(m).replace('"tokens": 90', '"tokens": 90.0')), "another type"),
        (lambda m: json.loads(json.dumps(m).replace("train/shard", "../shard")), "outside the corpus folder"),
    ],
)
def test_a_manifest_of_other_types_is_refused(corpus: Path, change: object, said: str) -> None:
    path = corpus / "manifest.json"
    path.write_text(json.dumps(change(json.loads(path.read_text()))))  # type: ignore[operator]
    with pytest.raises(DataError) as caught:
        Corpus.open(corpus)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", [b"[" * 10**5, b"{", b"\xff", b'{"format": NaN}'])
def test_a_manifest_that_is_no_sane_json_is_refused(corpus: Path, text: bytes) -> None:
    (corpus / "manifest.json").write_bytes(text)
    with pytest.raises(DataError, match="not JSON"):
        Corpus.open(corpus)


def test_a_pipe_in_a_manifests_place_is_named(corpus: Path) -> None:
    (corpus / "manifest.json").unlink()
    os.mkfifo(corpus / "manifest.json")
    with pytest.raises(DataError, match="is a pipe; a file is needed"):
        Corpus.open(corpus)


@given(st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
def test_mutated_manifests_are_read_or_refused_in_a_line(corpus: Path, data: st.DataObject) -> None:
    path = corpus / "manifest.json"
    whole = path.read_bytes()
    mutated = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(mutated) - 1))
        mutated[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    path.write_bytes(bytes(mutated))
    said = ""
    try:
        Corpus.open(corpus)
    except DataError as error:
        said = str(error)
    finally:
        path.write_bytes(whole)
    assert "\n" not in said


def test_fit_names_a_damaged_shard_before_it_begins(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shard = corpus / "train/shard-00000.npy"
    data = bytearray(shard.read_bytes())
    data[-5] ^= 1
    shard.write_bytes(data)
    assert fit.main(arguments(tmp_path)) == 2
    assert "shard-00000.npy is damaged (its hash differs)" in capsys.readouterr().err
    shard.write_bytes(data[:-2])
    assert fit.main(arguments(tmp_path)) == 2
    assert "shard-00000.npy is missing or cut short" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()
