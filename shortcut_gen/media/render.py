"""Score to sound: FluidSynth with the best soundfont found, or midirenderer where its library is missing."""

import contextlib
import ctypes
import functools
import io
import logging
import os
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pretty_midi
import soundfile
from numpy.typing import NDArray

from shortcut_gen.errors import MediaError, SettingsError
from shortcut_gen.media import Audio, Score, midi_bytes, playable

SOUNDFONT_VARIABLE = "SHORTCUT_GEN_SOUNDFONT"
"""Environment variable with the path of the soundfont to use."""
RELEASE_SECONDS = 1.5
"""How long the last note rings on after its end."""
MAX_RENDER_SECONDS = 2 * 3600.0
"""A longer score is refused: its sound alone would take several GB of memory."""
PEAK = 0.99
"""Louder sound is scaled down to this."""

_GAIN = 1.2  # the loudest 15 s of 24 MAESTRO performances peak between 0.22 and 0.90, 0.49 in the middle
_FADE_SECONDS = 0.1  # at the very end, where the room still rings
_BLOCK_SECONDS = 5.0
_SOUNDFONTS = (
    "/usr/share/sounds/sf3/MuseScore_General_Lite.sf3",
    "/usr/share/sounds/sf3/MuseScore_General.sf3",
    "/usr/share/sounds/sf3/default-GM.sf3",
    "/usr/share/sounds/sf2/default-GM.sf2",
    "/usr/share/sounds/sf2/FluidR3_GM.sf2",
)
_log = logging.getLogger(__name__)


def render(score: Score, *, sample_rate: int = 44100) -> Audio:
    """Stereo sound of a score, with RELEASE_SECONDS after its last note. Raises MediaError where nothing can render."""
    _check(score, sample_rate)
    if _fluidsynth() is None:
        samples = _render_without_fluidsynth(score, sample_rate)  # (2, S)
    else:
        samples = np.concatenate(list(_blocks(score, sample_rate, _BLOCK_SECONDS)), axis=1)  # (2, S)
    peak = float(np.abs(samples).max(initial=0.0))
    if peak > PEAK:
        samples *= PEAK / peak
    return Audio(samples, sample_rate)


def render_stream(score: Score, *, sample_rate: int = 44100, block_seconds: float = 1.0) -> Iterator[Audio]:
    """render, block by block, for playing while the rest is made. Peaks are cut at PEAK: no block knows the others."""
    _check(score, sample_rate)
    if not block_seconds > 0:
        raise SettingsError(f"block_seconds is {block_seconds}; a number above 0 is needed")
    if _fluidsynth() is None:
        audio = render(score, sample_rate=sample_rate)
        size = max(round(block_seconds * sample_rate), 1)
        blocks: Iterator[NDArray[np.float32]] = (
            audio.samples[:, at : at + size] for at in range(0, audio.samples.shape[1], size)
        )
    else:
        blocks = _blocks(score, sample_rate, block_seconds)
    for block in blocks:
        yield Audio(np.clip(block, -PEAK, PEAK), sample_rate)


class GrowingRender:
    """The sound of a score that still grows, in pieces that join to what `render` gives of the whole.

    Needs FluidSynth. Not for two threads at once. Close it, or use it as a context.
    """

    def __init__(self, sample_rate: int = 44100) -> None:
        """Raises MediaError where FluidSynth, or a soundfont, is missing."""
        self.sample_rate = sample_rate
        self._open = _Piano.open(sample_rate)
        self._piano: _Piano | None = self._open.__enter__()

    def __enter__(self) -> "GrowingRender":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def skip(self, seconds: float) -> None:
        """Begin there: what was struck before is not heard. Before anything else is asked for."""
        piano = self._played()
        if piano.position:
            raise ValueError("the rendering has begun")
        piano.position = round(seconds * self.sample_rate)

    def until(self, score: Score, seconds: float) -> NDArray[np.float32]:
        """The next samples, (2, S), up to that time; not cut off at PEAK.

        Nothing before that time may change any more: a note that still sounds then may have any later end.
        """
        piano = self._played()
        end = max(round(seconds * self.sample_rate), piano.position)
        keys = [key for key in _keys(score) if piano.position <= key[0] * self.sample_rate // 1000 < end]
        return piano.play(keys, end)

    def rest(self, score: Score) -> NDArray[np.float32]:
        """What is left of a score that is done, (2, S): it rings on, and is faded out."""
        piano = self._played()
        total = max(_length(score, self.sample_rate), piano.position)
        samples = self.until(score, total / self.sample_rate)
        _fade(samples, total - samples.shape[1], total, self.sample_rate)
        return samples

    def close(self) -> None:
        """Free the synthesizer."""
        if self._piano is not None:
            self._piano = None
            self._open.__exit__(None, None, None)

    def _played(self) -> "_Piano":
        if self._piano is None:
            raise ValueError("the rendering is closed")
        return self._piano


def renderer_name() -> str:
    """What renders here, and with which soundfont: "FluidSynth 2.3.1, MuseScore_General_Lite"."""
    fluidsynth = _fluidsynth()
    if fluidsynth is not None:
        return f"FluidSynth {_version(fluidsynth)}, {_soundfont(compressed=True).stem}"
    if _midirenderer() is not None:
        return f"midirenderer, {_soundfont(compressed=False).stem} (FluidSynth's library was not found)"
    return "none (neither FluidSynth's library nor midirenderer was found)"


def _check(score: Score, sample_rate: int) -> None:
    if not 8000 <= sample_rate <= 96000:  # FluidSynth's own range
        raise SettingsError(f"sample_rate is {sample_rate}; 8000 to 96000 is needed")
    if score.duration > MAX_RENDER_SECONDS:
        raise MediaError(
            f"the score lasts {score.duration / 3600:.1f} hours; at most {MAX_RENDER_SECONDS / 3600:.0f} are rendered"
        )


def _soundfont(*, compressed: bool) -> Path:
    """The soundfont to use: the one asked for, else the first found; compressed allows .sf3."""
    asked = os.environ.get(SOUNDFONT_VARIABLE)
    if asked:
        path = Path(asked)
        if not path.is_file():
            raise MediaError(f"{SOUNDFONT_VARIABLE} is {asked}, which is no file; the path of a soundfont is needed")
        return path
    shipped = Path(pretty_midi.__file__).with_name("TimGM6mb.sf2")
    for path in (*map(Path, _SOUNDFONTS), shipped):
        if path.is_file() and (compressed or path.suffix == ".sf2"):
            return path
    raise MediaError(f"no soundfont was found; install one, or name one in {SOUNDFONT_VARIABLE}")


@functools.cache
def _fluidsynth() -> ModuleType | None:
    """pyfluidsynth, or None where its C library is missing; said once."""
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # it prints where CI is set, into a command's result or log
            import fluidsynth
    except (ImportError, OSError, AttributeError) as error:
        _log.warning("FluidSynth cannot be used (%s): sound is rendered by midirenderer instead", error)
        return None
    module: ModuleType = fluidsynth
    return module


def _version(fluidsynth: ModuleType) -> str:
    parts = [ctypes.c_int() for _ in range(3)]
    fluidsynth.fluid_version(*parts)
    return ".".join(str(part.value) for part in parts)


@functools.cache
def _midirenderer() -> ModuleType | None:
    try:
        import midirenderer
    except ImportError:
        return None
    module: ModuleType = midirenderer
    return module


@functools.cache
def _write_float(fluidsynth: ModuleType) -> Callable[..., int]:
    """fluid_synth_write_float, which pyfluidsynth leaves out: its own get_samples cuts peaks off at 16 bits."""
    pointer, whole = ctypes.c_void_p, ctypes.c_int
    function: Callable[..., int] = fluidsynth.cfunc(
        "fluid_synth_write_float",
        whole,
        *(("synth", pointer, 1), ("len", whole, 1)),
        *(("lout", pointer, 1), ("loff", whole, 1), ("lincr", whole, 1)),
        *(("rout", pointer, 1), ("roff", whole, 1), ("rincr", whole, 1)),
    )
    return function


def _new_synth(fluidsynth: ModuleType, path: Path, sample_rate: int) -> Any:
    """A synthesizer with the piano of a soundfont on channel 0."""
    settings = {
        "synth.chorus.active": 0,  # chorus is made for strings: it detunes a piano
        "synth.polyphony": 512,
        "synth.dynamic-sample-loading": 1,  # the piano's samples alone, not the whole font's
    }
    synth = fluidsynth.Synth(gain=_GAIN, samplerate=sample_rate, channels=16, **settings)
    font = synth.sfload(str(path))
    if font == -1 or synth.program_select(0, font, 0, 0) == -1:
        synth.delete()
        raise MediaError(f"{path} is no soundfont with a piano that FluidSynth can load")
    return synth


@functools.lru_cache(maxsize=1)
def _keep_loaded(path: Path, modified_ns: int) -> Any:
    """An idle synthesizer. While one has the samples loaded others share them: 0.05 s instead of 2 s to open one."""
    fluidsynth = _fluidsynth()
    assert fluidsynth is not None
    return _new_synth(fluidsynth, path, 44100)


def warm_up() -> None:
    """Load the soundfont ahead of the first render, which is then 2 s faster; where nothing can render, do nothing."""
    with contextlib.suppress(MediaError):
        if _fluidsynth() is not None:
            path = _soundfont(compressed=True)
            _keep_loaded(path, path.stat().st_mtime_ns)


_Key = tuple[int, int, int, int]
"""When, in ms; 0 to let a key go, 1 to strike it; pitch; velocity."""


@dataclass
class _Piano:
    """A FluidSynth piano that is told of keys and gives samples."""

    fluidsynth: ModuleType
    synth: Any
    sample_rate: int
    position: int = 0
    """Samples given so far."""

    @classmethod
    @contextlib.contextmanager
    def open(cls, sample_rate: int) -> Iterator["_Piano"]:
        """A piano of one's own, freed at the end: FluidSynth's are not shared between threads."""
        fluidsynth = _fluidsynth()
        if fluidsynth is None:
            raise MediaError("FluidSynth's library (libfluidsynth3) is needed to render sound piece by piece")
        path = _soundfont(compressed=True)
        _keep_loaded(path, path.stat().st_mtime_ns)
        synth = _new_synth(fluidsynth, path, sample_rate)
        try:
            yield cls(fluidsynth, synth, sample_rate)
        finally:
            synth.delete()

    def play(self, keys: Iterable[_Key], until: int) -> NDArray[np.float32]:
        """The samples from where it stands to sample `until`, (2, S), with these keys, in order, at their moments."""
        parts = []
        for moment, on, pitch, velocity in keys:
            parts.append(self._samples(moment * self.sample_rate // 1000 - self.position))
            if on:
                self.synth.noteon(0, pitch, velocity)
            else:
                self.synth.noteoff(0, pitch)
        parts.append(self._samples(until - self.position))
        return np.concatenate(parts, axis=1)

    def _samples(self, count: int) -> NDArray[np.float32]:
        out = np.zeros((2, max(count, 0)), np.float32)
        if count > 0:
            left, right = out[0].ctypes.data, out[1].ctypes.data
            _write_float(self.fluidsynth)(self.synth.synth, count, left, 0, 1, right, 0, 1)
            self.position += count
        return out


def _keys(score: Score) -> list[_Key]:
    """What a piano is told of a score, in order of time."""
    notes = playable(score.notes)
    keys = [(note.start, 1, note.pitch, note.velocity) for note in notes]
    keys += [(note.end, 0, note.pitch, 0) for note in notes]
    return sorted(keys)  # within a moment, ends first


def _length(score: Score, sample_rate: int) -> int:
    """How many samples a score takes, the last note's ringing on included."""
    return round((max((note.end for note in playable(score.notes)), default=0) / 1000 + RELEASE_SECONDS) * sample_rate)


def _fade(samples: NDArray[np.float32], start: int, total: int, sample_rate: int) -> None:
    """Fade out what of (2, S) samples, which begin at sample `start`, is at the very end of the total."""
    fade = min(round(_FADE_SECONDS * sample_rate), total)
    ramp = np.linspace(1.0, 0.0, fade, dtype=np.float32)
    faded = min(start + samples.shape[1] - (total - fade), samples.shape[1])
    if faded > 0:
        first = start + samples.shape[1] - faded - (total - fade)
        samples[:, -faded:] *= ramp[first : first + faded]


def _blocks(score: Score, sample_rate: int, block_seconds: float) -> Iterator[NDArray[np.float32]]:
    """Sound in blocks of at least block_seconds (the last may be shorter), (2, S) each, the end faded out."""
    keys, total = _keys(score), _length(score, sample_rate)
    moments = [moment * sample_rate // 1000 for moment, *_ in keys]
    size = max(round(block_seconds * sample_rate), 1)
    with _Piano.open(sample_rate) as piano:
        at = 0
        while piano.position < total:
            start, until = piano.position, min(piano.position + size, total)
            behind = bisect_left(moments, until)
            samples = piano.play(keys[at:behind], until)
            _fade(samples, start, total, sample_rate)
            at = behind
            yield samples


def _render_without_fluidsynth(score: Score, sample_rate: int) -> NDArray[np.float32]:
    """(2, S) by midirenderer, which gives 44.1 kHz and reads no compressed soundfont."""
    midirenderer = _midirenderer()
    if midirenderer is None:
        raise MediaError("no sound can be rendered: install FluidSynth's library (libfluidsynth3) or midirenderer")
    font = _soundfont(compressed=False)
    try:
        wav = midirenderer.render_wave_from(font.read_bytes(), midi_bytes(score))
        samples, rate = soundfile.read(io.BytesIO(bytes(wav)), dtype="float32", always_2d=True)
    except Exception as error:  # a Rust library: what it raises is not documented
        raise MediaError(f"midirenderer cannot render with {font}: {error}") from error
    samples = samples.T  # (2, S)
    count = round((score.duration + RELEASE_SECONDS) * sample_rate)
    times = np.arange(count) / sample_rate
    own = np.arange(samples.shape[1]) / rate
    return np.stack([np.interp(times, own, channel, right=0.0) for channel in samples]).astype(np.float32)
