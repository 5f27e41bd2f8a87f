"""The endpoints that HARP calls: a program beside a DAW, which sends a MIDI track and puts back what comes.

https://github.com/TEAMuP-dev/HARP asks `/controls` what there is to set, uploads the track, calls `/process` with the
values in that order and takes each file of the answer, and `/cancel` ends it. Its own package for servers, `pyharp`, is
not on the package index (what has its name there is about atmospheres), so its contract is met here by hand. These
endpoints are in no list: people and models have `/continue_midi`.
"""

from typing import Any

import gradio as gr
from gradio import FileData

from ui.api import PLACE, Call, Endpoint, failure, given
from ui.asking import address_of
from ui.sessions import Run
from ui.settings import LEAST_SECONDS, LEAST_TOP_P, LEAST_USED, MAX_SEED, MAX_TEMPERATURE

ANY_SEED = -1
"""A number box cannot be empty."""


def slider(label: str, info: str, low: float, high: float, step: float, value: float) -> dict[str, Any]:
    """A control, as HARP reads it."""
    named = {"type": "slider", "label": label, "info": info}
    return named | {"minimum": low, "maximum": high, "step": step, "value": value}


def card_of(endpoint: Endpoint) -> dict[str, Any]:
    """What `/controls` answers: the model's card, its inputs in the order of `/process`, and its outputs."""
    usual, do = endpoint.do.usual, endpoint.do
    card = {
        "name": "shortcut-gen",
        "description": "Goes on with a piano performance: the notes of the track, then the model's.",
        "author": "shortcut-gen",
        "tags": ["category:generation", "subcategory:continuation", "input:midi", "output:midi", "piano"],
    }
    track = {"type": "midi_track", "label": "Performance", "info": "The beginning is used.", "required": True}
    seed = {"type": "number_box", "label": "Seed", "info": f"The same one repeats a result; {ANY_SEED} draws one."}
    inputs = [
        track,
        slider("Seconds of the track", "How much to use", LEAST_USED, do.most_used, 1, usual.prompt_seconds),
        slider("Seconds to go on", "How long", LEAST_SECONDS, do.most_seconds, 1, usual.seconds),
        slider("Temperature", "How daring", 0, MAX_TEMPERATURE, 0.05, 1),
        slider("Top-p", "Share of likely tokens", LEAST_TOP_P, 1, 0.01, usual.top_p),
        seed | {"minimum": ANY_SEED, "maximum": MAX_SEED, "step": 1, "value": ANY_SEED},
    ]
    outputs = [
        {"type": "midi_track", "label": "Continued", "info": "The track and what follows.", "required": True},
        {"type": "json", "label": "Seam", "info": "Where the model goes on."},
    ]
    return {"card": card, "inputs": inputs, "outputs": outputs}


def build(endpoint: Endpoint) -> None:
    """The three endpoints, within the page."""
    running: dict[Run, str] = {}

    def controls() -> dict:
        """What there is to set."""
        return card_of(endpoint)

    def process(
        request: gr.Request,
        midi: FileData | None,
        prompt_seconds: float,
        seconds: float,
        temperature: float,
        top_p: float,
        seed: float,
    ) -> tuple[FileData, dict]:
        """Continue a track. Answers its MIDI file and a label at the seam."""
        if midi is None:
            raise failure("no track was sent; a MIDI track is needed")
        asked = Call(
            prompt_seconds=prompt_seconds,
            seconds=seconds,
            temperature=temperature,
            top_p=top_p,
            seed=None if seed == ANY_SEED else seed,
            wav=False,
        )
        mine: list[Run] = []

        def began(run: Run) -> None:
            mine.append(run)
            running[run] = address_of(request)

        try:
            files, said, made = endpoint.make(request, midi, asked, began)
        finally:
            for run in mine:
                running.pop(run, None)
        if not files[0]:
            raise failure("the model wrote no notes; try another seed")
        told = f"seed {said['settings']['seed']}, {said['tokens']} tokens in {said['took_seconds']:.1f} s"
        length = said["variations"][0]["seconds"]
        return given(files[0][0]), labels("continuation", made[0].seam_seconds, length, told)  # type: ignore[return-value]

    def cancel(request: gr.Request) -> None:
        """End what this caller's address has under way: HARP says no more of itself."""
        for run, address in list(running.items()):
            if address == address_of(request):
                run.stop.set()

    gr.api(controls, api_name="controls", concurrency_limit=None, api_visibility="undocumented")
    gr.api(process, api_name="process", concurrency_limit=1, concurrency_id=PLACE, api_visibility="undocumented")
    gr.api(cancel, api_name="cancel", concurrency_limit=None, api_visibility="undocumented")


def labels(label: str, start: float, seconds: float, told: str) -> dict[str, Any]:
    """One label over a stretch of a MIDI track, as HARP draws it; times in seconds."""
    one = {"label_type": "MidiLabel", "t": start, "duration": seconds, "label": label, "description": told}
    return {"meta": {"_type": "pyharp.LabelList"}, "labels": [one]}
