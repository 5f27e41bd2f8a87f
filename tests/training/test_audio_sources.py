"""training.prepare for speech: folders and archives of recordings become tokens, split by speaker."""

import io
import itertools
import json
import os
import signal
import subprocess
import sys
import tarfile
import textwrap
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from shortcut_gen.codec.encodec import EncodecCodec
from shortcut_gen.media import Audio, read_audio
from shortcut_gen.media.sound import Sound
from shortcut_gen.modalities.speech import SpeechTokenizer
from tests.shared.small_models import tiny_codec
from tests.shared.sounds import RATE, noise, speechlike
from training.corpus import recordings as audio_files
from training.corpus import speech as audio_sources
from training.corpus.recordings import CompressedRecordings, FolderRecordings, TarRecordings, open_recordings, scanned
from training.corpus.shards import SPLITS, Corpus
from training.corpus.speech import AudioOptions, FolderSource, LibriSpeechSource
from training.corpus.speech_encoding import AudioCoder, CodecSettings, Take
from training.prepare import main, prepare

SPEAKERS = {"train-clean-100": 7, "dev-clean": 2, "test-other": 3}


@pytest.fixture(scope="module")
def codec(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_codec(tmp_path_factory.mktemp("codec") / "codec-tiny")


@pytest.fixture(scope="module")
def libri(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder laid out as LibriSpeech: two chapters a speaker, two utterances of about half a second in each."""
    root = tmp_path_factory.mktemp("libri") / "LibriSpeech"
    numbers = itertools.count(1)
    for subset, count in SPEAKERS.items():
        suffix = "opus" if subset == "train-clean-100" else "flac"
        for _ in range(count):
            speaker = next(numbers)
            for chapter, number in itertools.product((11, 12), (0, 1)):
                folder = root / subset / str(speaker) / str(chapter)
                folder.mkdir(parents=True, exist_ok=True)
                sound = speechlike(0.4 + 0.1 * number + 0.01 * speaker, 100 + 10 * speaker, chapter + number)
                path = folder / f"{speaker}-{chapter}-{number:04}.{suffix}"
                soundfile.write(path, sound, RATE, format="OGG" if suffix == "opus" else None, subtype=OPUS[suffix])
                (folder / f"{speaker}-{chapter}.trans.txt").write_text("HELLO")
    (root / "README.TXT").write_text("about")
    return root


OPUS = {"opus": "OPUS", "flac": "PCM_16"}


def packed(folder: Path, path: Path, mode: str, mixed: bool = False) -> Path:
    """A tar archive; mixed: its files in an order that no piece's files stand together in."""
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for file in sorted(files, key=lambda file: file.name[::-1]) if mixed else files:
            archive.add(file, f"{folder.name}/{file.relative_to(folder).as_posix()}")
    return path


def run(*args: object) -> int:
    return main([str(arg) for arg in args])


def librispeech(source: Path, out: Path, codec: Path, *more: object) -> int:
    return run(
        "librispeech", "--source", source, "--out", out, "--codec", codec, "--codebooks", 2, "--workers", 1, *more
    )


def folder(source: Path, out: Path, codec: Path, *more: object) -> int:
    return run(
        "audio-folder", "--source", source, "--out", out, "--codec", codec, "--codebooks", 2, "--workers", 1, *more
    )


def refused(capsys: pytest.CaptureFixture[str], status: int) -> str:
    """The one line of a command that has ended with exit status 2."""
    assert status == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    return lines[0]


def pieces(corpus: Corpus) -> dict[str, list[int]]:
    return {name: ids.tolist() for split in SPLITS for name, ids in corpus.split(split)}


def test_a_chapter_is_its_utterances_encoded_one_by_one(libri: Path, codec: Path, tmp_path: Path) -> None:
    assert librispeech(libri, tmp_path / "out", codec) == 0
    corpus = Corpus.open(tmp_path / "out")
    corpus.verify()
    tokenizer = SpeechTokenizer(EncodecCodec(codec, codebooks=2), 2)
    assert (corpus.vocab_size, corpus.licence, corpus.tokenizer) == (32, "CC BY 4.0", "speech")
    assert corpus.codec == tokenizer.settings
    seen = 0
    for split in SPLITS:
        for piece, (name, ids) in zip(corpus.split(split).pieces, corpus.split(split), strict=True):
            expected: list[int] = []
            for path in sorted(path for path in (libri / name).iterdir() if path.suffix != ".txt"):
                samples, rate = soundfile.read(path, dtype="float32")
                expected += tokenizer.from_codes(tokenizer.codec.encode(Audio(samples[None], rate)))
            differ = np.array(expected) != ids
            assert len(expected) == len(ids) and differ.mean() < 0.01  # two entries may be equally near
            assert piece.seconds == pytest.approx(len(ids) / 2 / 50)
            seen += 1
    assert seen == 2 * sum(SPEAKERS.values())


def test_the_split_is_that_of_the_folders(libri: Path, codec: Path, tmp_path: Path) -> None:
    assert librispeech(libri, tmp_path / "out", codec) == 0
    corpus = Corpus.open(tmp_path / "out")
    for split, subset in zip(SPLITS, SPEAKERS, strict=True):
        names = [piece.name for piece in corpus.split(split).pieces]
        assert len(names) == 2 * SPEAKERS[subset]
        assert all(name.startswith(f"{subset}/") for name in names)


def test_without_dev_some_speakers_are_held_out(libri: Path, codec: Path, tmp_path: Path) -> None:
    only = libri / "train-clean-100"
    held = {}
    for seed in (0, 0, 1, 2):
        source = LibriSpeechSource(
            only.parent,
            codec=CodecSettings(name=str(codec), codebooks=1),
            options=AudioOptions(),
            seed=seed,
            validation=0.3,
        )
        source._voices = {name: voice for name, voice in source._voices.items() if voice.split == "train"}
        splits = source.assign(source._voices)
        speakers = {split: {name.split("/")[1] for name in names} for split, names in splits.items()}
        assert not speakers["validation"] & speakers["train"]
        assert (len(speakers["validation"]), len(speakers["train"])) == (2, 5)
        assert held.setdefault(seed, speakers) == speakers
    assert len({frozenset(speakers["validation"]) for speakers in held.values()}) > 1


@pytest.mark.parametrize("mixed", [False, True])
def test_archives_give_what_the_folder_gives(
    libri: Path, codec: Path, tmp_path: Path, mixed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audio_files, "HELD_BYTES", 20_000)  # about six files
    sources = {"folder": libri}
    for mode, kind in (("w", "tar"), ("w:gz", "tar.gz"), ("w:xz", "tar.xz")):
        sources[kind] = packed(libri, tmp_path / f"LibriSpeech.{kind}", mode, mixed)
    made = {}
    for kind, source in sources.items():
        assert librispeech(source, tmp_path / kind, codec, "--speeds", 0.9, 1) == 0
        made[kind] = Corpus.open(tmp_path / kind)
        assert pieces(made[kind]) == pieces(made["folder"])
        assert made[kind].source_sha256 == made["folder"].source_sha256
    assert (tmp_path / "tar/train/shard-00000.npy").read_bytes() == (
        tmp_path / "folder/train/shard-00000.npy"
    ).read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        [*sources, *(f"LibriSpeech.{kind}" for kind in sources if kind != "folder")]
    )  # nothing was unpacked


def test_archives_are_told_by_their_content(libri: Path, tmp_path: Path) -> None:
    assert isinstance(open_recordings(libri), FolderRecordings)
    assert isinstance(open_recordings(packed(libri, tmp_path / "a.gz", "w")), TarRecordings)
    assert isinstance(open_recordings(packed(libri, tmp_path / "b.tar", "w:bz2")), CompressedRecordings)


def test_two_processes_write_what_one_writes(
    libri: Path, codec: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = small_jobs(monkeypatch, libri, codec)
    for workers in (1, 2):
        prepare(source, tmp_path / str(workers), workers=workers)
    one, two = (
        {path.relative_to(tmp_path / n).as_posix(): path.read_bytes() for path in (tmp_path / n).rglob("*.*")}
        for n in ("1", "2")
    )
    assert one == two
    assert len(list((tmp_path / "1/train").iterdir())) > 3


def small_jobs(monkeypatch: pytest.MonkeyPatch, libri: Path, codec: Path) -> LibriSpeechSource:
    """Shards of 4 s, and jobs of 2 s."""
    monkeypatch.setattr(audio_sources, "SORTED_SECONDS", 2.0)
    monkeypatch.setattr(audio_sources, "SHARD_SECONDS", 4.0)
    return LibriSpeechSource(
        libri,
        codec=CodecSettings(name=str(codec), codebooks=2),
        options=AudioOptions(speeds=(1.0, 1.1)),
        seed=0,
        validation=0.1,
    )


KILLED = textwrap.dedent("""
    import os, signal, sys
    from pathlib import Path
    from training.corpus import speech_encoding as audio_encoding
    from training.corpus import speech as audio_sources
    from training.prepare import prepare

    audio_sources.SORTED_SECONDS, audio_sources.SHARD_SECONDS = 2.0, 4.0
    left = [int(sys.argv[4])]

    class Killing(audio_encoding.AudioCoder):
        def __call__(self, job):
            left[0] -= len(job)
            if left[0] < 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return super().__call__(job)

    audio_sources.AudioCoder = Killing
    settings = audio_encoding.CodecSettings(name=sys.argv[2], codebooks=2)
    options = audio_sources.AudioOptions(speeds=(1.0, 1.1))
    source = audio_sources.LibriSpeechSource(
        Path(sys.argv[1]), codec=settings, options=options, seed=0, validation=0.1
    )
    prepare(source, Path(sys.argv[3]), workers=1)
""")


@pytest.mark.parametrize("kind", ["folder", "tar.gz"])
def test_goes_on_where_it_was_killed(
    libri: Path, codec: Path, tmp_path: Path, kind: str, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = libri if kind == "folder" else packed(libri, tmp_path / "LibriSpeech.tar.gz", "w:gz")
    killed = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", KILLED, path, codec, tmp_path / "cut", "17"],
        cwd=root,
        capture_output=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not (tmp_path / "cut/manifest.json").exists()
    done = {path: path.stat().st_mtime_ns for path in (tmp_path / "cut").glob("*/shard-*.npy")}
    assert done
    source = small_jobs(monkeypatch, path, codec)
    encoded: list[str] = []
    fresh = source.jobs
    monkeypatch.setattr(source, "jobs", lambda names: encoded.extend(names) or fresh(names))
    prepare(source, tmp_path / "cut", workers=1)
    assert {path: path.stat().st_mtime_ns for path in done} == done  # not written again
    assert 0 < len(encoded) < 38
    prepare(small_jobs(monkeypatch, path, codec), tmp_path / "whole", workers=1)
    assert pieces(Corpus.open(tmp_path / "cut")) == pieces(Corpus.open(tmp_path / "whole"))


def test_speeds_are_pieces_of_their_own_in_the_training_split(libri: Path, codec: Path, tmp_path: Path) -> None:
    assert librispeech(libri, tmp_path / "out", codec, "--speeds", 0.9, 1.0, 1.1) == 0
    corpus = Corpus.open(tmp_path / "out")
    assert [len(corpus.split(split)) for split in SPLITS] == [3 * 14, 4, 6]
    lengths = {piece.name: piece.seconds for piece in corpus.split("train").pieces}
    for name, seconds in lengths.items():
        whole = lengths[name.partition("@")[0]]
        speed = float(name.partition("@")[2] or 1)
        assert seconds == pytest.approx(whole / speed, abs=0.05)
        assert name.endswith(("@0.90", "@1.10")) or speed == 1
    ids = pieces(corpus)
    assert ids["train-clean-100/1/11@1.10"][:40] != ids["train-clean-100/1/11"][:40]


def test_a_higher_speed_is_a_higher_voice(codec: Path, tmp_path: Path) -> None:
    """A tone of 400 Hz, played 1.25 times as fast, is a tone of 500 Hz."""
    at = np.arange(RATE) / RATE
    soundfile.write(tmp_path / "slow.wav", 0.5 * np.sin(2 * np.pi * 400 * at), RATE)
    soundfile.write(tmp_path / "high.wav", 0.5 * np.sin(2 * np.pi * 500 * at[: RATE * 4 // 5]), RATE)
    blobs = {blob.name: blob for blob in open_recordings(tmp_path).scan()}
    coder = AudioCoder(CodecSettings(name=str(codec), codebooks=2), 16.0)
    fast, high = coder([Take("fast", (blobs["slow.wav"],), 1.25), Take("high", (blobs["high.wav"],))])
    assert fast.ids.shape == high.ids.shape == (80,)  # type: ignore[union-attr]
    assert (fast.ids == high.ids)[10:-10].mean() > 0.8  # type: ignore[union-attr]


def test_batches_change_nothing(codec: Path, tmp_path: Path) -> None:
    for number in range(7):
        soundfile.write(tmp_path / f"{number}.wav", speechlike(0.3 + 0.37 * number, seed=number), RATE)
    takes = [Take(blob.name, (blob,)) for blob in open_recordings(tmp_path).scan()]
    settings = CodecSettings(name=str(codec), codebooks=4)
    made = [AudioCoder(settings, seconds)(takes) for seconds in (0.01, 3.0, 100.0)]
    for other in made[1:]:
        for one, two in zip(made[0], other, strict=True):
            assert one.name == two.name
            assert (one.ids == two.ids).mean() > 0.99  # type: ignore[union-attr]


def test_long_recordings_are_read_part_by_part(codec: Path, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "long.flac", noise(61.5, rate=8000), 8000)
    (blob,) = open_recordings(tmp_path).scan()
    for speed, frames in ((1.0, 3075), (1.5, 2050)):
        (made,) = AudioCoder(CodecSettings(name=str(codec), codebooks=1), 16.0)([Take("long", (blob,), speed)])
        assert len(made.ids) == frames  # type: ignore[union-attr]


def own(folder: Path) -> Path:
    """Recordings of six speakers, with a few things among them that are none."""
    for speaker in range(6):
        for number in range(2):
            path = folder / ("train" if speaker < 4 else "test") / f"s{speaker}" / f"{number}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, speechlike(0.5, 100 + 20 * speaker, number), RATE)
    (folder / "train/s0/text.wav").write_text("this is no sound")
    (folder / "train/s0/._0.wav").write_text("a side file of macOS")
    soundfile.write(folder / "train/s1/empty.wav", np.zeros(0), RATE)
    soundfile.write(folder / "train/s2/nan.wav", np.full(RATE, np.nan, np.float32), RATE, subtype="FLOAT")
    (folder / "index.tsv").write_text("x")
    return folder


def test_ones_own_recordings_are_split_by_folder(
    codec: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own(tmp_path / "My voices")
    shares = ("--validation", 0.2, "--test", 0.2, "--speeds", "[1.0,1.2]", "--licence", "CC0")
    assert folder(tmp_path / "My voices", tmp_path / "out", codec, *shares) == 0
    corpus = Corpus.open(tmp_path / "out")
    assert (corpus.name, corpus.licence) == ("My voices", "CC0")
    names = {split: [piece.name for piece in corpus.split(split).pieces] for split in SPLITS}
    assert [len(names[split]) for split in SPLITS] == [8, 1, 1]
    assert sorted({name.partition("@")[0] for each in names.values() for name in each}) == [
        *(f"test/s{n}" for n in (4, 5)),
        *(f"train/s{n}" for n in range(4)),
    ]
    reasons = {piece["name"]: piece["reason"] for piece in corpus.manifest["skipped"]}
    assert {name: reason.removeprefix(f"{name} ") for name, reason in reasons.items()} == {
        "train/s0/text.wav": "is text, no sound file that can be read (WAV, FLAC, Ogg and MP3 can)",
        "train/s1/empty.wav": "is a sound file without samples; some are needed",
        "train/s2/nan.wav": "holds samples that are no numbers, from 0 s on; finite ones are needed",
    }
    said = capsys.readouterr().err
    assert all(said.count(f"left out: {reason}") == 1 for reason in reasons.values())  # once for all speeds


def wrong(folder: Path) -> dict[str, str]:
    """Recordings of eight speakers that are not as they should be, and what is to be said of each."""
    voice, data = speechlike(3.0), io.BytesIO()
    soundfile.write(data, voice, RATE, format="FLAC")
    whole = data.getvalue()
    for number in range(3):
        soundfile.write(folder / f"{number}.wav", speechlike(1.0, seed=number), RATE)
    (folder / "cut.flac").write_bytes(whole[: len(whole) // 2])
    (folder / "damaged.flac").write_bytes(whole[: len(whole) // 2] + bytes(2000) + whole[len(whole) // 2 + 2000 :])
    (folder / "piped.flac").write_bytes(whole[:21] + bytes([whole[21] & 0xF0, 0, 0, 0, 0]) + whole[26:])
    soundfile.write(folder / "scaled.wav", voice * 32_768, RATE, subtype="FLOAT")
    soundfile.write(folder / "against.wav", np.stack([voice, -voice], axis=1), RATE)
    soundfile.write(folder / "offset.wav", voice / 2 + 0.3, RATE)
    soundfile.write(folder / "fast.wav", voice[: RATE // 2], 100_000_000)
    return {
        "cut.flac": "cut short or damaged: 1.",
        "damaged.flac": "cut short or damaged: 1.",
        "scaled.wav": "samples of up to ",
        "against.wav": "the channels cancel each other: the louder, 1 of 2, is used",
        "offset.wav": "a constant offset of 0.3 is removed",
    }


def test_what_is_mended_is_mended_as_in_a_prompt_and_named_once(
    codec: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in").mkdir()
    said = wrong(tmp_path / "in")
    options = ("--speakers", "file", "--validation", 0, "--test", 0, "--speeds", "[1.0,1.1]")
    assert folder(tmp_path / "in", tmp_path / "out", codec, *options) == 0
    corpus = Corpus.open(tmp_path / "out")
    kept = {part["name"]: part["said"] for part in corpus.manifest["kept"]}
    assert kept.keys() == said.keys() and len(corpus.manifest["kept"]) == len(said)
    assert all(kept[name].startswith(start) for name, start in said.items())
    (skipped,) = corpus.manifest["skipped"]
    assert skipped["reason"] == "fast.wav has 100,000,000 samples a second; 1,000 to 768,000 are read"
    printed = capsys.readouterr().err
    assert printed.count("mended, or used in part: ") == 1 and ", and 4 more, which manifest.json names" in printed
    made, tokenizer = pieces(corpus), SpeechTokenizer(EncodecCodec(codec, codebooks=2), 2)
    for name in (*said, "piped.flac"):
        prompt = read_audio(tmp_path / "in" / name)
        assert prompt.kept == kept.get(name, "")
        assert (np.array(tokenizer.encode(prompt)) == made[name]).mean() > 0.99  # two entries may be equally near
    assert len(made["piped.flac"]) == 300
    assert (np.array(made["scaled.wav"]) == made["piped.flac"]).mean() > 0.95


@pytest.mark.parametrize(("rate", "channels"), [(8_000, 2), (44_100, 1), (96_000, 2)])
def test_a_prompt_and_a_corpus_hear_the_same_whatever_the_rate(
    codec: Path, tmp_path: Path, rate: int, channels: int
) -> None:
    sound = speechlike(2.0, rate=rate)
    soundfile.write(tmp_path / "a.wav", np.stack([sound] * channels, axis=1), rate)
    (made,) = AudioCoder(CodecSettings(name=str(codec), codebooks=2), 16.0)([whole_take(tmp_path)])
    prompt = SpeechTokenizer(EncodecCodec(codec, codebooks=2), 2).encode(read_audio(tmp_path / "a.wav"))
    assert len(prompt) == 200
    assert (np.array(prompt) == made.ids).mean() > 0.97  # type: ignore[union-attr]


def whole_take(folder: Path) -> Take:
    """All recordings of a folder, one behind the other."""
    return Take("take", tuple(open_recordings(folder).scan()))


def test_nothing_is_kept_of_a_file_that_is_left_out(
    codec: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though its first part was good, and was encoded before the rest was seen."""
    monkeypatch.setattr("training.corpus.speech_encoding.SEGMENT_SECONDS", 0.5)
    monkeypatch.setattr("training.corpus.speech_encoding.SORTED_SECONDS", 1.0)
    for name, seed in (("a", 1), ("b", 2), ("c", 3)):
        soundfile.write(tmp_path / f"{name}.wav", speechlike(3.0, seed=seed), RATE, subtype="FLOAT")
    coder = AudioCoder(CodecSettings(name=str(codec), codebooks=2), 16.0)
    (good,) = coder([whole_take(tmp_path)])
    samples, _ = soundfile.read(tmp_path / "b.wav", dtype="float32")
    samples[40_000] = np.nan
    soundfile.write(tmp_path / "b.wav", samples, RATE, subtype="FLOAT")
    (made,) = coder([whole_take(tmp_path)])
    assert [part.name for part in made.left_out] == ["b.wav"]  # type: ignore[union-attr]
    assert made.ids.tolist() == [*good.ids[:300], *good.ids[600:]]  # type: ignore[union-attr]
    # And where the disk fails in the second reading, behind a part that was encoded meanwhile.
    soundfile.write(tmp_path / "b.wav", speechlike(3.0, seed=2), RATE, subtype="FLOAT")
    blocks = Sound.blocks

    def failing(sound: Sound, *more: float) -> Iterator[NDArray[np.float32]]:
        parts = np.split(np.concatenate(list(blocks(sound, *more))), 3)
        failing.calls += 1  # type: ignore[attr-defined]
        yield from parts[:2]
        if failing.calls == 2:  # type: ignore[attr-defined]
            raise OSError(5, "Input/output error")
        yield parts[2]

    failing.calls = 0  # type: ignore[attr-defined]
    monkeypatch.setattr(Sound, "blocks", failing)
    (made,) = coder([whole_take(tmp_path)])
    assert [part.reason for part in made.left_out] == [  # type: ignore[union-attr]
        "b.wav cannot be read: input/output error"
    ]
    assert made.ids.tolist() == [*good.ids[:300], *good.ids[600:]]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("name", "found"), [("cut.flac", "at once"), ("damaged.flac", "later"), ("cut.wav", "at once")]
)
def test_a_strict_corpus_ends_with_an_error_that_names_a_file_cut_short(
    name: str, found: str, libri: Path, codec: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chapter = tmp_path / "LibriSpeech/train-x/1/2"
    chapter.mkdir(parents=True)
    wrong(tmp_path)
    whole = (tmp_path / "0.wav").read_bytes()
    (tmp_path / "cut.wav").write_bytes(whole[: len(whole) // 2])
    soundfile.write(chapter / "1-2-0.flac", speechlike(1.0), RATE)
    (chapter / f"1-2-1.{name.partition('.')[2]}").write_bytes((tmp_path / name).read_bytes())
    line = refused(capsys, librispeech(tmp_path / "LibriSpeech", tmp_path / "out", codec, "--validation", 0))
    assert f"1-2-1.{name.partition('.')[2]}" in line and " is cut short or damaged: " in line
    assert not (tmp_path / "out/manifest.json").exists()
    assert (tmp_path / "out").exists() == (found == "later")


@pytest.mark.parametrize("speakers", ["folder", "parent", "file"])
def test_who_speaks_can_be_said(codec: Path, tmp_path: Path, speakers: str) -> None:
    for person, book, number in itertools.product("abcdef", "xy", range(2)):
        path = tmp_path / "in" / person / book / f"{number}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, speechlike(0.2, 100 + 20 * ord(person) % 97, number + 2 * (book == "x")), RATE)
    shares = ("--speakers", speakers, "--validation", 0.4, "--test", 0, "--name", "mine")
    assert folder(tmp_path / "in", tmp_path / "out", codec, *shares) == 0
    splits = {split: {piece.name for piece in Corpus.open(tmp_path / "out").split(split).pieces} for split in SPLITS}
    everything = splits["train"] | splits["validation"]
    assert len(everything) == {"folder": 12, "parent": 12, "file": 24}[speakers]
    if speakers == "parent":
        people = [{name.split("/")[0] for name in splits[split]} for split in ("train", "validation")]
        assert not people[0] & people[1]
    assert not splits["test"]
    assert splits["validation"]


def test_copies_of_a_file_stay_together(codec: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for number in range(8):
        soundfile.write(tmp_path / f"in/{number}.wav", speechlike(0.2, 100 + number, number), RATE)
        (tmp_path / f"in/copy of {number}.wav").write_bytes((tmp_path / f"in/{number}.wav").read_bytes())
    source = FolderSource(
        tmp_path / "in",
        corpus="c",
        licence="",
        codec=CodecSettings(name=str(codec), codebooks=1),
        options=AudioOptions(),
        speakers="file",
        shares=(0.3, 0.3),
        seed=3,
    )
    for names in source.splits().values():
        assert {name for name in names if name.startswith("copy")} == {
            f"copy of {name}" for name in names if not name.startswith("copy")
        }


def test_another_codec_is_another_corpus(
    libri: Path, codec: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert librispeech(libri, tmp_path / "out", codec) == 0
    capsys.readouterr()
    assert librispeech(libri, tmp_path / "out", codec) == 0
    assert "is complete already" in capsys.readouterr().out
    other = librispeech(libri, tmp_path / "out", codec, "--codebooks", 3)
    assert "vocabulary: 32, not 48" in refused(capsys, other)
    twin = tiny_codec(tmp_path / "codec-tiny", sample_rate=8000)
    assert "another corpus (codec, by hash: codec-tiny" in refused(capsys, librispeech(libri, tmp_path / "out", twin))
    assert "split or layout" in refused(capsys, librispeech(libri, tmp_path / "out", codec, "--speeds", 1.0, 1.1))


BAD: dict[str, tuple[tuple[object, ...], str]] = {
    "no source": (("--source", "{tmp}/none"), "is not there"),
    "a text": (("--source", "{tmp}/text"), "neither a folder nor an archive that can be read"),
    "a zip": (("--source", "{tmp}/zip"), "neither a folder nor an archive that can be read"),
    "cut short": (("--source", "{tmp}/cut.tar"), "cut short"),
    "cut short gz": (("--source", "{tmp}/cut.tar.gz"), "cut short"),
    "nothing in it": (("--source", "{tmp}/nothing"), "has no recording under train-*"),
    "no codec": (("--codec", "{tmp}/nothing"), "config.json"),
    "no such codec": (("--codec", "{tmp}/none"), "is no codec"),
    "codebooks": (("--codebooks", 5), "4 codebooks and 5 are asked for"),
    "no codebooks": (("--codebooks", 0), "4 codebooks and 0 are asked for"),
    "speed": (("--speeds", 3.0, 1.0), "numbers from 0.5 to 2"),
    "speed twice": (("--speeds", 0.9, 0.9), "none twice"),
    "share": (("--validation", 1.0), "shares"),
    "batch": (("--batch_seconds", -1), "batch_seconds is -1"),
    "device": (("--device", "abacus"), "device is 'abacus'"),
    "workers": (("--workers", -1), "workers is -1"),
    "damaged": (("--source", "{tmp}/damaged"), "is no sound file that can be read"),
    "two splits": (("--source", "{tmp}/both"), "speaker 1 in train and in test"),
}


@pytest.fixture(scope="module")
def bad(libri: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sources with something wrong."""
    tmp = tmp_path_factory.mktemp("bad")
    (tmp / "text").write_text("no archive")
    (tmp / "zip").write_bytes(b"PK\3\4" + bytes(600))
    (tmp / "nothing").mkdir()
    for mode, name in (("w", "cut.tar"), ("w:gz", "cut.tar.gz")):
        data = packed(libri, tmp / name, mode).read_bytes()
        (tmp / name).write_bytes(data[: len(data) // 2 + 77])
    for name, splits in (("damaged", ("train-x",)), ("both", ("train-x", "test-x"))):
        for split in splits:
            path = tmp / name / split / "1/2/1-2-0.flac"
            path.parent.mkdir(parents=True)
            soundfile.write(path, speechlike(0.3), RATE)
    (tmp / "damaged/train-x/1/2/1-2-1.flac").write_bytes(b"fLaC and no more")
    return tmp


@pytest.mark.parametrize(("options", "says"), BAD.values(), ids=BAD)
def test_what_cannot_be_takes_one_line(
    libri: Path,
    codec: Path,
    bad: Path,
    tmp_path: Path,
    options: tuple[object, ...],
    says: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = {"--source": libri, "--out": tmp_path / "out", "--codec": codec, "--codebooks": 2, "--workers": 1}
    more = [str(option).format(tmp=bad) for option in options]
    kept = [word for key, value in given.items() if key not in more for word in (key, value)]
    assert says in refused(capsys, run("librispeech", *kept, *more))
    assert not (tmp_path / "out").exists()


def test_a_large_file_of_a_compressed_archive(libri: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audio_files, "MAX_STREAMED_BYTES", 100)
    with pytest.raises(audio_files.DataError, match="unpack it and give the folder"):
        list(open_recordings(packed(libri, tmp_path / "a.tar.gz", "w:gz")).scan())


def test_a_part_of_an_archive_is_a_file_of_its_own(tmp_path: Path) -> None:
    data = {"a.wav": bytes(range(200)), "b.wav": b"xyz" * 400, "c.wav": b""}
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for name, content in data.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    for blob in open_recordings(tmp_path / "a.tar").scan():
        with blob.open() as stream:
            assert stream.read() == data[blob.name]
            assert stream.seek(-3, io.SEEK_END) == max(len(data[blob.name]) - 3, 0)
            assert stream.read(7) == data[blob.name][-3:]
            stream.seek(5)
            assert stream.read(2) == data[blob.name][5:7]
        assert scanned(blob).seconds == 0


def test_the_real_archive(root: Path) -> None:
    """Every speaker of LibriSpeech's archive, and nothing of the test in training."""
    path = root.parent / "shared" / "data" / "LibriSpeech.tar"
    if not path.is_file():
        pytest.skip("LibriSpeech.tar is not beside the checkout")
    source = LibriSpeechSource.__new__(LibriSpeechSource)  # without reading every file
    places = [source.place(blob.name) for blob in open_recordings(path).scan()]
    assert None not in places
    splits = {split: {place.speaker for place in places if place and place.split == split} for split in SPLITS}
    assert (len(splits["train"]), len(splits["test"]), len(splits["validation"])) == (251, 10, 0)
    assert not splits["train"] & splits["test"]


def test_the_manifest_tells_of_the_codec(libri: Path, codec: Path, tmp_path: Path) -> None:
    assert librispeech(libri, tmp_path / "out", codec) == 0
    told = json.loads((tmp_path / "out/manifest.json").read_text())["codec"]
    assert told == EncodecCodec(codec, codebooks=2).identity() | {"codebooks": 2}
