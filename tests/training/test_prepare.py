"""training.prepare: MAESTRO and anyone's MIDI files become shards, however often it is cut off."""

import errno
import json
import os
import random
import signal
import subprocess
import sys
import textwrap
import time
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shortcut_gen.media import Note, Score, read_score
from shortcut_gen.modalities import get_tokenizer
from tests.shared import midi_files as mf
from training import prepare as prepare_module
from training.corpus.scores import MaestroSource, MidiFolderSource, assign_splits
from training.corpus.shards import SPLITS, Corpus
from training.prepare import main, prepare

TABLE = "maestro-v3.0.0.csv"


def score(seed: int, notes: int = 20) -> Score:
    draw = random.Random(seed)
    starts = [0.1 * step for step in range(notes)]
    return Score(
        notes=tuple(
            Note(pitch=draw.randint(30, 90), velocity=draw.randint(1, 127), start=t, end=t + 0.3) for t in starts
        )
    )


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder laid out as MAESTRO's, of 14 tiny pieces."""
    folder = tmp_path_factory.mktemp("maestro") / "maestro-v3.0.0"
    rows = ["canonical_composer,canonical_title,split,year,midi_filename,audio_filename,duration"]
    for number in range(14):
        split = ("train", "train", "train", "train", "train", "validation", "test")[number % 7]
        name = f"{2004 + number % 3}/piece {number}, op. 1.midi"
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        score(number).write(folder / name)
        rows.append(f'Clara Schumann,"A title, with ""marks""",{split},2004,"{name}",x.wav,1.0')
    (folder / TABLE).write_text("\n".join(rows) + "\n")
    return folder


def zipped(folder: Path, path: Path, root: str = "maestro-v3.0.0/") -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, root + file.relative_to(folder).as_posix())
    return path


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def run(*args: object) -> int:
    return main([str(arg) for arg in args])


def test_zip_and_folder_give_the_same_shards(unpacked: Path, tmp_path: Path) -> None:
    archive = zipped(unpacked, tmp_path / "maestro-v3.0.0-midi.zip")
    for source, out in ((archive, "zip"), (unpacked, "folder")):
        assert run("maestro", "--source", source, "--out", tmp_path / out, "--workers", 1) == 0
    first, second = contents(tmp_path / "zip"), contents(tmp_path / "folder")
    manifests = [json.loads(files.pop("manifest.json")) for files in (first, second)]
    assert [manifest.pop("source") for manifest in manifests] == ["maestro-v3.0.0-midi.zip", "maestro-v3.0.0"]
    assert manifests[0] == manifests[1]
    assert first == second
    assert set(first) == {f"{split}/shard-00000.npy" for split in SPLITS}


def test_shards_hold_what_the_tokenizer_says(unpacked: Path, tmp_path: Path) -> None:
    assert run("maestro", "--source", unpacked, "--out", tmp_path / "out", "--workers", 1) == 0
    corpus = Corpus.open(tmp_path / "out")
    corpus.verify()
    tokenizer = get_tokenizer("piano")
    seen = 0
    for name in SPLITS:
        split = corpus.split(name)
        for piece, (path, ids) in zip(split.pieces, split, strict=True):
            expected = read_score(unpacked / path)
            assert ids.tolist() == tokenizer.encode(expected)
            assert piece.notes == len(expected.notes)
            assert piece.seconds == pytest.approx(expected.duration, abs=0.01)
            seen += 1
    assert seen == 14
    assert [len(corpus.split(name)) for name in SPLITS] == [10, 2, 2]
    assert (corpus.licence, corpus.name, corpus.manifest["skipped"]) == ("CC BY-NC-SA 4.0", "maestro-v3.0.0", [])
    assert corpus.manifest["splits"]["train"]["notes"] == corpus.split("train").notes == 200


def test_two_processes_write_what_one_writes(unpacked: Path, tmp_path: Path) -> None:
    for workers in (1, 2):
        prepare(MaestroSource(unpacked), tmp_path / str(workers), workers=workers, pieces_per_shard=3)
    assert contents(tmp_path / "1") == contents(tmp_path / "2")
    assert len(list((tmp_path / "1" / "train").iterdir())) == 4


KILLED = textwrap.dedent("""
    import os, signal, sys
    from pathlib import Path
    from training.prepare import prepare
    from training.corpus.scores import MaestroSource

    class Killing(MaestroSource):
        left = int(sys.argv[3])

        def load(self, name):
            if not self.left:
                os.kill(os.getpid(), signal.SIGKILL)
            self.left -= 1
            return super().load(name)

    prepare(Killing(Path(sys.argv[1])), Path(sys.argv[2]), workers=1, pieces_per_shard=3)
""")


@pytest.mark.parametrize("pieces", [0, 4, 13])
def test_goes_on_where_it_was_killed(
    unpacked: Path, tmp_path: Path, pieces: int, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    prepare(MaestroSource(unpacked), whole, workers=1, pieces_per_shard=3)
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, unpacked, cut, str(pieces)], cwd=root, capture_output=True, check=False
    )
    assert killed.returncode == -signal.SIGKILL
    assert not (cut / "manifest.json").exists()
    done = {path: path.stat().st_mtime_ns for path in cut.glob("*/shard-*.npy")}
    assert len(done) == {0: 0, 4: 1, 13: 5}[pieces]

    encoded = []
    encode_all = prepare_module.encode_all
    monkeypatch.setattr(
        prepare_module, "encode_all", lambda s, names, **rest: encode_all(s, encoded.extend(names) or names, **rest)
    )
    prepare(MaestroSource(unpacked), cut, workers=1, pieces_per_shard=3)
    assert contents(cut) == contents(whole)
    assert {path: path.stat().st_mtime_ns for path in done} == done  # not written again
    assert len(encoded) == 14 - {0: 0, 4: 3, 13: 12}[pieces]


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")
def test_a_killed_run_leaves_no_process_behind(unpacked: Path, tmp_path: Path, root: Path) -> None:
    code = "import sys; from training.prepare import main; main(sys.argv[1:])"
    many = tmp_path / "many"
    many.mkdir()
    score(0, notes=2000).write(many / "0.mid")
    for number in range(1, 200):
        (many / f"{number}.mid").hardlink_to(many / "0.mid")
    args = ["midi-folder", "--source", many, "--out", tmp_path / "out", "--workers", "2"]
    parent = subprocess.Popen([sys.executable, "-c", code, *args], cwd=root, stderr=subprocess.DEVNULL)
    children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children")
    pids: list[str] = []
    deadline = time.monotonic() + 60
    while len(pids) < 3 and parent.poll() is None and time.monotonic() < deadline:  # two and a resource tracker
        pids = children.read_text().split()
        time.sleep(0.02)
    parent.kill()
    parent.wait()
    assert len(pids) == 3
    while any(alive(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(alive(pid) for pid in pids)


def alive(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_a_complete_corpus_is_left_alone(unpacked: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    args = ("maestro", "--source", unpacked, "--out", tmp_path / "out", "--workers", 1)
    assert run(*args) == 0
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")}
    capsys.readouterr()
    assert run(*args) == 0
    assert "is complete already" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")} == before


def refused(capsys: pytest.CaptureFixture[str], *args: object) -> str:
    """Runs a command that must end with exit status 2 and one line; returns the line."""
    capsys.readouterr()
    assert run(*args) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if "%|" not in line and line.strip()]
    assert len(lines) == 1, lines
    assert lines[0].startswith("error: ")
    return lines[0]


def test_another_corpus_in_the_folder(unpacked: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    own = ("midi-folder", "--source", unpacked, "--out", out, "--workers", 1)
    assert run(*own) == 0
    before = contents(out)
    assert "holds another corpus" in refused(capsys, "maestro", "--source", unpacked, "--out", out)
    assert "another corpus (split or layout" in refused(capsys, *own, "--seed", 1)
    assert "another corpus (licence: not stated, not CC0)" in refused(capsys, *own, "--licence", "CC0")
    manifest = json.loads(before["manifest.json"])
    (out / "manifest.json").write_text(json.dumps({**manifest, "tokenizer": "speech"}))
    assert "tokenizer: speech, not piano" in refused(capsys, *own)
    assert {**contents(out), "manifest.json": before["manifest.json"]} == before


def test_an_unfinished_corpus_of_another_plan(
    unpacked: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    (out / ".progress").mkdir(parents=True)
    (out / ".progress/plan.json").write_text('{"format": 1, "corpus": "another"}')
    assert "corpus: another, not maestro" in refused(capsys, "maestro", "--source", unpacked, "--out", out)


def test_a_folder_with_other_files(unpacked: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "thesis.tex").write_text("x")
    assert "holds other files" in refused(capsys, "maestro", "--source", unpacked, "--out", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
    out = tmp_path / "thesis.tex"
    assert "is a file; a folder is needed" in refused(capsys, "maestro", "--source", unpacked, "--out", out)


def test_two_at_once(unpacked: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with prepare_module._claimed(tmp_path / "out"):
        line = refused(capsys, "maestro", "--source", unpacked, "--out", tmp_path / "out")
    assert "being prepared by another process" in line


TABLES: dict[str, bytes] = {
    "no table": b"",
    "no file": b"split,midi_filename\ntrain,2004/gone.midi\n",
    "split": b"split,midi_filename\ntrane,a.mid\n",
    "columns": b"a,b\n1,2\n",
    "binary": b"\xff\xfe\x00",
    "bad midi": b"split,midi_filename\ntrain,a.mid\n",
}


def bad_source(kind: str, unpacked: Path, path: Path) -> None:
    """Writes a zip file with something wrong."""
    if kind in TABLES:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("a.mid", b"x")
            if TABLES[kind]:
                archive.writestr(TABLE, TABLES[kind])
        return
    data = bytearray(zipped(unpacked, path).read_bytes())
    if kind == "truncated":
        data = data[: len(data) // 2]
    elif kind == "damaged":
        at = data.find(b".midi") + 40
        data[at : at + 20] = bytes(20)
    elif kind == "encrypted":  # the flag of it, in the directory at the end and in front of each member
        for signature, flags in ((b"PK\1\2", 8), (b"PK\3\4", 6)):
            at = data.find(signature)
            while at >= 0:
                data[at + flags] |= 1
                at = data.find(signature, at + 1)
    path.write_bytes({"text": b"not a zip", "empty": b""}.get(kind, bytes(data)))
    if kind == "missing":
        path.unlink()


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("missing", "is not there"),
        ("text", "no archive or a damaged one"),
        ("empty", "no archive or a damaged one"),
        ("truncated", "no archive or a damaged one"),
        ("damaged", "source.zip"),
        ("encrypted", "encrypted"),
        ("no table", f"has no {TABLE}"),
        ("no file", "has no 2004/gone.midi"),
        ("split", "'trane', which is no split"),
        ("columns", "has no column 'split'"),
        ("binary", "no csv table"),
        ("bad midi", "a.mid"),
    ],
)
def test_a_bad_source(kind: str, says: str, unpacked: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "source.zip"
    bad_source(kind, unpacked, source)
    assert says in refused(capsys, "maestro", "--source", source, "--out", tmp_path / "out", "--workers", 1)
    assert not list((tmp_path / "out").rglob("shard*"))
    if kind != "bad midi":
        assert not (tmp_path / "out").exists()


@pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() == 0, reason="root may read and write everything")
def test_no_permission(unpacked: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o000)
    try:
        assert "permission denied" in refused(capsys, "maestro", "--source", closed, "--out", tmp_path / "out")
        assert "permission denied" in refused(capsys, "maestro", "--source", unpacked, "--out", closed / "out")
    finally:
        closed.chmod(0o700)


def test_a_full_disk(
    unpacked: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    args = ("maestro", "--source", unpacked, "--out", tmp_path / "out", "--workers", 1)

    def full(_: int) -> None:
        if any((tmp_path / "out").glob("train/*")):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        assert "no space left on device" in refused(capsys, *args)
    assert not [path for path in (tmp_path / "out").rglob("*") if path.suffix in (".npy", ".part")]
    assert run(*args) == 0  # with space again, it goes on


def test_a_folder_of_ones_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    music, out = tmp_path / "My music", tmp_path / "out"
    (music / "deep" / "er").mkdir(parents=True)
    for number in range(10):
        score(number).write(music / "deep" / f"{number}.mid")
    for copy in ("copy.MID", "deep/er/copy.kar"):
        (music / copy).write_bytes((music / "deep/3.mid").read_bytes())
    violin = mf.program(0, 40, 1) + mf.on(0, 70, channel=1) + mf.off(480, 70, channel=1)
    (music / "deep" / "0.mid").write_bytes(mf.file(mf.on(0, 60) + mf.off(480, 60), violin))
    (music / "broken.mid").write_bytes(b"MThd and no more")
    (music / "empty.midi").write_bytes(b"")
    (music / "notes.txt").write_text("no music")
    (music / "._0.mid").write_text("a side file of macOS")
    args = ("midi-folder", "--source", music, "--out", out, "--licence", "CC0", "--workers", 1)
    assert run(*args) == 0
    said = capsys.readouterr()
    corpus = Corpus.open(out)
    skipped = corpus.manifest["skipped"]
    assert sorted(piece["name"] for piece in skipped) == ["broken.mid", "empty.midi"]
    assert all(f"left out: {piece['reason']}" in said.err for piece in skipped)
    assert "2 left out" in said.out
    kept = "kept 1 piano notes; left out 1 notes of Violin"
    assert corpus.manifest["kept"] == [{"name": "deep/0.mid", "said": kept}]
    assert f"mended, or used in part: deep/0.mid: {kept}\n" in said.err
    names = [name for split in SPLITS for name, _ in corpus.split(split)]
    assert sorted(names) == sorted(["copy.MID", "deep/er/copy.kar", *(f"deep/{n}.mid" for n in range(10))])
    homes = {split for split in SPLITS for name, _ in corpus.split(split) if "copy" in name or name == "deep/3.mid"}
    assert len(homes) == 1
    assert (corpus.licence, corpus.name) == ("CC0", "My music")
    assert all(len(corpus.split(split)) for split in SPLITS)


def test_nothing_to_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "music").mkdir()
    args = ("midi-folder", "--source", tmp_path / "music", "--out", tmp_path / "out", "--workers", 1)
    assert "has no MIDI file" in refused(capsys, *args)
    (tmp_path / "music/a.mid").write_bytes(b"x")
    assert "no piece to train on can be read, 1 were left out" in refused(capsys, *args)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("shares", [(0.5, 0.5), (-0.1, 0.1), (1, 0)])
def test_bad_shares(unpacked: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], shares: tuple) -> None:
    args = ("--source", unpacked, "--out", tmp_path / "out", "--validation", shares[0], "--test", shares[1])
    assert "shares" in refused(capsys, "midi-folder", *args)


def test_names_that_climb_out(tmp_path: Path) -> None:
    score(1).write(tmp_path / "1.mid")
    data = (tmp_path / "1.mid").read_bytes()
    (tmp_path / "1.mid").unlink()
    with zipfile.ZipFile(tmp_path / "music.zip", "w") as archive:
        for name in ("../../climbs.mid", "/climbs.mid", "fine.mid"):
            archive.writestr(name, data)
    assert run("midi-folder", "--source", tmp_path / "music.zip", "--out", tmp_path / "a/b/out", "--workers", 1) == 0
    assert not list(tmp_path.rglob("*climbs*"))
    assert not Path("/climbs.mid").exists()


@settings(deadline=None)
@given(
    hashes=st.dictionaries(
        st.text(max_size=3), st.sampled_from([f"{n:x}" for n in range(40)]), min_size=1, max_size=60
    ),
    seed=st.integers(0, 2**32),
    validation=st.floats(0, 0.49),
    test=st.floats(0, 0.49),
)
def test_every_file_is_in_one_split(hashes: dict[str, str], seed: int, validation: float, test: float) -> None:
    splits = assign_splits(hashes, seed=seed, validation=validation, test=test)
    assert sorted(name for names in splits.values() for name in names) == sorted(hashes)
    held = {split: {hashes[name] for name in names} for split, names in splits.items()}
    assert not held["train"] & held["test"]
    assert not held["train"] & held["validation"]
    assert not held["validation"] & held["test"]
    assert splits["train"]
    contents = len(set(hashes.values()))
    for split, share in (("validation", validation), ("test", test)):
        assert len(held[split]) <= max(share * contents + 0.5, 1)
        assert not (share and contents >= 3) or held[split]
        assert share or not held[split]


def test_the_split_depends_on_seed_and_content_only() -> None:
    hashes = {f"{n}.mid": f"{n:064x}" for n in range(50)}
    first = assign_splits(hashes, seed=1, validation=0.1, test=0.1)
    assert [len(first[split]) for split in SPLITS] == [40, 5, 5]
    renamed = assign_splits({f"new/{name}": h for name, h in hashes.items()}, seed=1, validation=0.1, test=0.1)
    assert renamed == {split: [f"new/{name}" for name in names] for split, names in first.items()}
    assert assign_splits(hashes, seed=2, validation=0.1, test=0.1) != first


@settings(deadline=None)
@given(good=st.sets(st.integers(0, 11)))
def test_what_is_held_out_can_be_read(good: set[int]) -> None:
    hashes = {f"{n}.mid": f"{n:064x}" for n in range(12)}
    readable = {f"{n}.mid" for n in good}
    splits = assign_splits(hashes, seed=1, validation=0.1, test=0.2, readable=readable.__contains__)
    assert sorted(name for names in splits.values() for name in names) == sorted(hashes)
    assert set(splits["validation"] + splits["test"]) <= readable
    assert not readable or set(splits["train"]) & readable
    assert len(good) < 4 or [len(splits[split]) for split in SPLITS] == [9, 1, 2]


@pytest.mark.maestro
def test_the_official_zip(maestro_zip: Path) -> None:
    """The whole table, and a few performances; `make data` encodes them all."""
    source = MaestroSource(maestro_zip)
    assert {split: len(names) for split, names in source.splits().items()} == {
        "train": 962,
        "validation": 137,
        "test": 177,
    }
    tokenizer = get_tokenizer("piano")
    for split in SPLITS:
        piece = source.load(source.splits()[split][7])
        assert len(tokenizer.encode(piece)) > 2 * len(piece.notes) > 200


def test_sources_say_what_they_are(unpacked: Path) -> None:
    own = MidiFolderSource(unpacked, corpus="mine", licence="CC0", seed=0, validation=0.1, test=0.1)
    assert own.digest() != MaestroSource(unpacked).digest()
    assert (
        own.digest()
        == MidiFolderSource(unpacked, corpus="other", licence="", seed=9, validation=0.0, test=0.0).digest()
    )


def test_what_kills_left_half_written_is_taken_away(
    unpacked: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Killed behind its manifest, a run leaves its progress; killed within a write, a part of a file."""
    args = ("maestro", "--source", unpacked, "--out", tmp_path / "out", "--workers", 1)
    assert run(*args) == 0
    whole = contents(tmp_path / "out")
    (tmp_path / "out/.progress").mkdir()
    (tmp_path / "out/.progress/train-00000.json").write_text("{}")
    assert run(*args) == 0
    assert "is complete already" in capsys.readouterr().out
    assert not (tmp_path / "out/.progress").exists()
    assert contents(tmp_path / "out") == whole
