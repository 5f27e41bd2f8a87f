"""What is damaged and who reads it: for each kind, sound inputs and the reader that gets them damaged."""

import io
import json
import random
import struct
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import soundfile
import torch

from benchmarks.fuzzing.mutations import damaged, damaged_json
from shortcut_gen import media
from shortcut_gen.batch.manifest import Manifest
from shortcut_gen.checkpoint import CheckpointInfo, save_checkpoint
from shortcut_gen.codec.finding import open_codec
from shortcut_gen.codec.folder import CodecInfo, save_codec
from shortcut_gen.codec.harmonic.config import HarmonicConfig
from shortcut_gen.codec.harmonic.network import HarmonicNetwork
from shortcut_gen.codec.network import CodecConfig
from shortcut_gen.codec.network import build as build_encodec
from shortcut_gen.copying import Copying, line, open_copying, write_copying
from shortcut_gen.decoding.sampling import SamplingParams
from shortcut_gen.media import Note, Score
from shortcut_gen.media.types import midi_bytes
from shortcut_gen.modalities.piano import PianoTokenizer
from shortcut_gen.network.config import ModelConfig
from shortcut_gen.network.model import ShortcutLM
from shortcut_gen.pipeline import Pipeline, Prompt
from training.corpus.archives import open_files, read
from training.corpus.recordings import open_recordings, scanned
from training.corpus.shards import Corpus, ShardWriter, write_json
from ui.saved import MadeBy, Origin, Saved, Step
from ui.saved import read as read_take
from ui.saved import write as write_take

RATE = 16_000
MEMBER_BYTES = 2**20
"""Of a file in an archive that is read at most."""


@dataclass(frozen=True)
class Kind:
    """Inputs of a kind: `make` writes sound ones, each a file or a folder; one file of it is damaged, then `read`."""

    make: Callable[[Path], None]
    damage: Callable[[str, bytes, bytes, random.Random], bytes]
    read: Callable[[Path], None]
    hide: Callable[[Path], None] | None = None
    """Makes the hashes of a damaged input fit again, which is done to half of them: what comes behind is read too."""


def _bytes(_: str, data: bytes, other: bytes, chance: random.Random) -> bytes:
    return damaged(data, other, chance)


def _by_name(name: str, data: bytes, other: bytes, chance: random.Random) -> bytes:
    """JSON as JSON, weights mostly in their header."""
    if name.endswith(".json"):
        return damaged_json(data, chance)
    if name.endswith(".jsonl"):
        lines = data.split(b"\n")
        at = chance.randrange(len(lines) - 1)
        lines[at] = damaged_json(lines[at], chance)
        return b"\n".join(lines)
    if name.endswith(".safetensors") and chance.random() < 0.7:
        length = struct.unpack("<Q", data[:8])[0]
        header = damaged_json(data[8 : 8 + length], chance)
        said = len(header) if chance.random() < 0.9 else chance.choice((0, 1, length, 2**40, 2**64 - 1))
        return struct.pack("<Q", said) + header + data[8 + length :]
    return damaged(data, other, chance)


def _make_midi(folder: Path) -> None:
    chance = random.Random(0)
    for number in range(6):
        starts = np.cumsum([chance.choice((0.0, 0.1, 0.25)) for _ in range(60)])
        notes = [
            Note(pitch=chance.randrange(30, 90), velocity=chance.randrange(1, 128), start=t, end=t + chance.random())
            for t in starts.tolist()
        ]
        score = Score(notes=tuple(sorted(notes, key=lambda note: (note.start, note.pitch))))
        (folder / f"{number}.mid").write_bytes(midi_bytes(score))
    event = b"\x00\x90\x3c\x40\x60\xb0\x40\x7f\x60\x80\x3c\x00\x00\xb0\x40\x00\x00\xc0\x28\x00\xff\x51\x03\x07\xa1\x20"
    tracks = b"".join(b"MTrk" + struct.pack(">I", 4 + 9 * len(event)) + event * 9 + b"\0\xff\x2f\0" for _ in range(3))
    for form, division in ((0, 480), (1, 96), (2, 0xE728)):
        (folder / f"raw{form}.mid").write_bytes(b"MThd" + struct.pack(">IHHH", 6, form, 3, division) + tracks)


def _read_midi(path: Path) -> None:
    score = media.read(path, 20.0)
    if isinstance(score, Score):
        PianoTokenizer().encode(score.slice(0.0, 20.0))


def _make_sound(folder: Path) -> None:
    time = np.arange(RATE) / RATE
    voice = (0.3 * np.sin(900 * time) * np.sin(9 * time)).astype(np.float32)
    for name, form, subtype in (
        ("a.wav", "WAV", "PCM_16"), ("b.wav", "WAV", "FLOAT"), ("c.wav", "WAVEX", "PCM_24"),
        ("d.wav", "WAV", "IMA_ADPCM"),
        ("e.flac", "FLAC", "PCM_16"), ("f.ogg", "OGG", "VORBIS"), ("g.opus", "OGG", "OPUS"), ("h.mp3", "MP3", None),
        ("i.aiff", "AIFF", "PCM_16"), ("j.au", "AU", "PCM_16"), ("k.caf", "CAF", "PCM_16"), ("l.w64", "W64", "PCM_16"),
    ):  # fmt: skip
        for channels in (1, 2):
            samples = np.repeat(voice[:, None], channels, axis=1)
            soundfile.write(folder / f"{channels}{name}", samples, RATE, format=form, subtype=subtype)


def _read_sound(path: Path) -> None:
    media.read(path, 10.0)


def _make_checkpoint(folder: Path) -> None:
    for name, more in (
        ("shortcut", {}),
        ("rotary", {"position": "rotary", "value_residual": True, "activation": "swiglu"}),
    ):
        small = dict(vocab_size=388, context=24, layers=4, width=16, heads=2, feedforward=24, feature_hidden=20)
        config = ModelConfig(**{**small, "taps": (2,), "shortcut_heads": 4, **more})  # type: ignore[arg-type]
        save_checkpoint(folder / name, ShortcutLM(config), CheckpointInfo(model=config, tokenizer="piano"))


def _read_checkpoint(folder: Path) -> None:
    pipeline = Pipeline.from_pretrained(folder)
    pipeline.continue_prompt(Prompt.empty(), SamplingParams(max_tokens=4))


def _make_codec(folder: Path) -> None:
    encodec = CodecConfig(filters=2, lstm_layers=1, dimension=8, codebooks=2, cardinality=16)
    save_codec(folder / "encodec", build_encodec(encodec), CodecInfo(config=encodec))
    harmonic = HarmonicConfig(
        encoder_width=8, encoder_blocks=1, width=8, blocks=1, fine_blocks=1, dimension=4, codebooks=2, cardinality=16
    )
    save_codec(folder / "harmonic", HarmonicNetwork(harmonic), CodecInfo(config=harmonic, architecture="harmonic"))


def _read_codec(folder: Path) -> None:
    codec = open_codec(folder)
    codec.decode(codec.encode(media.Audio(np.full((1, RATE), 0.1, np.float32), RATE)))


def _make_corpus(folder: Path) -> None:
    (folder / "corpus").mkdir()
    splits = {}
    for split in ("train", "validation"):
        with ShardWriter(folder / "corpus", f"{split}-0000.npy") as writer:
            for number in range(3):
                writer.add(f"piece {number}", np.arange(50, dtype=np.uint16), notes=9, seconds=2.0)
            splits[split] = {"shards": [writer.close().to_dict()]}
    write_json(
        folder / "corpus/manifest.json",
        {"format": 1, "corpus": "fuzz", "tokenizer": "piano", "vocab_size": 388, "licence": "none", "splits": splits},
    )


def _hide_in_corpus(folder: Path) -> None:
    path = folder / "manifest.json"
    hashes = {shard.name: sha256(shard.read_bytes()).hexdigest() for shard in folder.glob("*.npy")}
    with suppress(ValueError, KeyError, TypeError, AttributeError, RecursionError):  # the damaged file may be this one
        manifest = json.loads(path.read_bytes())
        for split in manifest["splits"].values():
            for shard in split["shards"]:
                shard["sha256"] = hashes[shard["file"]]
        path.write_text(json.dumps(manifest))


def _read_corpus(folder: Path) -> None:
    corpus = Corpus.open(folder)
    corpus.verify()
    for name in corpus.manifest["splits"]:
        for _, ids in corpus.split(name):
            ids.max()


def _make_batch(folder: Path) -> None:
    (folder / "batch").mkdir()
    line = {
        "piece": "a-v0",
        "prompt": "a.mid",
        "midi": "a-v0.mid",
        "seed": 1,
        "seconds": 3.5,
        "settings": {"top_p": 0.9},
    }
    lines = [json.dumps(line | {"piece": f"a-v{number}"}) + "\n" for number in range(5)]
    (folder / "batch/manifest.jsonl").write_text("".join(lines))


def _read_batch(folder: Path) -> None:
    manifest = Manifest(folder)
    for number in range(5):
        manifest.has(f"a-v{number}", ("midi", "wav"))
    manifest.forget(["a-v1"])
    manifest.tidy()


def _make_copying(folder: Path) -> None:
    (folder / "index").mkdir()
    chance = np.random.default_rng(0)
    lines = [line(chance.integers(30, 90, 200), np.arange(200) * 0.1) for _ in range(3)]
    index = Copying.of(lines, corpus="fuzz", licence="none")
    index.real = {50: {0: 3, 7: 5, 9: 1}, 100: {8: 4}}
    write_copying(folder / "index", index)


def _about(name: str, data: bytes, other: bytes, chance: random.Random) -> bytes:
    """What the index says of itself is JSON within JSON."""
    if chance.random() < 0.4:
        return _by_name(name, data, other, chance)
    length = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + length])
    about = damaged_json(header["__metadata__"]["copying"].encode(), chance)
    header["__metadata__"]["copying"] = about.decode("utf-8", "replace")
    changed = json.dumps(header).encode()
    return struct.pack("<Q", len(changed)) + changed + data[8 + length :]


def _read_copying(folder: Path) -> None:
    index = open_copying(folder)
    index.longest_of(line(np.arange(100) * 7 % 61 + 20, np.arange(100) * 0.1))


def _make_archives(folder: Path) -> None:
    sound = io.BytesIO()
    soundfile.write(sound, np.sin(np.arange(3000) * 0.1), RATE, format="WAV")
    files = {
        "s/1/a.wav": sound.getvalue(),
        "s/2/b.wav": sound.getvalue(),
        "s/notes.txt": b"word " * 40,
        "s/c.mid": b"MThd",
    }
    for packing in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        with zipfile.ZipFile(folder / f"{packing}.zip", "w", packing) as archive:
            for name, data in files.items():
                archive.writestr(name, data)
    for mode in ("", "gz", "xz"):
        suffix = f"tar.{mode}".rstrip(".")
        with tarfile.open(folder / f"t.{suffix}", f"w:{mode}") as packed:  # type: ignore[call-overload]
            for name, data in files.items():
                member = tarfile.TarInfo(name)
                member.size = len(data)
                packed.addfile(member, io.BytesIO(data))


def _read_archive(path: Path) -> None:
    files = open_files(path, "an archive")
    for name in files.names():
        read(files, name, MEMBER_BYTES)
    for blob in open_recordings(path).scan():
        scanned(blob)


def _make_takes(folder: Path) -> None:
    by = MadeBy(name="piano", sha256="0" * 64)
    params = SamplingParams(seconds=3.0, seed=7)
    origin = Origin(name="J. S. Bach", example="bach.mid", seconds=5.0)
    ids, more = tuple(range(60, 72)), (300, 64, 355, 192)
    first = Step(number=1, parent=None, origin=origin, ids=ids, params=params, made_by=by, variations=(more, more[:2]))
    turned = replace(params, tap_gains=(1.0, 0.5), ending=12.0)
    second = replace(first, number=3, parent=(1, 2), ids=ids + more[:1], params=turned, variations=(more,))
    for number, steps in enumerate(((first,), (first, second))):
        (folder / f"{number}-take.json").write_bytes(write_take(Saved(tab="piano", shown=1, steps=steps)))


def _json(_: str, data: bytes, __: bytes, chance: random.Random) -> bytes:
    return damaged_json(data, chance)


def _read_take(path: Path) -> None:
    read_take(path.read_bytes(), path.name, "piano", 388, 1)


KINDS: Mapping[str, Kind] = {
    "midi": Kind(_make_midi, _bytes, _read_midi),
    "sound": Kind(_make_sound, _bytes, _read_sound),
    "checkpoint": Kind(_make_checkpoint, _by_name, _read_checkpoint),
    "codec": Kind(_make_codec, _by_name, _read_codec),
    "corpus": Kind(_make_corpus, _by_name, _read_corpus, _hide_in_corpus),
    "batch": Kind(_make_batch, _by_name, _read_batch),
    "copying": Kind(_make_copying, _about, _read_copying),
    "archive": Kind(_make_archives, _bytes, _read_archive),
    "take": Kind(_make_takes, _json, _read_take),
}


def make_inputs(folder: Path) -> None:
    """Write the sound inputs of every kind, the same each time, to a folder for each kind."""
    torch.manual_seed(0)
    for name, kind in KINDS.items():
        (folder / name).mkdir(parents=True)
        kind.make(folder / name)
