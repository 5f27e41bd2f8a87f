"""What the speech tab does: prompts that are sound, and continuations that are heard while they are made."""

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
from numpy.typing import NDArray

from shortcut_gen.decoding.sampling import SamplingParams
from shortcut_gen.errors import PromptError, ShortcutGenError
from shortcut_gen.media import Audio, read_audio
from shortcut_gen.modalities.speech import SpeechTokenizer
from shortcut_gen.pipeline import Continuation, Pipeline, Prompt
from ui.cards import Take, prompt_card, status, takes_html
from ui.handlers import EXAMPLES, Handlers, buttons, slug
from ui.live import address
from ui.sessions import Run
from ui.speech_figures import Analysis, Sketch, drawing, sketch_of

DEFAULT_USED = 5.0
MAX_USED = 10.0
MAX_SECONDS = 20.0
SHOWN_SECONDS = 20.0
"""How much of a file is drawn: what may be used, and some of what follows."""
REDRAW_SECONDS = 0.5
"""Between two drawings: the playhead moves more often, by itself."""
PIECE_SECONDS = 0.12
"""Sound made at a time: a piece is played as soon as it is there."""


class Voice:
    """One variation while it is made: its ids become sound and a picture, each piece once."""

    def __init__(self, pipeline: Pipeline, seconds: float) -> None:
        tokenizer = pipeline.tokenizer
        if not isinstance(tokenizer, SpeechTokenizer):
            raise PromptError(f"a model of {tokenizer.name} makes no speech; choose another model")
        self._seconds = seconds
        self._sound = tokenizer.sound()
        self.piece = tokenizer.frame * max(round(PIECE_SECONDS * tokenizer.frame_rate), 1)
        """Ids of one piece."""
        self._taken = 0
        self._seam = 0
        self.sample_rate = self._sound.sample_rate
        self._analysis = Analysis(self.sample_rate)
        self._pieces: list[NDArray[np.float32]] = []

    def take(self, continuation: Continuation) -> NDArray[np.float32]:
        """The sound of what is new in a continuation, (S,). Its prompt comes first and is not part of that."""
        if not self._pieces:
            self._keep(self._sound.push(continuation.prompt_ids))
            self._seam = round(continuation.seam_seconds * self.sample_rate)
        new = self._sound.push(continuation.ids[self._taken :])
        self._taken = len(continuation.ids)
        self._keep(new)
        return new

    def _keep(self, samples: NDArray[np.float32]) -> None:
        self._pieces.append(samples)
        self._analysis.extend(samples)

    def finish(self) -> NDArray[np.float32]:
        """No more will come. Returns what the codec had held back, (S,)."""
        held = self._sound.finish()
        self._keep(held)
        self._analysis.finish()
        return held

    @property
    def begun(self) -> bool:
        """Whether it has taken anything yet."""
        return bool(self._pieces)

    @property
    def new_seconds(self) -> float:
        """How much of the continuation there is."""
        return max(self._analysis.seconds - self._seam / self.sample_rate, 0.0)

    def audio(self) -> Audio:
        """Prompt and continuation."""
        return Audio(np.concatenate(self._pieces)[None], self.sample_rate)

    def card(self, continuation: Continuation, done: bool) -> Take:
        """What the page shows of it."""
        seam = continuation.seam_seconds
        sketch = Sketch(analysis=self._analysis, seam=seam, seconds=seam + self._seconds)
        title = f"{self.new_seconds:.1f} s new" if done else f"{self.new_seconds:.1f} of {self._seconds:.0f} s"
        return Take(
            figure=drawing(sketch), number=continuation.variation + 1, title=f"{title}, seed {continuation.seed}"
        )


class SpeechHandlers(Handlers):
    """What the speech tab does. One object serves all pages; what belongs to a page is in its `Run`."""

    tab = "speech"
    folder = EXAMPLES / "speech"
    most_used = MAX_USED

    def _read_file(self, path: str | Path) -> Prompt:
        return Prompt(media=read_audio(path, SHOWN_SECONDS), name=Path(path).name)

    def _read_upload(self, path: str) -> Prompt:
        return self._read_file(path)

    def longest(self, duration: float) -> float:
        """As in `Handlers`, on the slider's steps of half a second."""
        return max(min(math.ceil(2 * duration - 0.01) / 2, self.most_used), 1.0)

    def _check(self, prompt: Prompt, used: float) -> None:
        # Encoding is quick, and so a silent recording says so at once and not after a click on Continue.
        self.models.pipeline().encode(replace(prompt, seconds=used))

    def choose_recording(
        self, recording: str | None, choice: str | None, upload: str | None, used: float
    ) -> tuple[Any, Any, Any, Any, Any]:
        """The microphone's file has arrived: it takes the place of an uploaded one, or says why not.

        Returns (prompt card, slider, list of examples, upload, recording), the last emptied for the next one.
        """
        try:
            self._check(self.read_prompt(None, recording), used)
        except ShortcutGenError as error:
            before = self._show(choice, upload, used)[0] if choice or upload else ""
            return status(str(error), "error") + before, gr.skip(), gr.skip(), gr.skip(), None
        card, slider = self._show(None, recording, used)
        return card, slider, None, recording, None

    def _show(self, choice: str | None, upload: str | None, used: float) -> tuple[Any, Any]:
        try:
            prompt = self.read_prompt(choice, upload)
        except ShortcutGenError as error:
            return status(str(error), "error"), gr.skip()
        audio = prompt.media
        if not isinstance(audio, Audio):
            return status("The model begins by itself, in a voice of its own."), gr.update(interactive=False)
        longest = self.longest(audio.duration)
        used = min(used, longest)
        more = f"the first {audio.duration:.0f} s" if audio.duration >= SHOWN_SECONDS else f"{audio.duration:.1f} s"
        facts = f"{prompt.name}: {more}"
        sound = Path(upload) if upload else self.folder / str(choice)
        rest, figure = used < audio.duration, drawing(sketch_of(audio, used))
        card = prompt_card(figure, facts, kept=audio.kept, rest=rest, sound=sound)
        return card, gr.update(maximum=longest, value=used, interactive=True)

    def _play_on(
        self, run: Run, checkpoint: str | None, prompt: Prompt, params: SamplingParams, count: int
    ) -> Iterator[tuple[Any, ...]]:
        try:
            yield from self._speak(run, self.models.pipeline(checkpoint), prompt, params, count)
        finally:
            run.sound.close()  # the page is not to wait for more

    def _speak(
        self, run: Run, pipeline: Pipeline, prompt: Prompt, params: SamplingParams, count: int
    ) -> Iterator[tuple[Any, ...]]:
        voices = [Voice(pipeline, params.seconds or 0.0) for _ in range(count)]
        live = (address(run.folder.name), voices[0].sample_rate)
        # The page opens its ear before there is anything to hear.
        yield gr.skip(), status("Reading the prompt.", "busy", live), gr.skip(), gr.skip(), gr.skip()
        began, drawn, problem = time.monotonic(), 0.0, ""
        made: tuple[Continuation, ...] = ()
        stream = pipeline.stream([prompt], params, variations=count, every_tokens=voices[0].piece)
        busy = status("Generating. Stop keeps what is done.", "busy", live)
        try:
            for progress in stream:
                made = progress.continuations
                run.sound.push(voices[0].take(made[0]))
                if run.stop.is_set() or all(progress.done):
                    break
                self.sessions.forget_older(run)
                if time.monotonic() - drawn >= REDRAW_SECONDS:
                    _take_some(voices, made)
                    drawn = time.monotonic()
                    yield takes_html(_cards(voices, made)), busy, gr.skip(), gr.skip(), gr.skip()
        except ShortcutGenError as error:
            if not made:
                raise
            problem = str(error)
        finally:
            stream.close()  # type: ignore[attr-defined]
        for place, (voice, continuation) in enumerate(zip(voices, made, strict=True)):
            voice.take(continuation)
            held = voice.finish()
            if place == 0:
                run.sound.push(held)
                run.sound.close()
        took = time.monotonic() - began
        yield from self._finish(run, voices, made, problem or _outcome(run, voices, took), bool(problem))

    def _finish(
        self, run: Run, voices: Sequence[Voice], made: Sequence[Continuation], outcome: str, failed: bool
    ) -> Iterator[tuple[Any, ...]]:
        """Write the files of what there is, then give the buttons back."""
        takes = _cards(voices, made, done=True)
        self.sessions.forget_older(run)
        for place, (voice, continuation) in enumerate(zip(voices, made, strict=True)):
            if not run.folder.is_dir():  # a newer run of this page has begun, or the server ends
                return
            name = f"{slug(continuation.prompt.name)}-seed{continuation.seed}-v{continuation.variation + 1}"
            wav = run.folder / f"{name}.wav"
            try:
                voice.audio().write(wav)
            except ShortcutGenError as error:  # a full disk, say: the takes before it keep their files
                outcome, failed = str(error), True
                break
            takes[place] = replace(takes[place], sound=wav, files=(("WAV", wav),))
        yield takes_html(takes), status(outcome, "error" if failed else "quiet"), gr.skip(), *buttons(running=False)


def _take_some(voices: Sequence[Voice], made: Sequence[Continuation]) -> None:
    """Bring the pictures up to date; of the voices that have not begun, one: the prompt takes a while to decode, and
    what is heard meanwhile must not run dry."""
    for voice, continuation in zip(voices, made, strict=True):
        fresh = not voice.begun
        voice.take(continuation)
        if fresh:
            return


def _cards(voices: Sequence[Voice], made: Sequence[Continuation], done: bool = False) -> list[Take]:
    return [voice.card(continuation, done) for voice, continuation in zip(voices, made, strict=True)]


def _outcome(run: Run, voices: Sequence[Voice], took: float) -> str:
    new = max(voice.new_seconds for voice in voices)
    if run.stop.is_set():
        return f"Stopped. {new:.1f} s are kept."
    together = sum(voice.new_seconds for voice in voices)
    return f"{together:.1f} s of speech in {took:.1f} s: {together / max(took, 1e-3):.1f} times as fast as it plays."
