"""Crops of recordings for the codec: drawn by duration, changed in speed and gain, the same for one seed."""

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np
import soxr
import torch
from numpy.typing import NDArray
from torch import Tensor

from shortcut_gen.errors import ConfigError, DataError, MediaError
from shortcut_gen.files import reason
from shortcut_gen.media.sound import Sound, length
from training.corpus.recordings import find

log = logging.getLogger(__name__)

_TRIES = 8
_SILENT = 2e-3
"""Standard deviation of a crop in which nothing is heard: another one is drawn, so many times."""
_SPEED_STEP = 0.02
"""Speeds are drawn in such steps: a resampler is made for each."""


@dataclass(frozen=True, kw_only=True)
class CropConfig:
    """Where the recordings lie and how crops are drawn from them."""

    folders: tuple[str, ...] = ()
    """Folders of recordings, read with all their subfolders."""
    weights: tuple[float, ...] = ()
    """How often a second of each folder is drawn, against the others; equally often if not given."""
    batch_size: int = 12
    """Crops a step."""
    seconds: float = 1.28
    """Length of a crop."""
    gain_db: tuple[float, float] = (-6.0, 4.5)
    """Lowest and highest change of loudness, in dB; a crop that would pass full scale is scaled to it."""
    speed: float = 0.1
    """Share that a recording is played faster or slower by at most: other voices."""
    validation_share: float = 0.01
    """Share of the files kept out of training, to watch over it."""
    validation_crops: int = 32
    """Crops of these that are scored."""
    cache_gib: float = 2.0
    """Memory for decoded recordings, so that a small corpus is decoded once."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "folders", tuple(self.folders))
        object.__setattr__(self, "gain_db", tuple(self.gain_db))
        object.__setattr__(self, "weights", tuple(self.weights))
        for name in ("batch_size", "validation_crops"):
            _check(self, name, getattr(self, name) >= 1, "a whole number of at least 1")
        _check(self, "seconds", 0 < self.seconds <= 60, "a number above 0, up to 60")
        _check(
            self,
            "gain_db",
            len(self.gain_db) == 2 and self.gain_db[0] <= self.gain_db[1],
            "(low, high) with low ≤ high",
        )
        _check(self, "speed", 0 <= self.speed <= 0.5, "a number from 0 to 0.5")
        weighed = all(weight > 0 for weight in self.weights) and len(self.weights) in (0, len(self.folders))
        _check(self, "weights", weighed, f"a number above 0 for each of the {len(self.folders)} folders")
        _check(self, "validation_share", 0 <= self.validation_share < 1, "a number from 0 up to, not including, 1")
        _check(self, "cache_gib", self.cache_gib >= 0, "a number of at least 0")


def _check(config: CropConfig, name: str, ok: bool, need: str) -> None:
    if not ok:
        raise ConfigError(f"data.{name} is {getattr(config, name)}; {need} is needed")


@dataclass(frozen=True, kw_only=True)
class Recording:
    """A sound file."""

    path: Path
    seconds: float
    """Its length."""


class Crops:
    """Draws batches of crops; a batch depends on the seed and its number alone."""

    def __init__(self, config: CropConfig, sample_rate: int, seed: int, margin: int = 0) -> None:
        """margin: samples on either side of a crop that are given beside it."""
        self.config = config
        self.sample_rate = sample_rate
        self.seed = seed
        self.samples = round(config.seconds * sample_rate) + 2 * margin
        """Samples of a crop with its margins, S."""
        weights = config.weights or (1.0,) * len(config.folders)
        pairs = zip(config.folders, weights, strict=True)
        found = [(recording, weight) for folder, weight in pairs for recording in scan(Path(folder))]
        if not found:
            raise DataError("data.folders names no folder; at least one folder of recordings is needed")
        order = np.random.default_rng([seed, 1]).permutation(len(found))
        held = round(config.validation_share * len(found))
        if len(found) > 1 and config.validation_share:
            held = max(held, 1)
        kept = [found[i] for i in sorted(order[held:])]
        self.validation_files = [found[i][0] for i in sorted(order[:held])] or [file for file, _ in found]
        self.files = [file for file, _ in kept]
        seconds = np.array([file.seconds for file in self.files])
        self.hours = float(seconds.sum()) / 3600
        likely = seconds * np.array([weight for _, weight in kept])
        self._ends = np.cumsum(likely) / likely.sum()
        self._cache: dict[Path, NDArray[np.int16]] = {}
        self._said: set[Path] = set()
        self._room = int(config.cache_gib * 2**30)

    def batch(self, number: int) -> Tensor:
        """(B, S) crops of a step."""
        rng = np.random.default_rng([self.seed, 2, number])
        return torch.from_numpy(np.stack([self._augmented(rng) for _ in range(self.config.batch_size)]))

    def validation(self) -> Tensor:
        """(N, S) crops of the files kept out, always the same and as they are."""
        rng = np.random.default_rng([self.seed, 3])
        files = self.validation_files
        rows = [
            self._crop(files[rng.integers(len(files))], self.samples, rng) for _ in range(self.config.validation_crops)
        ]
        return torch.from_numpy(np.stack(rows))

    def _augmented(self, rng: np.random.Generator) -> NDArray[np.float32]:
        """A crop with something to hear in it, at another speed and loudness."""
        crop = self._varied(rng)
        for _ in range(_TRIES):
            if crop.std() >= _SILENT:
                break
            crop = self._varied(rng)
        crop = crop * np.float32(10 ** (rng.uniform(*self.config.gain_db) / 20))
        peak = float(np.abs(crop).max())
        return crop / np.float32(peak) if peak > 1 else crop

    def _varied(self, rng: np.random.Generator) -> NDArray[np.float32]:
        step = _SPEED_STEP * round(rng.uniform(-self.config.speed, self.config.speed) / _SPEED_STEP)
        samples = round(self.samples * (1 + step))
        crop = self._crop(self._pick(rng), samples, rng)
        if not step:
            return crop
        out: NDArray[np.float32] = soxr.resample(crop, samples, self.samples, quality="HQ")
        return np.pad(out, (0, max(self.samples - len(out), 0)))[: self.samples]

    def _pick(self, rng: np.random.Generator) -> Recording:
        return self.files[min(int(np.searchsorted(self._ends, rng.random())), len(self.files) - 1)]

    def _crop(self, file: Recording, samples: int, rng: np.random.Generator) -> NDArray[np.float32]:
        """So many samples of a recording; silence follows one that is too short."""
        whole = self._samples(file)
        start = int(rng.integers(max(len(whole) - samples, 0) + 1))
        crop = whole[start : start + samples].astype(np.float32) / 32768
        return np.pad(crop, (0, samples - len(crop)))

    def _samples(self, file: Recording) -> NDArray[np.int16]:
        """A recording at the codec's rate, one channel. Long ones could be sought in; speech corpora have none."""
        if file.path in self._cache:
            return self._cache[file.path]
        try:
            with file.path.open("rb") as stream:
                sound = Sound(stream)
                out = np.concatenate([_int16(block) for block in sound.blocks(self.sample_rate)])
        except OSError as error:
            raise DataError(f"{file.path} cannot be read: {reason(error)}") from error
        except MediaError as error:
            raise DataError(f"{file.path} {error}") from error
        if sound.kept and file.path not in self._said:
            self._said.add(file.path)
            log.warning("%s: %s", file.path, sound.kept)
        if out.nbytes <= self._room:
            self._room -= out.nbytes
            self._cache[file.path] = out
        return out


Made = TypeVar("Made")


class Ahead(Generic[Made]):
    """Prepares what the next steps need on another thread while a step runs."""

    def __init__(self, make: Callable[[int], Made], first: int, depth: int = 3) -> None:
        """make: what a step of that number needs."""
        self._make = make
        self._pool = ThreadPoolExecutor(1)
        self._next = first
        self._waiting = [self._pool.submit(make, first + k) for k in range(depth)]

    def take(self) -> Made:
        """What the next step needs."""
        made = self._waiting.pop(0).result()
        self._waiting.append(self._pool.submit(self._make, self._next + len(self._waiting) + 1))
        self._next += 1
        return made

    def close(self) -> None:
        """Drops what was being prepared."""
        self._pool.shutdown(wait=True, cancel_futures=True)


def scan(folder: Path) -> list[Recording]:
    """The recordings below a folder, in order of their names. Raises DataError where there is none."""
    out = [recording for path in find(folder) for recording in _header(path)]
    if not out:
        raise DataError(f"{folder}: no recording there that can be read")
    return out


def _header(path: Path) -> Sequence[Recording]:
    try:
        with path.open("rb") as stream:
            return [Recording(path=path, seconds=length(stream)[0])]
    except OSError as error:
        log.warning("left out: %s cannot be read: %s", path, reason(error))
    except MediaError as error:
        log.warning("left out: %s %s", path, error)
    return []


def _int16(samples: NDArray[np.float32]) -> NDArray[np.int16]:
    return np.round(samples.clip(-1, 1) * 32767).astype(np.int16)
