"""Crops of recordings for the codec: drawn by duration, changed in gain, sometimes mixed, the same for one seed."""

import logging
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from shortcut_gen.errors import ConfigError, DataError, MediaError
from shortcut_gen.files import reason
from shortcut_gen.media.sound import Sound, length
from training.corpus.recordings import is_recording

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class CropConfig:
    """Where the recordings lie and how crops are drawn from them."""

    folders: tuple[str, ...] = ()
    """Folders of recordings, read with all their subfolders."""
    batch_size: int = 16
    """Crops a step."""
    seconds: float = 1.0
    """Length of a crop."""
    gain_db: tuple[float, float] = (-12.0, 6.0)
    """Lowest and highest change of loudness, in dB; a crop that would pass full scale is scaled to it."""
    mix: float = 0.1
    """Share of the crops that get another crop mixed in, 0 to 15 dB below."""
    validation_share: float = 0.01
    """Share of the files kept out of training, to watch over it."""
    validation_crops: int = 32
    """Crops of these that are scored."""
    cache_gib: float = 2.0
    """Memory for decoded recordings, so that a small corpus is decoded once."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "folders", tuple(self.folders))
        object.__setattr__(self, "gain_db", tuple(self.gain_db))
        for name in ("batch_size", "validation_crops"):
            _check(self, name, getattr(self, name) >= 1, "a whole number of at least 1")
        _check(self, "seconds", 0 < self.seconds <= 60, "a number above 0, up to 60")
        _check(
            self,
            "gain_db",
            len(self.gain_db) == 2 and self.gain_db[0] <= self.gain_db[1],
            "(low, high) with low ≤ high",
        )
        _check(self, "mix", 0 <= self.mix <= 1, "a number from 0 to 1")
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

    def __init__(self, config: CropConfig, sample_rate: int, seed: int) -> None:
        self.config = config
        self.sample_rate = sample_rate
        self.seed = seed
        found = [recording for folder in config.folders for recording in scan(Path(folder))]
        if not found:
            raise DataError("data.folders names no folder; at least one folder of recordings is needed")
        order = np.random.default_rng([seed, 1]).permutation(len(found))
        held = round(config.validation_share * len(found))
        if len(found) > 1 and config.validation_share:
            held = max(held, 1)
        self.validation_files = [found[i] for i in sorted(order[:held])] or found
        self.files = [found[i] for i in sorted(order[held:])]
        seconds = np.array([file.seconds for file in self.files])
        self.hours = float(seconds.sum()) / 3600
        self._ends = np.cumsum(seconds) / seconds.sum()
        self._cache: dict[Path, NDArray[np.int16]] = {}
        self._said: set[Path] = set()
        self._room = int(config.cache_gib * 2**30)

    @property
    def samples(self) -> int:
        """Samples of a crop, S."""
        return round(self.config.seconds * self.sample_rate)

    def batch(self, number: int) -> Tensor:
        """(B, 1, S) crops of a step."""
        rng = np.random.default_rng([self.seed, 2, number])
        rows = [self._augmented(rng) for _ in range(self.config.batch_size)]
        return torch.from_numpy(np.stack(rows))[:, None]

    def validation(self) -> Tensor:
        """(N, 1, S) crops of the files kept out, always the same and as they are."""
        rng = np.random.default_rng([self.seed, 3])
        files = self.validation_files
        rows = [self._crop(files[rng.integers(len(files))], rng) for _ in range(self.config.validation_crops)]
        return torch.from_numpy(np.stack(rows))[:, None]

    def _augmented(self, rng: np.random.Generator) -> NDArray[np.float32]:
        crop = self._crop(self._pick(rng), rng)
        if rng.random() < self.config.mix:
            other = self._crop(self._pick(rng), rng)
            level = 10 ** (-rng.uniform(0, 15) / 20) * _rms(crop) / max(_rms(other), 1e-4)
            crop = crop + other * np.float32(level)
        crop = crop * np.float32(10 ** (rng.uniform(*self.config.gain_db) / 20))
        peak = float(np.abs(crop).max())
        return crop / np.float32(peak) if peak > 1 else crop

    def _pick(self, rng: np.random.Generator) -> Recording:
        return self.files[min(int(np.searchsorted(self._ends, rng.random())), len(self.files) - 1)]

    def _crop(self, file: Recording, rng: np.random.Generator) -> NDArray[np.float32]:
        """(S,) of a recording; silence follows one that is too short."""
        whole = self._samples(file)
        start = int(rng.integers(max(len(whole) - self.samples, 0) + 1))
        crop = whole[start : start + self.samples].astype(np.float32) / 32768
        return np.pad(crop, (0, self.samples - len(crop)))

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


class Ahead:
    """Prepares the next batches on another thread while a step runs."""

    def __init__(self, crops: Crops, first: int, depth: int = 4) -> None:
        self._crops = crops
        self._pool = ThreadPoolExecutor(1)
        self._next = first
        self._waiting = [self._pool.submit(crops.batch, first + k) for k in range(depth)]

    def take(self) -> Tensor:
        """The next batch, (B, 1, S)."""
        batch = self._waiting.pop(0).result()
        self._waiting.append(self._pool.submit(self._crops.batch, self._next + len(self._waiting) + 1))
        self._next += 1
        return batch

    def close(self) -> None:
        """Drops what was being prepared."""
        self._pool.shutdown(wait=True, cancel_futures=True)


def scan(folder: Path) -> list[Recording]:
    """The recordings below a folder, in order of their names. Raises DataError where there is none."""
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; a folder of recordings is needed")
    out: list[Recording] = []
    for root, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            if is_recording(name):
                out += _header(Path(root) / name)
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


def _rms(samples: NDArray[np.float32]) -> float:
    return float(np.sqrt(np.mean(samples**2)))
