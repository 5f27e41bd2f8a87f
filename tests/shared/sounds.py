"""Sounds made for the tests: something like speech, as arrays and files."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

RATE = 16_000

needs_eval = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("pesq", "pystoi", "resemblyzer")),
    reason="the eval extra is not installed",
)

needs_judges = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("distillmos", "onnxruntime", "pocketsphinx", "speechmos")),
    reason="the judges extra is not installed",
)


def sawtooth(hertz: float, seconds: float, rate: int = RATE) -> NDArray[np.float32]:
    """(S,) a sawtooth at half of full scale."""
    at = np.arange(round(seconds * rate)) / rate
    return (at * hertz % 1 - 0.5).astype(np.float32)


def noise(seconds: float, level: float = 0.1, seed: int = 0, rate: int = RATE) -> NDArray[np.float32]:
    """(S,) white noise of that RMS."""
    rng = np.random.default_rng(seed)
    return (level * rng.standard_normal(round(seconds * rate))).astype(np.float32)


def speechlike(seconds: float, hertz: float = 120.0, seed: int = 0, rate: int = RATE) -> NDArray[np.float32]:
    """(S,) syllables of a buzzing voice and hiss, four a second, with a pause after every fourth."""
    at = np.arange(round(seconds * rate)) / rate
    rng = np.random.default_rng(seed)
    pitch = hertz * (1 + 0.1 * np.sin(2 * np.pi * 0.7 * at + rng.uniform(0, 6)))
    buzz = (np.cumsum(pitch) / rate) % 1 - 0.5
    syllable = np.sin(np.pi * (at * 4 % 1)) ** 2 * (at * 4 % 5 < 4)
    formant = np.sin(2 * np.pi * (500 + 300 * np.floor(at * 4) % 900) * at)
    voice = syllable * (0.5 * buzz + 0.3 * buzz * formant) + 0.02 * syllable * rng.standard_normal(len(at))
    return (voice + 1e-4 * rng.standard_normal(len(at))).astype(np.float32)


def write_speech(
    folder: Path, speakers: int = 2, each: int = 2, seconds: float = 3.0, suffix: str = "flac"
) -> list[Path]:
    """Files of several speakers in LibriSpeech's layout: SPEAKER/CHAPTER/SPEAKER-CHAPTER-NUMBER."""
    paths = []
    for speaker in range(speakers):
        for number in range(each):
            path = folder / f"{speaker + 1}" / "7" / f"{speaker + 1}-7-{number:04d}.{suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            sound = speechlike(seconds, hertz=110.0 + 70 * speaker, seed=10 * speaker + number)
            soundfile.write(path, sound, RATE)
            paths.append(path)
    return paths
