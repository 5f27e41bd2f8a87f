"""The speech tab: prompts that are sound, and continuations that are heard while they are made."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import gradio as gr
import numpy as np
from numpy.typing import NDArray

from shortcut_gen.decoding.sampling import SamplingParams
from shortcut_gen.errors import MediaError, PromptError
from shortcut_gen.media import Audio, read_audio
from shortcut_gen.modalities.speech import SpeechTokenizer
from shortcut_gen.pipeline import Continuation, Pipeline, Prompt
from ui import notes
from ui.asking import QUICK
from ui.examples.listing import VOICES
from ui.html import Live, Variation, prompt_card
from ui.layout import Look, lay_out
from ui.live import LiveSound, address
from ui.models import Models
from ui.performance import Performance, continues
from ui.prompts import says_midi
from ui.results import slug
from ui.sessions import Run, Sessions
from ui.speech_figures import Analysis, Sketch, describe, drawing, prompt_drawing
from ui.tab import Tab
from ui.text import form, pictures, refusals, runs

SHOWN_SECONDS = 60.0
"""How much of a file is drawn: what may be used, and some of what follows."""
MOST_VALUES = 16_000_000
"""Samples of all channels that are decoded of an uploaded file: 60 s of two channels at 96 kHz."""
PIECE_SECONDS = 0.12
"""Sound made at a time: a piece is played as soon as it is there."""


class Voice:
    """One variation while it is made: its ids become sound and a picture, each piece once."""

    def __init__(self, tokenizer: SpeechTokenizer) -> None:
        self._sound = tokenizer.sound()
        self._taken = 0
        self._seam = 0
        self.sample_rate = self._sound.sample_rate
        self.analysis = Analysis(self.sample_rate)
        self.begun = False
        """Whether it has anything yet."""

    def extend(self, continuation: Continuation) -> NDArray[np.float32]:
        """The sound of what is new in a continuation, (S,). Its prompt comes first and is not part of that."""
        if not self.begun:
            self.analysis.extend(self._sound.push(continuation.prompt_ids))
            self.begun = True
            self._seam = round(continuation.seam_seconds * self.sample_rate)
        new = self._sound.push(continuation.ids[self._taken :])
        self._taken = len(continuation.ids)
        self.analysis.extend(new)
        return new

    def finish(self) -> NDArray[np.float32]:
        """No more will come. Returns what the codec had held back, (S,)."""
        held = self._sound.finish()
        self.analysis.extend(held)
        self.analysis.finish()
        del self._sound  # what the codec needed to go on; the step stays
        return held

    @property
    def new_seconds(self) -> float:
        """How much of the continuation there is."""
        return max(self.analysis.seconds - self._seam / self.sample_rate, 0.0)


class SpeechPerformance(Performance):
    """Voices; the first one is heard while it is made."""

    redraw_seconds = 0.5  # the playhead moves more often, by itself

    def __init__(self, run: Run, tokenizer: SpeechTokenizer, seconds: float, count: int, heard: bool = True) -> None:
        self._run = run
        self._heard = run.sound if heard else LiveSound()
        self._seconds = seconds
        self._voices = [Voice(tokenizer) for _ in range(count)]
        run.sounds = tuple(voice.analysis for voice in self._voices)
        self._over = False
        self.every_tokens = tokenizer.frame * max(round(PIECE_SECONDS * tokenizer.frame_rate), 1)
        self.live = Live(address(run.folder.name), self._voices[0].sample_rate)

    def hear(self, first: Continuation) -> None:
        """As in `Performance`."""
        self._heard.push(self._voices[0].extend(first))

    def finish(self, made: Sequence[Continuation]) -> None:
        """As in `Performance`."""
        for place, (voice, continuation) in enumerate(zip(self._voices, made, strict=True)):
            voice.extend(continuation)
            held = voice.finish()
            if place == 0:
                self._heard.push(held)
                self._heard.close()
        if self._run.stop.is_set():
            self._seconds = max((voice.new_seconds for voice in self._voices), default=0.0)
        self._over = True

    def draw(self, made: Sequence[Continuation], done: Sequence[bool]) -> list[Variation]:
        """As in `Performance`. Until all is done the drawing stays what it was: the page asks for the rest itself.

        Of the voices that have not begun, one begins: a prompt takes a while to decode, and what is heard meanwhile
        must not run dry.
        """
        for voice, continuation in zip(self._voices, made, strict=True):
            if self._over:
                break
            fresh = not voice.begun
            voice.extend(continuation)
            if fresh:
                break
        self._run.making = tuple(made)
        return [self._drawn(place, each) for place, each in enumerate(made)]

    def _drawn(self, place: int, made: Continuation) -> Variation:
        seam, voice = made.seam_seconds, self._voices[place]
        seconds = max(seam + self._seconds, voice.analysis.seconds, 0.1)
        sketch = Sketch(sample_rate=voice.sample_rate, seam=seam, seconds=seconds)
        said = describe(sketch, voice.analysis.seconds) if self._over else pictures.GROWING_SOUND
        figure = drawing(sketch, said, notes.address(self._run.folder.name, place))
        facts = runs.new(voice.new_seconds, made.seed) if self._over else runs.to_be(self._seconds, made.seed)
        return Variation(figure=figure, number=made.variation + 1, prompt=continues(made), facts=facts)

    def files(self, place: int, continuation: Continuation) -> tuple[tuple[str, str, Callable[[Path], None]], ...]:
        """As in `Performance`. The sound is decoded again when it is asked for, of a copy, as a continuation keeps what
        it has decoded: a server keeps hundreds of steps, and ids are a hundredth of their samples.
        """
        return ((runs.WAV, ".wav", lambda path: replace(continuation).audio().write(path)),)

    def outcome(self, made: Sequence[Continuation], stopped: bool, took: float) -> str:
        """As in `Performance`."""
        if stopped:
            return runs.stopped([voice.new_seconds for voice in self._voices])
        together = sum(voice.new_seconds for voice in self._voices)
        return runs.speech(len(made), together, took)


class SpeechTab(Tab):
    """What the speech tab does."""

    name = "speech"
    folder = VOICES
    usual = SpeechTokenizer.usual
    most_used = 10.0
    recorded = most_used  # what was said goes on where it ended
    most_seconds = 20.0
    most_opened = 240.0

    def read_file(self, path: str) -> Prompt:
        """As in `Tab`."""
        if says_midi(path):
            raise MediaError(refusals.midi_not_sound(path))
        return Prompt(media=read_audio(path, SHOWN_SECONDS, MOST_VALUES), name=Path(path).name)

    def duration(self, prompt: Prompt) -> float:
        """As in `Tab`."""
        return prompt.media.duration if isinstance(prompt.media, Audio) else 0.0

    def check(self, prompt: Prompt, used: float) -> None:
        """As in `Tab`. Encoding is quick, and so a silent recording says so at once, not after a click on Continue."""
        with self.sessions.files.reading():
            self.encoded(self.models.pipeline(), replace(prompt, seconds=used))

    def first_sound(self, prompt: Prompt) -> float:
        """As in `Tab`: when 20 ms are louder than a hundredth of the loudest."""
        audio = prompt.media
        if not isinstance(audio, Audio):
            return 0.0
        size = max(audio.sample_rate // 50, 1)
        samples = np.abs(audio.samples).max(axis=0)
        peaks = samples[: len(samples) // size * size].reshape(-1, size).max(axis=1)
        return float(np.argmax(peaks > 0.01 * peaks.max())) * size / audio.sample_rate if len(peaks) else 0.0

    def card(self, page: str, source: str, prompt: Prompt) -> str:
        """As in `Tab`. What is heard is a WAV of what was read: not every browser plays every kind of file."""
        audio = prompt.media
        assert isinstance(audio, Audio)
        used = prompt.seconds or audio.duration
        length = runs.sound_length(audio.duration, audio.duration >= SHOWN_SECONDS)
        sound = self.sessions.prompts.keep(page, self.name, source, f"{slug(prompt.name)}.wav", audio.write)
        rest = prompt.start > 0 or used < audio.duration
        facts = runs.file(prompt.name, length, self.sees(prompt))
        figure = prompt_drawing(audio, prompt.start, used)
        return prompt_card(figure, facts, kept=audio.kept, rest=rest, sound=sound)

    def perform(
        self, run: Run, pipeline: Pipeline, params: SamplingParams, count: int, heard: bool = True
    ) -> Performance:
        """As in `Tab`."""
        tokenizer = pipeline.tokenizer
        if not isinstance(tokenizer, SpeechTokenizer):
            raise PromptError(refusals.no_speech(tokenizer.name))
        return SpeechPerformance(run, tokenizer, params.seconds or 0.0, count, heard)


def build(models: Models, sessions: Sessions) -> None:
    """Lay the tab out."""
    do = SpeechTab(models, sessions)
    # static/record.js makes a file of what the microphone hears and puts it here, out of sight.
    recording = gr.File(type="filepath", elem_id="recording", render=False)
    look = Look(
        prefix="speech-",
        without=form.WITHOUT,
        upload=form.UPLOAD_RECORDING,
        waiting=form.WAITING_SPEECH,
        under_upload=(recording, gr.Button(form.RECORD, elem_id="record", render=False)),
    )
    on = lay_out(do, models, look)
    recording.upload(
        do.choose_recording,
        [recording, on.choice, on.upload, on.start, on.used],
        [on.prompt, on.start, on.used, on.choice, on.upload, recording],
        **QUICK,
    )
