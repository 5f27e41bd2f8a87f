"""Checkpoints, corpora and results by URL: in memory, on disk, and in moto's S3 where that is installed."""

import importlib.util
import json
import os
import random
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from shortcut_gen import Pipeline, Prompt, SamplingParams, generate
from shortcut_gen.batch import outbox
from shortcut_gen.errors import CheckpointError, DataError, MediaError
from shortcut_gen.media import Note, Score
from shortcut_gen.places import CACHE, Store, Url, place
from tests.shared.small_models import tiny_speech_checkpoint
from training import attention_maps, average, evaluate, evaluate_piano, export, fit, prepare
from training.corpus.joined import open_corpus
from training.corpus.remote import Upload
from training.corpus.shards import Corpus

fsspec = pytest.importorskip("fsspec", reason="the extra remote is not installed")
S3 = all(importlib.util.find_spec(name) for name in ("moto", "s3fs", "flask"))
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")  # of S3's packages


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    from moto.server import ThreadedMotoServer

    made = ThreadedMotoServer(port=0, verbose=False)
    made.start()
    host, port = made.get_host_and_port()
    yield f"http://{host}:{port}"
    made.stop()


@pytest.fixture(params=["memory", "file", pytest.param("s3", marks=pytest.mark.skipif(not S3, reason="no moto"))])
def root(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Url:
    """A new, empty folder by URL."""
    monkeypatch.setenv(CACHE, str(tmp_path / "cache"))
    name = f"bucket-{secrets.token_hex(4)}"
    if request.param == "file":
        return Url((tmp_path / name).as_uri())
    if request.param == "s3":
        for key in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.setenv(key, "testing")
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        monkeypatch.setenv("AWS_ENDPOINT_URL", request.getfixturevalue("server"))
        fsspec.filesystem("s3", skip_instance_cache=True).mkdir(name)
    return Url(f"{request.param}://{name}")


def put(folder: Path, url: Url) -> None:
    store = Store(url, MediaError)
    for path in folder.rglob("*"):
        if path.is_file():
            store.upload(path, path.relative_to(folder).as_posix())


def midi_files(folder: Path, count: int = 12, length: int = 20) -> Path:
    folder.mkdir()
    for number in range(count):
        draw = random.Random(number)
        steps = [0.1 * step for step in range(length)]
        notes = tuple(Note(pitch=draw.randint(30, 90), velocity=64, start=t, end=t + 0.3) for t in steps)
        Score(notes=notes).write(folder / f"piece-{number}.mid")
    return folder


def files(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def fetched(url: Url, to: Path) -> dict[str, bytes]:
    """All that lies at a URL."""
    store = Store(url, MediaError)
    folders = [""]
    while folders:
        folder = folders.pop()
        for name, size in store.names(folder).items():
            path = f"{folder}/{name}".strip("/")
            if size < 0:
                folders.append(path)
            else:
                store.download(path, to / path)
    return files(to) if to.is_dir() else {}


def test_a_path_stays_a_path_and_imports_no_fsspec(tiny_checkpoint: Path) -> None:
    assert isinstance(place("checkpoints/piano"), Path) and isinstance(place("C:/piano"), Path)
    code = "import sys\nfrom shortcut_gen import Pipeline\nPipeline.from_pretrained(sys.argv[1])\n"
    code += "print('fsspec.core' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code, tiny_checkpoint], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize("inside", [True, False])
def test_a_checkpoint_and_its_codec_play_from_a_url(root: Url, tmp_path: Path, inside: bool) -> None:
    folder = tiny_speech_checkpoint(tmp_path / "speech")
    (folder / "trainer.ckpt").write_bytes(b"not for others")
    if inside:
        shutil.move(tmp_path / "codec-tiny", folder / "codec-tiny")
        put(folder, root / "speech")
    else:
        put(tmp_path, root)
    params = SamplingParams(seconds=0.2, seed=3)
    here, there = (
        Pipeline.from_pretrained(name, engine="torch").continue_prompt(Prompt.empty(), params)
        for name in (folder, root / "speech")
    )
    assert here.ids == there.ids and (here.audio().samples == there.audio().samples).all()
    assert not list((tmp_path / "cache").rglob("*.ckpt"))


def test_a_checkpoint_is_fetched_once_and_again_when_it_changes(
    root: Url, tmp_path: Path, tiny_checkpoint: Path
) -> None:
    put(tiny_checkpoint, root / "piano")
    first = Pipeline.from_pretrained(str(root / "piano")).info
    (kept,) = (tmp_path / "cache").iterdir()
    stamp = kept.stat().st_mtime_ns, kept.name
    Pipeline.from_pretrained(str(root / "piano"))
    assert [(p.stat().st_mtime_ns, p.name) for p in (tmp_path / "cache").iterdir()] == [stamp]
    changed = tmp_path / "changed"
    shutil.copytree(tiny_checkpoint, changed)
    config = json.loads((changed / "config.json").read_text())
    (changed / "config.json").write_text(json.dumps(config | {"licence": "another"}))
    put(changed, root / "piano")
    assert first.licence != "another" == Pipeline.from_pretrained(str(root / "piano")).info.licence


def test_what_is_not_there_is_said_in_one_line(root: Url, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no config\.json there"):
        Pipeline.from_pretrained(root / "piano")
    with pytest.raises(DataError, match="no prepared corpus"):
        open_corpus(root / "data")
    if root.startswith("s3"):
        with pytest.raises(CheckpointError, match="no bucket nobodys-bucket"):
            Pipeline.from_pretrained("s3://nobodys-bucket/piano")
    with pytest.raises(CheckpointError, match="nowhere"):
        Pipeline.from_pretrained("nowhere://bucket/piano")


@pytest.mark.skipif(importlib.util.find_spec("s3fs") is not None, reason="s3fs is installed")
def test_a_missing_package_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert generate.main(["--from-scratch", "1", "--out", "s3://bucket/out"]) == 2
    assert "pip install s3fs" in capsys.readouterr().err


def test_a_corpus_goes_to_a_url_and_is_read_from_there(
    root: Url, tmp_path: Path, tiny_checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = midi_files(tmp_path / "midi")
    for out in (tmp_path / "here", root / "data"):
        assert prepare.main(["midi-folder", "--source", str(source), "--out", str(out), "--workers", "1"]) == 0
    assert fetched(root / "data", tmp_path / "there") == files(tmp_path / "here")
    assert prepare.main(["midi-folder", "--source", str(source), "--out", str(root / "data")]) == 0
    assert "is complete already" in capsys.readouterr().out
    judged = []
    for data in (tmp_path / "here", root / "data"):
        assert evaluate.main([str(tiny_checkpoint), "--data", str(data), "--split", "validation"]) == 0
        judged.append([line for line in capsys.readouterr().out.splitlines() if line.startswith("nll")])
    assert judged[0] == judged[1] and judged[0]


def test_the_commands_of_training_take_checkpoints_and_corpora_by_url(
    root: Url, tmp_path: Path, tiny_checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put(tiny_checkpoint, root / "piano")
    source, data, piano = midi_files(tmp_path / "midi", 30, 120), str(root / "data"), str(root / "piano")
    assert prepare.main(["midi-folder", "--source", str(source), "--out", data, "--workers", "1"]) == 0
    before = files(tiny_checkpoint)
    assert evaluate.main([piano, "--data", data, "--split", "validation"]) == 0
    assert "its figures are printed, and not written into it" in capsys.readouterr().err
    assert fetched(root / "piano", tmp_path / "there") == before
    assert average.main([piano, str(tiny_checkpoint), "--out", str(tmp_path / "mean")]) == 0
    assert "mean of the weights of `piano` and" in (tmp_path / "mean/config.json").read_text()
    few = ["--windows", "2", "--window", "16", "--split", "train", "--means_split", "train"]
    prompt = str(next(source.glob("*.mid")))
    assert attention_maps.main([piano, prompt, "--data", data, *few, "--json", str(tmp_path / "use.json")]) == 0
    assert json.loads((tmp_path / "use.json").read_text())["checkpoint"] == "piano"
    short = ["--prompts", "2", "--prompt_seconds", "5", "--seconds", "5", "--json", str(tmp_path / "piano.json")]
    assert evaluate_piano.main([piano, "--data", data, *short]) == 0, capsys.readouterr().err
    assert json.loads((tmp_path / "piano.json").read_text())["data"] == "data"
    assert evaluate.main([str(root / "none"), "--data", data]) == 2
    assert f"error: {root}/none: no config.json there" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*LeafSpec.*")
def test_a_training_reads_a_corpus_and_begins_with_a_checkpoint_by_url(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(CACHE, str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    root, source = Url((tmp_path / "store").as_uri()), midi_files(tmp_path / "midi")
    assert prepare.main(["midi-folder", "--source", str(source), "--out", str(root / "data"), "--workers", "1"]) == 0
    run = ["--config", str(Path(__file__).parents[2] / "training/configs/tiny.yaml"), "--data.path", str(root / "data")]
    assert fit.main([*run, "--name", "first", "--budget.steps", "2"]) == 0
    assert export.main(["runs/first", "first"]) == 0
    put(Path("first"), root / "first")
    assert fit.main([*run, "--name", "second", "--budget.steps", "2", "--init", str(root / "first")]) == 0
    assert export.main(["runs/second", "second"]) == 0
    assert '"checkpoint": "first"' in Path("second/config.json").read_text()


def test_a_cut_off_preparation_goes_on_and_no_half_corpus_is_seen(
    root: Url, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = prepare.MidiFolderSource(
        midi_files(tmp_path / "midi"), corpus="mine", licence="none", seed=0, validation=0.2, test=0.2
    )
    put_shard, sent = Upload.put, []

    def cut(self: Upload, shard: prepare.PlannedShard) -> None:
        if len(sent) == 2:
            raise KeyboardInterrupt
        sent.append(shard.file)
        put_shard(self, shard)

    monkeypatch.setattr(Upload, "put", cut)
    with pytest.raises(KeyboardInterrupt):
        prepare.prepare(source, root / "data", workers=1, pieces_per_shard=2)
    with pytest.raises(DataError, match="no prepared corpus"):
        open_corpus(root / "data")
    begun = list(sent)

    def noted(self: Upload, shard: prepare.PlannedShard) -> None:
        sent.append(shard.file)
        put_shard(self, shard)

    monkeypatch.setattr(Upload, "put", noted)
    prepare.prepare(source, root / "data", workers=1, pieces_per_shard=2)
    prepare.prepare(source, tmp_path / "here", workers=1, pieces_per_shard=2)
    assert len(sent) == len(set(sent)) > len(begun)
    assert fetched(root / "data", tmp_path / "there") == files(tmp_path / "here")


def test_a_damaged_shard_is_not_taken(root: Url, tmp_path: Path) -> None:
    source = midi_files(tmp_path / "midi")
    prepare.main(["midi-folder", "--source", str(source), "--out", str(tmp_path / "here"), "--workers", "1"])
    shard = tmp_path / "here" / Corpus.open(tmp_path / "here").split("train").shards[0].file
    content = shard.read_bytes()
    shard.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    put(tmp_path / "here", root / "data")
    with pytest.raises(DataError, match="hash differs"):
        open_corpus(root / "data")
    shard.write_bytes(content)
    put(tmp_path / "here", root / "data")
    assert open_corpus(root / "data").split("train").tokens


def test_results_go_to_a_url_and_a_cut_off_batch_goes_on(
    root: Url,
    tmp_path: Path,
    tiny_checkpoint: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    put(tiny_checkpoint, root / "piano")
    common = ["--from-scratch", "4", "--seconds", "1", "--midi-only", "--batch-size", "1"]
    assert generate.main([*common, "--checkpoint", str(tiny_checkpoint), "--out", str(tmp_path / "here")]) == 0
    there = [*common, "--checkpoint", str(root / "piano"), "--out", str(root / "out")]
    send, sent = outbox.Outbox.send, []

    def cut(self: outbox.Outbox, record: dict) -> None:
        if len(sent) == 2:
            raise KeyboardInterrupt
        sent.append(record["piece"])
        send(self, record)

    monkeypatch.setattr(outbox.Outbox, "send", cut)
    assert generate.main(there) == 130
    monkeypatch.setattr(outbox.Outbox, "send", send)
    assert generate.main(there) == 0
    assert "2 made, 2 there already, 0 failed" in capsys.readouterr().err
    made, here = fetched(root / "out", tmp_path / "there"), files(tmp_path / "here")
    assert {n: c for n, c in made.items() if n.endswith(".mid")} == {
        n: c for n, c in here.items() if n.endswith(".mid")
    }
    records = [json.loads(line) for line in made["manifest.jsonl"].splitlines()]
    assert len({record["piece"] for record in records}) == 4
    assert records[0]["checkpoint"]["path"] == str(root / "piano")


def test_ray_takes_no_url_for_results(capsys: pytest.CaptureFixture[str]) -> None:
    assert generate.main(["--from-scratch", "1", "--out", "memory://out", "--ray", "local"]) == 2
    assert "no URL" in capsys.readouterr().err


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_place_that_may_not_be_written_is_named(tmp_path: Path, tiny_checkpoint: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    command = ["--from-scratch", "1", "--checkpoint", str(tiny_checkpoint), "--out", f"{closed.as_uri()}/out"]
    assert generate.main(command) == 2
