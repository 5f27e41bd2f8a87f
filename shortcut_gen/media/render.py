"""Score to sound: FluidSynth with the best soundfont found, or midirenderer where its library is missing."""

import functools
import io
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from types import ModuleType

import numpy as np
import soundfile
from numpy.typing import NDArray

from shortcut_gen.errors import MediaError, SettingsError
from shortcut_gen.media import Audio, Score, midi_bytes, playable
from shortcut_gen.media.synthesizer import STEP, Key, Piano, fluidsynth_library, keys_of, soundfont, version_of

RELEASE_SECONDS = 1.5
"""How long the last note rings on after its end."""
RINGS_SECONDS = 3.0
"""Within which a string that was let go, and its echo, are gone."""
OLDEST_SECONDS = 30.0
"""For which a string rings that is not let go."""
MAX_RENDER_SECONDS = 2 * 3600.0
"""A longer score is refused: its sound alone would take several GB of memory."""
PEAK = 0.99
"""Louder sound is scaled down to this."""

_FADE_SECONDS = 0.1  # at the very end, where the room still rings
_BLOCK_SECONDS = 5.0


def render(score: Score, *, sample_rate: int = 44100) -> Audio:
    """Stereo sound of a score, with RELEASE_SECONDS after its last note. Raises MediaError where nothing can render."""
    _check(score, sample_rate)
    if fluidsynth_library() is None:
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
    if fluidsynth_library() is None:
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
        self._open = Piano.open(sample_rate)
        self._piano: Piano | None = self._open.__enter__()

    def __enter__(self) -> "GrowingRender":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def begin(self, score: Score, seconds: float) -> None:
        """Begin there, in the ringing of what was struck before; before anything else is asked for.

        Played, unheard, is what still sounds RINGS_SECONDS before that time and is no older than OLDEST_SECONDS: a
        sixth of the work of playing a prompt of 20 s. What is heard differs in how FluidSynth's echo wavers alone.
        """
        piano = self._played()
        if piano.position:
            raise ValueError("the rendering has begun")
        since, oldest = (round((seconds - each) * 1000) for each in (RINGS_SECONDS, OLDEST_SECONDS))
        ringing = [note for note in playable(score.notes) if oldest <= note.start < seconds * 1000 and note.end > since]
        end = round(seconds * self.sample_rate)
        first = min((note.start * self.sample_rate // 1000 for note in ringing), default=end)
        piano.position = first // STEP * STEP  # so that all is struck at the same samples
        self._play(keys_of(ringing), end)

    def until(self, score: Score, seconds: float) -> NDArray[np.float32]:
        """The next samples, (2, S), up to that time; not cut off at PEAK.

        Nothing before that time may change any more: a note that still sounds then may have any later end.
        """
        return self._play(_keys(score), max(round(seconds * self.sample_rate), self._played().position))

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

    def _play(self, keys: Sequence[Key], end: int) -> NDArray[np.float32]:
        """The samples from where the piano stands to `end`, with those of the keys that are between."""
        piano = self._played()
        return piano.play([key for key in keys if piano.position <= key[0] * self.sample_rate // 1000 < end], end)

    def _played(self) -> Piano:
        if self._piano is None:
            raise ValueError("the rendering is closed")
        return self._piano


def renderer_name() -> str:
    """What renders here, and with which soundfont: "FluidSynth 2.3.1, MuseScore_General_Lite"."""
    fluidsynth = fluidsynth_library()
    if fluidsynth is not None:
        return f"FluidSynth {version_of(fluidsynth)}, {soundfont(compressed=True).stem}"
    if _midirenderer() is not None:
        return f"midirenderer, {soundfont(compressed=False).stem} (FluidSynth's library was not found)"
    return "none (neither FluidSynth's library nor midirenderer was found)"


def _check(score: Score, sample_rate: int) -> None:
    if not 8000 <= sample_rate <= 96000:  # FluidSynth's own range
        raise SettingsError(f"sample_rate is {sample_rate}; 8000 to 96000 is needed")
    if score.duration > MAX_RENDER_SECONDS:
        raise MediaError(
            f"the score lasts {score.duration / 3600:.1f} hours; at most {MAX_RENDER_SECONDS / 3600:.0f} are rendered"
        )


@functools.cache
def _midirenderer() -> ModuleType | None:
    try:
        import midirenderer
    except ImportError:
        return None
    module: ModuleType = midirenderer
    return module


def _keys(score: Score) -> list[Key]:
    """What a piano is told of a score, in order of time."""
    return keys_of(playable(score.notes))


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
    with Piano.open(sample_rate) as piano:
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
    font = soundfont(compressed=False)
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
