"""What programs can call: named, documented endpoints, by `gradio_client`, plain HTTP or MCP (docs/programs.md).

A call is one run from file to files. It is as the page's and the batch command's: the same values are checked, and the
same seed gives the same ids. Programs have one place to compute, beside those of the pages; `ui.programs` says who may
call, `ui.harp` has the endpoints of DAWs.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import gradio as gr
from gradio import FileData

from shortcut_gen.decoding.sampling import SamplingParams
from shortcut_gen.errors import PromptError, SettingsError, ShortcutGenError
from shortcut_gen.media import Score
from shortcut_gen.pipeline import Continuation, Pipeline, Prompt
from ui.asking import address_of
from ui.models import Models
from ui.results import slug
from ui.sessions import Run, Sessions
from ui.settings import Asked, part, planned
from ui.tab import Tab
from ui.values import switch

PLACE = "programs"
"""The queue in which programs wait for one another; pages have another one."""
EVERY_TOKENS = 32
"""Ids between two looks at whether the run is to stop."""


@dataclass(frozen=True, kw_only=True)
class Call(Asked):
    """The values of a call, as they were sent."""

    prompt_seconds: object
    wav: object = True


class Endpoint:
    """Runs of one modality for programs."""

    def __init__(self, do: Tab, models: Models, sessions: Sessions) -> None:
        self.do, self.models, self.sessions = do, models, sessions

    def make(
        self, request: gr.Request, file: object, asked: Call, began: Callable[[Run], None] = lambda run: None
    ) -> tuple[list[list[Path]], dict[str, Any], tuple[Continuation, ...]]:
        """(the files of each variation, what is said of the run, the variations).

        file: an upload as Gradio gives it, or None. Raises gr.Error with one line; a run that fails leaves no file.
        """
        run = self.sessions.start_program(str(request.session_hash), address_of(request))
        if run is None:
            raise failure("the server is about to end; try again later")
        began(run)
        try:
            return self._make(run, file, asked)
        except ShortcutGenError as error:
            self.sessions.drop(run)
            raise failure(str(error)) from None
        except BaseException:
            self.sessions.drop(run)
            raise
        finally:
            self.sessions.end_run(run)

    def _make(
        self, run: Run, file: object, asked: Call
    ) -> tuple[list[list[Path]], dict[str, Any], tuple[Continuation, ...]]:
        asked = replace(asked, fresh=asked.seed is None)
        plan = planned(asked, self.do.most_seconds, self.models.names, {}, self.do.usual.guidance)
        params, name = plan.params, plan.checkpoint or self.models.default
        wav = switch(asked.wav, "wav")
        prompt = self._prompt(file, asked.prompt_seconds)
        pipeline = self.models.pipeline(name)
        began = time.monotonic()
        made = self._stream(run, pipeline, prompt, params, plan.count)
        took = time.monotonic() - began
        files = [self._write(run, continuation, wav) for continuation in made]
        settings = {
            "prompt_seconds": prompt.seconds,
            "seconds": params.seconds,
            "variations": plan.count,
            "temperature": params.temperature,
            "top_p": params.top_p,
            "guidance": params.guidance,
            "seed": params.seed,
        }
        settings |= {} if params.ending is None else {"ending": params.ending}
        said = {
            "checkpoint": {"name": name, "sha256": self.models.made_by(name).sha256},
            "settings": settings,
            "prompt": {
                "name": prompt.name,
                "seconds": round(made[0].seam_seconds, 3),
                "mended": getattr(prompt.media, "kept", "") or "",
                "ids": list(made[0].prompt_ids),
            },
            "variations": [_said(*each) for each in zip(made, files, strict=True)],
            "tokens": sum(len(each.ids) for each in made),
            "took_seconds": round(took, 3),
        }
        return files, said, made

    def _prompt(self, file: object, prompt_seconds: object) -> Prompt:
        if file is None:
            return Prompt.empty()
        path = Path(str(file["path"] if isinstance(file, dict) else getattr(file, "path", "")))
        # The guard and Gradio have looked by now; what is read is checked where it is read.
        if not self.sessions.files.is_upload(path):
            raise PromptError("the file is not there any more; upload it again")
        prompt = self.do.read_prompt(None, str(path))
        said = {"used": "prompt_seconds"}
        _, used = part(self.do.duration(prompt), 0, prompt_seconds, self.do.most_used, said)
        return replace(prompt, seconds=used)

    def _stream(
        self, run: Run, pipeline: Pipeline, prompt: Prompt, params: SamplingParams, count: int
    ) -> tuple[Continuation, ...]:
        made: tuple[Continuation, ...] = ()
        for progress in pipeline.stream([prompt], params, variations=count, every_tokens=EVERY_TOKENS):
            made = progress.continuations
            if run.stop.is_set():
                raise SettingsError(self.sessions.parting or "the run was stopped before it was done")
        return made

    def _write(self, run: Run, made: Continuation, wav: bool) -> list[Path]:
        stem = run.folder / f"{slug(made.prompt.name)}-seed{made.seed}-variation-{made.variation + 1}"
        files = []
        if isinstance(made.media, Score):
            if not made.media.notes:  # nothing to hear
                return []
            files.append(stem.with_name(f"{stem.name}.mid"))
            made.write_midi(files[-1])
        if wav:
            files.append(stem.with_name(f"{stem.name}.wav"))
            made.audio().write(files[-1])
        return files


def _said(made: Continuation, files: list[Path]) -> dict[str, Any]:
    """One variation in figures."""
    return {
        "variation": made.variation,
        "ids": list(made.ids),
        "tokens": len(made.ids),
        "seconds": round(max(made.seconds - made.seam_seconds, 0.0), 3),
        "files": [path.name for path in files],
    }


def failure(line: str) -> gr.Error:
    """What a caller is told; nothing of it in the server's log."""
    return gr.Error(line, print_exception=False)


def given(path: Path) -> dict[str, Any]:
    """A file as Gradio sends it."""
    return FileData(path=str(path), orig_name=path.name, size=path.stat().st_size).model_dump()


def build_midi(do: Tab, models: Models, sessions: Sessions) -> Endpoint:
    """The endpoint `/continue_midi`."""
    endpoint, usual = Endpoint(do, models, sessions), do.usual

    def continue_midi(
        request: gr.Request,
        midi: FileData = None,  # type: ignore[assignment]  # of an optional type Gradio's MCP would take no file
        prompt_seconds: float = usual.prompt_seconds,
        seconds: float = usual.seconds,
        variations: int = 1,
        temperature: float = 1.0,
        top_p: float = usual.top_p,
        seed: int | None = None,
        checkpoint: str | None = None,
        wav: bool = True,
        ending: bool = False,
        guidance: float = usual.guidance,
    ) -> tuple[list[FileData], dict]:
        """Continue a piano performance: a MIDI file goes in, MIDI and sound come out, with the ids of the tokens.

        Args:
            midi: A MIDI file, or none to begin from scratch; by MCP a data: URI or the address of an upload here.
            prompt_seconds: How much of the file's beginning to use, from 1 to 120 seconds.
            seconds: How long to go on, from 2 to 120 seconds.
            variations: How many continuations, from 1 to 4.
            temperature: How daring, from 0 (always the likeliest) to 2.
            top_p: Keep the fewest tokens whose probabilities reach this, from 0.05 to 1.
            seed: The same seed gives the same result; a new one is drawn where there is none.
            checkpoint: Name of the model; the usual one where there is none.
            wav: Whether to render the sound too.
            ending: Whether to go on past the length, by 15 seconds at most, to a chord to end on.
            guidance: How much further than by itself to hold to the file, from 0 to 2; more than 0 takes longer.

        Returns:
            the files (for each variation a MIDI file of prompt and continuation and its sound)
            and an object with checkpoint, settings, prompt, tokens, time and variations (ids, seconds, names of files).
        """
        asked = Call(
            prompt_seconds=prompt_seconds,
            seconds=seconds,
            variations=variations,
            temperature=temperature,
            top_p=top_p,
            seed=seed,
            checkpoint=checkpoint,
            wav=wav,
            ending=ending,
            guidance=guidance,
        )
        files, said, _ = endpoint.make(request, midi, asked)
        return [given(path) for each in files for path in each], said  # type: ignore[misc]

    _offer(continue_midi)
    return endpoint


def build_recording(do: Tab, models: Models, sessions: Sessions) -> Endpoint:
    """The endpoint `/continue_recording`."""
    endpoint, usual = Endpoint(do, models, sessions), do.usual

    def continue_recording(
        request: gr.Request,
        recording: FileData = None,  # type: ignore[assignment]
        prompt_seconds: float = usual.prompt_seconds,
        seconds: float = usual.seconds,
        variations: int = 1,
        temperature: float = 1.0,
        top_p: float = usual.top_p,
        seed: int | None = None,
        checkpoint: str | None = None,
        guidance: float = usual.guidance,
    ) -> tuple[list[FileData], dict]:
        """Continue a recording of speech in its voice: a sound file goes in, sound comes out, with the codec's ids.

        Args:
            recording: A sound file, or none to begin from scratch; by MCP a data: URI or an upload's address.
            prompt_seconds: How much of its beginning to use, from 1 to 10 seconds.
            seconds: How long to go on, from 2 to 20 seconds.
            variations: How many continuations, from 1 to 4.
            temperature: How daring, from 0 (always the likeliest) to 2.
            top_p: Keep the fewest tokens whose probabilities reach this, from 0.05 to 1.
            seed: The same seed gives the same result; a new one is drawn where there is none.
            checkpoint: Name of the model; the usual one where there is none.
            guidance: How much further than by itself to hold to its voice, from 0 to 2; above 0 it takes longer.

        Returns:
            the files (for each variation the sound of prompt and continuation)
            and an object with checkpoint, settings, prompt, tokens, time and variations (ids, seconds, names of files).
        """
        asked = Call(
            prompt_seconds=prompt_seconds,
            seconds=seconds,
            variations=variations,
            temperature=temperature,
            top_p=top_p,
            seed=seed,
            checkpoint=checkpoint,
            guidance=guidance,
        )
        files, said, _ = endpoint.make(request, recording, asked)
        return [given(path) for each in files for path in each], said  # type: ignore[misc]

    _offer(continue_recording)
    return endpoint


def _offer(function: Callable[..., Any]) -> None:
    gr.api(function, api_name=function.__name__, concurrency_limit=1, concurrency_id=PLACE)


def build(models: Mapping[str, Models], sessions: Sessions) -> None:
    """The endpoints for the models there are, by tokenizer, within the page."""
    # Results are served from where they lie: Gradio would keep a copy of each among the uploads.
    gr.set_static_paths([sessions.files.results])
    if "piano" in models:
        from ui import harp
        from ui.piano import PianoTab

        harp.build(build_midi(PianoTab(models["piano"], sessions), models["piano"], sessions))
    if "speech" in models:
        from ui.speech import SpeechTab

        build_recording(SpeechTab(models["speech"], sessions), models["speech"], sessions)
