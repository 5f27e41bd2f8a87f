"""Choosing a prompt: an example, an upload or a recording, and which part of it; its card and its two sliders.

A modality's tab says how its prompts are read and drawn. One object serves all pages.
"""

import math
import threading
from abc import ABC, abstractmethod
from collections import OrderedDict
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import gradio as gr

from shortcut_gen.errors import MediaError, PromptError, ShortcutGenError
from shortcut_gen.media.files import is_midi
from shortcut_gen.modalities.base import Usual
from shortcut_gen.pipeline import Pipeline, Prompt
from ui.asking import page_of
from ui.bars import Meter, meter, shown
from ui.examples.listing import EXAMPLES, load_examples
from ui.html import status
from ui.models import Models
from ui.sessions import Sessions
from ui.settings import LEAST_SECONDS, LEAST_USED, ON_PAGE, latest
from ui.text import refusals, runs
from ui.values import number

NO_PROMPT = "none"
"""The choice to begin without a prompt."""
LEAST_SILENCE = 0.5
"""Seconds of silence before a prompt that are left out; less is a player's breath."""
SHOWN_DIFFERENCE = 0.05
"""Seconds; less is not seen in numbers that are told to a tenth."""
KEPT_PROMPTS = 6
"""Prompts of a tab that stay read, so that moving a slider reads no file again."""
KEPT_PARTS = 16
"""Parts of prompts whose ids are kept: a part is encoded once for its line on the card and for the run."""


class Prompts(ABC):
    """What a tab does about prompts."""

    name: str
    folder: Path = EXAMPLES
    """Where the examples are."""
    usual: Usual
    """The modality's lengths and top-p, unless the sliders are moved."""
    most_used: float
    """How much of a prompt can be used, in seconds."""
    most_seconds: float
    """How long a run can go on, in seconds."""
    ends: bool = False
    """Whether its models' tokenizers know of ends."""
    recorded: float | None = None
    """How much of what was recorded in the browser is used at first, in seconds; None for the usual part."""

    def __init__(self, models: Models, sessions: Sessions) -> None:
        self.models = models
        self.sessions = sessions
        if sessions.most_seconds is not None:
            self.most_seconds = min(self.most_seconds, sessions.most_seconds)
            self.usual = replace(self.usual, seconds=min(self.usual.seconds, self.most_seconds))
        self.examples = {example.file: example for example in load_examples(self.folder)}
        # An upload's path holds a hash of what is in it, so the same path is the same file.
        self._read_once = lru_cache(KEPT_PROMPTS)(self._read_in_turn)
        self._encoded: OrderedDict[tuple[int, int, float, float | None], tuple[Any, tuple[int, ...]]] = OrderedDict()
        """By tokenizer, prompt and part, these two, so that their numbers stay theirs, and the ids."""
        self._encoded_lock = threading.Lock()

    def _read_in_turn(self, path: str) -> Prompt:
        with self.sessions.files.reading():
            return self.read_file(path)

    @abstractmethod
    def read_file(self, path: str) -> Prompt:
        """A file as a prompt, whole. Raises MediaError, PromptError, with the path or the file's name in the line."""

    @abstractmethod
    def card(self, page: str, source: str, prompt: Prompt) -> str:
        """A prompt as the page shows it, with what its player plays; its `start` and `seconds` are what is used.

        source: what tells prompts apart.
        """

    @abstractmethod
    def duration(self, prompt: Prompt) -> float:
        """How long a prompt lasts, in seconds."""

    def check(self, prompt: Prompt, used: float) -> None:  # noqa: B027, whatever can be read can be continued
        """Raises ShortcutGenError where a prompt that can be read cannot be continued."""

    @abstractmethod
    def first_sound(self, prompt: Prompt) -> float:
        """When something is heard first, in seconds: silence before it is left out unless it is asked for."""

    def sees(self, prompt: Prompt) -> str:
        """Which part of a prompt is used, and how much of that the model sees, in words."""
        try:
            pipeline = self.models.pipeline()
            ids = self.encoded(pipeline, prompt)
        except ShortcutGenError as error:
            return runs.not_seen(prompt.start, str(error))
        window = pipeline.tokenizer.clip(ids, pipeline.model.config.context - 1)
        seen = None if len(window) == len(ids) else pipeline.tokenizer.seconds(window)
        there, told = self.duration(prompt) - prompt.start, pipeline.tokenizer.seconds(ids)
        used = min(there, there if prompt.seconds is None else prompt.seconds)
        # Tokens end with an event; a rest after it has none.
        goes_on = prompt.start + told if abs(used - told) >= SHOWN_DIFFERENCE else None
        return runs.sees(prompt.start, used, len(ids), pipeline.model.config.context, seen, goes_on)

    def encoded(self, pipeline: Pipeline, prompt: Prompt) -> tuple[int, ...]:
        """The ids of the part of a prompt that is used, encoded once. Raises PromptError."""
        key = (id(pipeline.tokenizer), id(prompt.media), prompt.start, prompt.seconds)
        with self._encoded_lock:
            if key in self._encoded:
                self._encoded.move_to_end(key)
                return self._encoded[key][1]
        ids = pipeline.encode(prompt)
        with self._encoded_lock:
            self._encoded[key] = (pipeline.tokenizer, prompt.media), ids
            while len(self._encoded) > KEPT_PARTS:
                self._encoded.popitem(last=False)
        return ids

    def read_prompt(self, choice: str | None, upload: str | None) -> Prompt:
        """The chosen prompt, whole. An uploaded file goes before the list. Raises ShortcutGenError."""
        if upload:
            try:
                return self._read_once(str(upload))
            except (MediaError, PromptError) as error:
                # Where the server keeps uploads is of no use to the reader.
                raise type(error)(str(error).replace(str(upload), Path(str(upload)).name)) from error
        if choice == NO_PROMPT:
            return Prompt.empty()
        if isinstance(choice, str) and choice in self.examples:
            example = self.examples[choice]
            return replace(self._read_once(str(self.folder / example.file)), name=example.name)
        raise PromptError(refusals.NO_PROMPT)

    def longest(self, duration: float) -> float:
        """How much of a prompt of that length can be used, in seconds: where the slider ends."""
        return max(min(round(duration + 0.049, 1), self.most_used), 0.1)

    def begins(self, prompt: Prompt) -> float:
        """Where the part to use begins unless the slider is moved, in seconds."""
        first = math.floor(10 * self.first_sound(prompt)) / 10
        return min(first, latest(self.duration(prompt))) if first >= LEAST_SILENCE else 0.0

    def show(
        self,
        page: str,
        choice: str | None,
        upload: str | None,
        start: float | None = None,
        used: float | None = None,
    ) -> tuple[Any, Any, Any]:
        """The prompt's card, and the two sliders fitted to it. start, used: None for the usual part."""
        try:
            prompt = self.read_prompt(choice, upload)
            if used is not None:
                used = number(used, ON_PAGE["used"], 0, 1e9)  # more than there is: the field sets itself right
            if start is not None:
                start = number(start, ON_PAGE["start"], 0, 1e9)
        except ShortcutGenError as error:
            return status(str(error), "error"), gr.skip(), gr.skip()
        if prompt.media is None:
            return status(runs.BEGINS_ITSELF), *(gr.update(interactive=False),) * 2
        duration = self.duration(prompt)
        longest, last = self.longest(duration), latest(duration)
        used = min(self.usual.prompt_seconds if used is None else used, longest)
        start = min(self.begins(prompt) if start is None else start, last)
        long = longest > LEAST_USED
        used = used if long else longest
        card = self.card(page, upload or str(choice), replace(prompt, start=start, seconds=used))
        least = LEAST_USED if long else 0
        return (
            card,
            gr.update(maximum=max(last, 0.1), value=start, interactive=last > 0),
            gr.update(minimum=least, maximum=longest, value=used, interactive=long),
        )

    def choose_example(self, choice: str | None, request: gr.Request) -> tuple[Any, Any, Any, Any]:
        """An example was picked: an uploaded file is put away, the prompt drawn, the sliders fitted."""
        return *self.show(page_of(request), choice, None), None

    def choose_upload(
        self, upload: str | None, choice: str | None, start: float, used: float, request: gr.Request
    ) -> tuple[Any, Any, Any, Any, Any]:
        """A file was uploaded: it goes before the list. One that cannot be read is put away and says why.

        Returns (prompt card, the two sliders, list of examples, upload).
        """
        page = page_of(request)
        if upload and says_take(upload):  # `open_take` takes it up; what was refused before is not said any more
            card = self.show(page, choice, None, start, used)[0] if choice else gr.skip()
            return card, *(gr.skip(),) * 4
        if refusal := self._refusal(page, upload, (choice, None, start, used)):
            return refusal, *(gr.skip(),) * 3, None
        return *self.show(page, None, upload), None, gr.skip()

    def _refusal(self, page: str, file: str | None, before: tuple[str | None, str | None, float, float]) -> str:
        """Why a file that has arrived cannot be continued, above the card of the prompt before; "" where it can.

        before: what `show` takes of that prompt.
        """
        try:
            self.check(self.read_prompt(None, file), self.usual.prompt_seconds)
        except ShortcutGenError as error:
            return status(str(error), "error") + (self.show(page, *before)[0] if any(before[:2]) else "")
        return ""

    def choose_recording(
        self,
        recording: str | None,
        choice: str | None,
        upload: str | None,
        start: float,
        used: float,
        request: gr.Request,
    ) -> tuple[Any, Any, Any, Any, Any, Any]:
        """What was recorded in the browser has arrived: it takes the place of an uploaded one, or says why not.

        Returns (prompt card, the two sliders, list of examples, upload, recording), the last emptied for the next one.
        """
        page = page_of(request)
        if refusal := self._refusal(page, recording, (choice, upload, start, used)):
            return refusal, *(gr.skip(),) * 4, None
        # What was played goes on where it ended, however long it is.
        begins = max(self.duration(self.read_prompt(None, recording)) - self.recorded, 0.0) if self.recorded else 0.0
        return *self.show(page, None, recording, begins or None, self.recorded), None, recording, None

    def clear_upload(self, request: gr.Request) -> tuple[Any, Any, Any, Any]:
        """The uploaded file was taken away: back to the first example."""
        first = next(iter(self.examples))
        return *self.show(page_of(request), first, None), first

    def change_part(
        self, choice: str | None, upload: str | None, start: float, used: float, request: gr.Request
    ) -> Any:
        """Another part of the prompt is to be used: draw it anew."""
        return self.show(page_of(request), choice, upload, start, used)[0]

    def meter(self, choice: str | None, upload: str | None, start: float, used: float) -> Meter | None:
        """How the chosen prompt is counted where the part to use ends."""
        try:
            prompt = self.read_prompt(choice, upload)
            return meter(prompt, number(start, "start", 0, 1e9) + number(used, "used", 0, 1e9))
        except ShortcutGenError:  # its card says so
            return None

    def say_bars(self, choice: str | None, upload: str | None, start: float, used: float, seconds: float) -> Any:
        """Another prompt, part or length was chosen: how many bars that are."""
        return shown(self.meter(choice, upload, start, used), seconds)

    def take_bars(self, choice: str | None, upload: str | None, start: float, used: float, bars: float | None) -> Any:
        """A length was given in bars: returns it in seconds, within what can be asked for."""
        found = self.meter(choice, upload, start, used)
        if found is None or not isinstance(bars, int | float) or not bars > 0:
            return gr.skip()
        return round(min(max(bars * found.seconds, LEAST_SECONDS), self.most_seconds), 2)


def says_take(path: str) -> bool:
    """Whether an uploaded file is meant as JSON, as a saved take is, by its name or how it begins."""
    try:
        with Path(path).open("rb") as stream:
            begins = stream.read(64).removeprefix(b"\xef\xbb\xbf").lstrip()[:1]
            return path.lower().endswith(".json") or begins == b"{"
    except OSError:
        return False


def says_midi(path: str) -> bool:
    """Whether an uploaded file begins as a MIDI file does. Raises MediaError."""
    try:
        with Path(path).open("rb") as stream:
            return is_midi(stream.read(12))
    except OSError as error:
        raise MediaError(refusals.unread(path)) from error
