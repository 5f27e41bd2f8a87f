"""Starts of recordings and what followed them, really or by a model: how they are measured and compared."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shortcut_gen.errors import DataError
from shortcut_gen.media import Audio, read_audio
from shortcut_gen.modalities.base import Tokenizer
from training.corpus.recordings import find
from training.scoring import sound as metrics
from training.scoring.sound import RATE, Signal, Voices, to_rate

LEAST_FOLLOWING = 3.0
"""A recording counts where at least this much of it follows the prompt, in seconds."""
MADE, CODED, REAL = "continuation", "real, through the codec", "real"


@dataclass(frozen=True, kw_only=True)
class Take:
    """A start and what followed it, at 16 kHz."""

    path: Path
    speaker: str
    sound: Signal
    seam: float
    """Where the start ends, in seconds."""

    @property
    def start(self) -> Signal:
        """Up to the seam."""
        return self.sound[: round(self.seam * RATE)]

    @property
    def following(self) -> Signal:
        """From the seam on."""
        return self.sound[round(self.seam * RATE) :]


def real_takes(folder: Path, count: int, prompt_seconds: float, seconds: float) -> list[Take]:
    """So many recordings, long enough, from as many speakers as there are. Raises DataError, MediaError.

    The folder's first level of subfolders names the speakers; without any, each file is a speaker's.
    """
    by_speaker: dict[str, list[Path]] = {}
    for path in find(folder):
        parts = path.relative_to(folder).parts
        by_speaker.setdefault(parts[0] if len(parts) > 1 else path.stem, []).append(path)
    out: list[Take] = []
    least, most = prompt_seconds + LEAST_FOLLOWING, prompt_seconds + seconds
    while by_speaker and len(out) < count:  # one of each speaker, then a second of each, and so on
        for speaker in sorted(by_speaker):
            take = None
            while by_speaker[speaker] and take is None:
                path = by_speaker[speaker].pop(0)
                audio = read_audio(path, most)
                if audio.duration >= least:
                    sound = to_rate(audio.samples.mean(axis=0), audio.sample_rate)[: round(most * RATE)]
                    take = Take(path=path, speaker=speaker, sound=sound, seam=prompt_seconds)
            if take is None:
                del by_speaker[speaker]
            elif len(out) < count:
                out.append(take)
    if len({take.speaker for take in out}) < 2:
        raise DataError(f"{folder}: fewer than two speakers with recordings of {least:g} s; at least two are needed")
    return out


def coded(tokenizer: Tokenizer, take: Take) -> Take:
    """A take through the codec, with the model's own number of codebooks."""
    audio = tokenizer.decode(tokenizer.encode(Audio(take.sound[None], RATE)))
    assert isinstance(audio, Audio)
    sound = to_rate(audio.samples[0], audio.sample_rate)[: len(take.sound)]
    return Take(path=take.path, speaker=take.speaker, sound=sound, seam=take.seam)


def measure(take: Take) -> dict[str, float]:
    """All but the voice of what follows a start; what it is measured against is the start."""
    levels, before = (metrics.frame_levels(sound, RATE) for sound in (take.following, take.start))
    loud = metrics.loud_level(before)
    pitch, pitch_before = (metrics.pitches(sound, RATE) for sound in (take.following, take.start))
    enough = min(len(pitch), len(pitch_before)) >= 10
    low, middle, high = np.percentile(pitch, [10, 50, 90]) if enough else (math.nan,) * 3
    moved = abs(12 * math.log2(middle / np.median(pitch_before))) if enough else math.nan
    return {
        "silence": metrics.silence_share(levels, loud),
        "longest_silence": metrics.longest_silence(levels, loud),
        "level_change": metrics.speech_level(levels, loud) - metrics.speech_level(before, loud),
        "pitch": float(middle),
        "pitch_change": moved,
        "pitch_range": 12 * math.log2(high / low) if enough else math.nan,
        "voiced": len(pitch) * 0.01 * RATE / max(len(take.following), 1),
        "clipped": metrics.clipped_share(take.following),
        "seam_flux": metrics.flux_percentile(take.sound, RATE, take.seam),
    }


def voices_of(takes: Sequence[Take], part: Callable[[Take], Signal], voices: Voices) -> NDArray[np.float32]:
    """(N, 256) embeddings of a part of each take; a row of NaN where no voice is found."""
    found = [voices.embed(part(take), RATE) for take in takes]
    return np.stack([np.full(256, np.nan, np.float32) if row is None else row for row in found])


def compare(systems: dict[str, list[Take]], voices: Voices) -> tuple[dict[str, list[dict[str, float]]], dict[str, Any]]:
    """Measures of every take of every system, and the similarities of pairs of real recordings."""
    real = systems[REAL]
    starts = voices_of(real, lambda take: take.start, voices)
    speakers = sorted({take.speaker for take in real})
    owner = np.array([speakers.index(take.speaker) for take in real])
    centres = np.stack([_mean(starts[owner == k]) for k in range(len(speakers))])
    rows: dict[str, list[dict[str, float]]] = {}
    following: dict[str, NDArray[np.float32]] = {}
    for name, takes in systems.items():
        following[name] = voices_of(takes, lambda take: take.following, voices)
        alike = (starts * following[name]).sum(axis=1)
        nearest = np.where(np.isfinite(alike), (following[name] @ centres.T).argmax(axis=1) == owner, False)
        rows[name] = [
            measure(take) | {"similarity": float(a), "nearest": float(n)}
            for take, a, n in zip(takes, alike, nearest, strict=True)
        ]
    pairs = starts @ following[REAL].T  # (N, N): start of row, what follows of column
    coded_pairs = starts @ following[CODED].T
    other = owner[:, None] != owner[None, :]
    again = ~other & ~np.eye(len(real), dtype=bool)
    return rows, {
        "same speaker, another recording": spread(pairs[again]),
        "another speaker": spread(pairs[other]),
        "another speaker, through the codec": spread(coded_pairs[other]),
        "speakers": len(speakers),
    }


def _mean(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Of the rows that are numbers; zeros where none are."""
    there = rows[np.isfinite(rows).all(axis=1)]
    return there.mean(axis=0) if len(there) else np.zeros(rows.shape[1], np.float32)


def spread(values: NDArray[np.float32] | list[float]) -> dict[str, float]:
    """Mean, 5th and 95th percentile and count of the values that are numbers."""
    there = np.asarray(values, np.float64)
    there = there[np.isfinite(there)]
    if not len(there):
        return {"mean": math.nan, "low": math.nan, "high": math.nan, "count": 0}
    low, high = np.percentile(there, [5, 95])
    return {"mean": float(there.mean()), "low": float(low), "high": float(high), "count": len(there)}


def faults(row: dict[str, float], bounds: dict[str, float]) -> list[str]:
    """What is wrong with a continuation, by the bounds of `limits`."""
    found = []
    if not row["similarity"] > bounds["similarity"]:
        found.append("another voice")
    if row["silence"] > bounds["silence"]:
        found.append("silent")
    if not abs(row["level_change"]) <= bounds["level_change"]:
        found.append("another loudness")
    if not row["pitch_change"] <= bounds["pitch_change"]:
        found.append("another pitch")
    if row["voiced"] < bounds["voiced"]:
        found.append("hardly a pitch")
    if row["clipped"] > bounds["clipped"]:
        found.append("clipped")
    if row["seam_flux"] >= 100:
        found.append("a click")
    return found


def limits(rows: list[dict[str, float]], pairs: dict[str, Any]) -> dict[str, float]:
    """The most (or least) that real speech through the codec shows of each, and the likeness of 95% of strangers."""
    most = {
        name: float(np.nanmax([abs(row[name]) for row in rows]))
        for name in ("silence", "level_change", "pitch_change", "clipped")
    }
    least = {"voiced": min(row["voiced"] for row in rows)}
    return most | least | {"similarity": pairs["another speaker, through the codec"]["high"]}
