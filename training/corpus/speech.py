"""Corpora of speech: LibriSpeech as published, and anyone's own recordings, split by speaker."""

import hashlib
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from tqdm import tqdm

from shortcut_gen.errors import DataError, SettingsError
from shortcut_gen.modalities import get_tokenizer
from training.corpus.encoding import Splits, check_vocabulary
from training.corpus.recordings import Blob, Scanned, open_recordings, scanned
from training.corpus.scores import assign_splits, check_shares
from training.corpus.shards import SPLITS
from training.corpus.speech_encoding import SORTED_SECONDS, AudioCoder, CodecSettings, Take

SHARD_SECONDS = 15 * SORTED_SECONDS
"""Sound of a shard: an hour, which is what a killed preparation loses at most."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a recording belongs."""

    piece: str
    """Its piece: recordings of one voice that are joined, in order of their names."""
    speaker: str
    split: str | None = None
    """Where the corpus itself says so."""


class Voice:
    """A piece: recordings of one speaker, in order of their names."""

    __slots__ = ("_contents", "_files", "_names", "seconds", "speaker", "split")

    def __init__(self, place: Place) -> None:
        self.speaker, self.split = place.speaker, place.split
        self.seconds = 0.0
        self._files: list[Blob] = []
        # Sums of hashes: the same in whatever order the files are found, and nothing to keep of each.
        self._contents = self._names = 0

    def add(self, file: Scanned) -> None:
        """One more recording."""
        self._files.append(file.blob)
        self.seconds += file.seconds
        base = file.blob.name.rpartition("/")[2].encode("utf-8", "surrogateescape")
        self._contents += int.from_bytes(file.sha256)
        self._names += int.from_bytes(hashlib.sha256(file.sha256 + base).digest())

    @property
    def files(self) -> tuple[Blob, ...]:
        """Its recordings, in order."""
        return tuple(sorted(self._files, key=lambda blob: blob.name))

    @property
    def contents(self) -> str:
        """Hash of the recordings, whatever they are called."""
        return f"{self._contents % 2**256:064x}"

    @property
    def sha256(self) -> str:
        """Hash of the recordings and their names."""
        return f"{self._names % 2**256:064x}"


@dataclass(frozen=True, kw_only=True)
class AudioOptions:
    """How recordings become ids."""

    speeds: tuple[float, ...] = (1.0,)
    """How fast the training split is played, such as 0.9 1.0 1.1: every speed is a piece of its own, in another voice,
    as it is higher or lower with it."""
    batch_seconds: float = 0.0
    """Seconds of sound encoded together; 0 takes 16 on a CPU and 240 on a GPU."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "speeds", tuple(self.speeds))
        names = {speed_suffix(speed) for speed in self.speeds}
        if not names or len(names) < len(self.speeds) or not all(0.5 <= speed <= 2 for speed in self.speeds):
            raise SettingsError(f"speeds is {list(self.speeds)}; numbers from 0.5 to 2, none twice, are needed")
        if not 0 <= self.batch_seconds <= 3600:
            raise SettingsError(f"batch_seconds is {self.batch_seconds}; a number from 0 to 3600 is needed")

    def batch(self, device: str) -> float:
        """Seconds of sound encoded together."""
        return self.batch_seconds or (16.0 if device == "cpu" else 240.0)


@dataclass(frozen=True, slots=True)
class _Ordered:
    """A piece at a speed and its place in the corpus."""

    voice: str
    speed: float
    split: str
    before: float
    """Seconds of sound in its split before it."""

    def part(self, seconds: float) -> tuple[str, float]:
        """Which part of its split it begins in, where a split is cut into parts so long."""
        return self.split, self.before // seconds


def speed_suffix(speed: float) -> str:
    """What the name of a piece played at a speed ends in."""
    return "" if speed == 1 else f"@{speed:.2f}"


class AudioSource:
    """What sources of speech share. Its pieces are all found, hashed and measured when it is made."""

    tokenizer = "speech"
    strict = False

    def __init__(self, path: Path, *, corpus: str, licence: str, codec: CodecSettings, options: AudioOptions) -> None:
        self.path, self.corpus, self.licence = path, corpus, licence
        self._settings, self._options = codec, options
        self.codec: dict[str, Any] | None = codec.load().identity() | {"codebooks": codec.codebooks}
        self.vocab_size = get_tokenizer(self.tokenizer, self.codec).vocab_size
        check_vocabulary(self.tokenizer, self.vocab_size)
        self._recordings = open_recordings(path)
        self._voices = self._find()
        if not self._voices:
            raise DataError(f"{path} has {self._wanted}; at least one is needed")
        self._takes = self._order()

    _wanted = "no recording"

    def place(self, name: str) -> Place | None:
        """Where a file belongs, by its path; None leaves it out."""
        raise NotImplementedError

    def assign(self, voices: Mapping[str, Voice]) -> Splits:
        """The pieces of each split."""
        raise NotImplementedError

    def _find(self) -> dict[str, Voice]:
        """Every piece, in the order it is best read in."""
        found: dict[str, Voice] = {}
        with tqdm(desc=f"{self.corpus}: looking", unit=" files", leave=False, dynamic_ncols=True) as bar:
            for blob in self._recordings.scan():
                place = self.place(blob.name)
                if place is None:
                    continue
                file = scanned(blob)
                if file.wrong and self.strict:
                    raise DataError(f"{blob.name} in {self.path} {file.wrong}")
                if place.piece not in found:
                    found[place.piece] = Voice(place)
                found[place.piece].add(file)
                bar.update()
        return found if self._recordings.in_order else dict(sorted(found.items()))

    def _order(self) -> dict[str, _Ordered]:
        """Every piece at every speed, by its name."""
        takes: dict[str, _Ordered] = {}
        self._splits: Splits = {}
        for split, names in self.assign(self._voices).items():
            before = 0.0
            for name in names:
                for speed in self._options.speeds if split == "train" else (1.0,):
                    takes[name + speed_suffix(speed)] = _Ordered(name, speed, split, before)
                    self._splits.setdefault(split, []).append(name + speed_suffix(speed))
                    before += self._voices[name].seconds / speed
        return takes

    def splits(self) -> Splits:
        """By speaker."""
        return {split: self._splits.get(split, []) for split in SPLITS}

    def digest(self) -> str:
        """Of all recordings, readable or not."""
        total = hashlib.sha256()
        for name, voice in sorted(self._voices.items()):
            total.update(f"{voice.sha256}  {name}\n".encode("utf-8", "surrogateescape"))
        return total.hexdigest()

    def shards(self, names: Sequence[str], pieces: int) -> list[Sequence[str]]:
        """An hour of sound in each, however many pieces that is."""
        return [list(part) for _, part in itertools.groupby(names, lambda name: self._takes[name].part(SHARD_SECONDS))]

    def jobs(self, names: Sequence[str]) -> Iterator[list[Take]]:
        """Some minutes of sound in each; the same whatever has been done before, as shards begin where jobs do."""
        read = self._read(names)
        for _, part in itertools.groupby(names, lambda name: self._takes[name].part(SORTED_SECONDS)):
            yield [next(read) for _ in part]

    def _read(self, names: Sequence[str]) -> Iterator[Take]:
        """What is to be encoded, in order; the files of a voice are fetched once for all its speeds."""
        voices = [voice for voice, _ in itertools.groupby(self._takes[name].voice for name in names)]
        fetched = self._recordings.fetch([self._voices[voice].files for voice in voices])
        current = ""
        files: tuple[Blob, ...] = ()
        for name in names:
            take = self._takes[name]
            if take.voice != current:
                current, files = take.voice, next(fetched)
            yield Take(name, files, take.speed)

    def coder(self) -> AudioCoder:
        """Encodes with the codec."""
        return AudioCoder(self._settings, self._options.batch(self._settings.device), self.strict)


class LibriSpeechSource(AudioSource):
    """LibriSpeech as published: SUBSET/SPEAKER/CHAPTER/file, of one subset or several, by its own split.

    Where it has no dev-*, some of its training speakers are held out to validate on. A piece is a chapter.
    """

    strict = True
    _wanted = "no recording under train-*, dev-* or test-*/SPEAKER/CHAPTER, LibriSpeech's layout"
    _LAYOUT = re.compile(r"(?:^|/)((train|dev|test)-[^/]+/([^/]+)/[^/]+)/[^/]+$")
    _SPLITS: ClassVar = {"train": "train", "dev": "validation", "test": "test"}

    def __init__(
        self, path: Path, *, codec: CodecSettings, options: AudioOptions, seed: int, validation: float
    ) -> None:
        check_shares(validation, 0.0)
        self._seed, self._validation = seed, validation
        super().__init__(path, corpus="librispeech", licence="CC BY 4.0", codec=codec, options=options)

    def place(self, name: str) -> Place | None:
        """By the last four parts of its path."""
        found = self._LAYOUT.search(name)
        return Place(found[1], found[3], self._SPLITS[found[2]]) if found else None

    def assign(self, voices: Mapping[str, Voice]) -> Splits:
        """LibriSpeech's own, with a part of the training speakers where there is none to validate on."""
        speakers = {split: {v.speaker for v in voices.values() if v.split == split} for split in SPLITS}
        for one, other in itertools.combinations(SPLITS, 2):
            if both := speakers[one] & speakers[other]:
                raise DataError(f"{self.path} has speaker {min(both)} in {one} and in {other}; one of them is needed")
        held: set[str] = set()
        if not speakers["validation"] and speakers["train"]:
            hashes = {speaker: speaker for speaker in sorted(speakers["train"])}
            held = set(assign_splits(hashes, seed=self._seed, validation=self._validation, test=0.0)["validation"])
        out: Splits = {split: [] for split in SPLITS}
        for name, voice in voices.items():
            out["validation" if voice.speaker in held else str(voice.split)].append(name)
        return out


class FolderSource(AudioSource):
    """Anyone's own recordings. A speaker is a folder with recordings in it, the folder above such, or a file.

    A file that cannot be read is left out, and the manifest says so.
    """

    def __init__(
        self,
        path: Path,
        *,
        corpus: str,
        licence: str,
        codec: CodecSettings,
        options: AudioOptions,
        speakers: str,
        shares: tuple[float, float],
        seed: int,
    ) -> None:
        """shares: of the speakers, to validate and to test on."""
        check_shares(*shares)
        self._speakers, self._shares, self._seed = speakers, shares, seed
        super().__init__(path, corpus=corpus, licence=licence, codec=codec, options=options)

    def place(self, name: str) -> Place:
        """By its folder, or by itself."""
        if self._speakers == "file":
            return Place(name, name)
        folder, _, _ = name.rpartition("/")
        folder = folder or self.corpus
        return Place(folder, folder.rpartition("/")[0] or folder if self._speakers == "parent" else folder)

    def assign(self, voices: Mapping[str, Voice]) -> Splits:
        """By seed; files that are the same stay together."""
        of_speaker: dict[str, list[Voice]] = {}
        for voice in voices.values():
            of_speaker.setdefault(voice.speaker, []).append(voice)
        hashes = {
            speaker: hashlib.sha256("".join(sorted(voice.contents for voice in theirs)).encode()).hexdigest()
            for speaker, theirs in of_speaker.items()
        }
        validation, test = self._shares
        splits = assign_splits(
            hashes,
            seed=self._seed,
            validation=validation,
            test=test,
            readable=lambda speaker: any(voice.seconds for voice in of_speaker[speaker]),
        )
        split_of = {speaker: split for split, names in splits.items() for speaker in names}
        out: Splits = {split: [] for split in SPLITS}
        for name, voice in voices.items():
            out[split_of[voice.speaker]].append(name)
        return out
