"""A FluidSynth piano with the best soundfont found: told of keys, it gives samples."""

import contextlib
import ctypes
import functools
import io
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pretty_midi
from numpy.typing import NDArray

from shortcut_gen.errors import MediaError
from shortcut_gen.media.types import PlayedNote

SOUNDFONT_VARIABLE = "SHORTCUT_GEN_SOUNDFONT"
"""Environment variable with the path of the soundfont to use."""
STEP = 64
"""Samples between two moments at which FluidSynth strikes a key."""

_GAIN = 1.2  # the loudest 15 s of 24 MAESTRO performances peak between 0.22 and 0.90, 0.49 in the middle
_SOUNDFONTS = (
    "/usr/share/sounds/sf3/MuseScore_General_Lite.sf3",
    "/usr/share/sounds/sf3/MuseScore_General.sf3",
    "/usr/share/sounds/sf3/default-GM.sf3",
    "/usr/share/sounds/sf2/default-GM.sf2",
    "/usr/share/sounds/sf2/FluidR3_GM.sf2",
)
_log = logging.getLogger(__name__)


def soundfont(*, compressed: bool) -> Path:
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
def fluidsynth_library() -> ModuleType | None:
    """pyfluidsynth, or None where its C library is missing; said once."""
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # it prints where CI is set, into a command's result or log
            import fluidsynth
    except (ImportError, OSError, AttributeError) as error:
        _log.warning("FluidSynth cannot be used (%s): sound is rendered by midirenderer instead", error)
        return None
    module: ModuleType = fluidsynth
    return module


def version_of(fluidsynth: ModuleType) -> str:
    """FluidSynth's own: "2.3.1"."""
    parts = [ctypes.c_int() for _ in range(3)]
    fluidsynth.fluid_version(*parts)
    return ".".join(str(part.value) for part in parts)


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
    fluidsynth = fluidsynth_library()
    assert fluidsynth is not None
    return _new_synth(fluidsynth, path, 44100)


def warm_up() -> None:
    """Load the soundfont ahead of the first render, which is then 2 s faster; where nothing can render, do nothing."""
    with contextlib.suppress(MediaError):
        if fluidsynth_library() is not None:
            path = soundfont(compressed=True)
            _keep_loaded(path, path.stat().st_mtime_ns)


Key = tuple[int, int, int, int]
"""When, in ms; 0 to let a key go, 1 to strike it; pitch; velocity."""


@dataclass
class Piano:
    """A FluidSynth piano that is told of keys and gives samples."""

    fluidsynth: ModuleType
    synth: Any
    sample_rate: int
    position: int = 0
    """Samples given so far."""

    @classmethod
    @contextlib.contextmanager
    def open(cls, sample_rate: int) -> Iterator["Piano"]:
        """A piano of one's own, freed at the end: FluidSynth's are not shared between threads."""
        fluidsynth = fluidsynth_library()
        if fluidsynth is None:
            raise MediaError("FluidSynth's library (libfluidsynth3) is needed to render sound piece by piece")
        path = soundfont(compressed=True)
        _keep_loaded(path, path.stat().st_mtime_ns)
        synth = _new_synth(fluidsynth, path, sample_rate)
        try:
            yield cls(fluidsynth, synth, sample_rate)
        finally:
            synth.delete()

    def play(self, keys: Iterable[Key], until: int) -> NDArray[np.float32]:
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


def keys_of(notes: Sequence[PlayedNote]) -> list[Key]:
    """What a piano is told of some notes, in order of time."""
    keys = [(note.start, 1, note.pitch, note.velocity) for note in notes]
    keys += [(note.end, 0, note.pitch, 0) for note in notes]
    return sorted(keys)  # within a moment, ends first
