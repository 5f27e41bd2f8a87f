"""Is speech made faster than it plays? `python -m benchmarks.speech_realtime --checkpoint checkpoints/speech`.

A recording's start is encoded, continued and decoded while it is made, as the page does it, by each engine with each
number of threads in turn. Prints, as medians of the rounds with their spread: the time from the call to the first new
sound, the seconds of sound made per second, of all and of the first second, and the least sound a listener has in hand.
"""

import json
import os
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch is imported, as the page does: see Makefile

import numpy as np
import torch
from jsonargparse import auto_cli

from shortcut_gen import Audio, Pipeline, Prompt, SamplingParams, ShortcutGenError
from shortcut_gen.errors import SettingsError
from shortcut_gen.modalities.speech import SpeechTokenizer

LABELS = {
    "encode": ("prompt encoded, s", "{:.2f}"),
    "first_sound": ("first new sound after, s", "{:.2f}"),
    "speed": ("sound per second, from the call", "{:.2f}"),
    "playing": ("sound per second, from the first sound", "{:.2f}"),
    "first_second": ("sound per second, its first second", "{:.2f}"),
    "in_hand": ("least sound in hand, s", "{:.2f}"),
}


@dataclass(frozen=True, kw_only=True)
class Run:
    """One continuation; times in seconds."""

    encode: float
    """Encoding the prompt."""
    first_sound: float
    """From the call to the first new sound: encoding, reading and decoding the prompt among it."""
    speed: float
    """Seconds of sound per second from the call to the end."""
    playing: float
    """The same from the first new sound on: above 1, playing never stops."""
    first_second: float
    """The same until there is a second of sound."""
    in_hand: float
    """The least that is made and not yet played just before more comes; below 0 there is a gap."""


def continue_once(pipeline: Pipeline, prompt: Prompt, params: SamplingParams, every_tokens: int) -> Run:
    """Continue and decode as ids come; the decoder hears the prompt first, so that the seam is like any other place."""
    tokenizer = pipeline.tokenizer
    if not isinstance(tokenizer, SpeechTokenizer):
        raise SettingsError(f"the checkpoint is for {tokenizer.name}; one for speech is needed")
    began = time.perf_counter()
    pipeline.encode(prompt)
    encode = time.perf_counter() - began
    marks: list[tuple[float, float]] = []
    began = time.perf_counter()
    with tokenizer.sound() as sound:
        taken = samples = 0
        for progress in pipeline.stream([prompt], params, every_tokens=every_tokens):
            continuation = progress.continuations[0]
            if not marks:
                sound.push(continuation.prompt_ids)
            samples += len(sound.push(continuation.ids[taken:]))
            taken = len(continuation.ids)
            marks.append((time.perf_counter() - began, samples / tokenizer.sample_rate))
    return summary(encode, marks)


def summary(encode: float, marks: Sequence[tuple[float, float]]) -> Run:
    """What marks come to: (seconds since the call, seconds of new sound made by then)."""
    sounding = [mark for mark in marks if mark[1] > 0]
    if len(sounding) < 2:
        raise SettingsError("too little sound was made to time it; more seconds are needed")
    first, (end, made) = sounding[0], sounding[-1]
    at, then = next((mark for mark in sounding[1:] if mark[1] >= first[1] + 1), (end, made))
    before = zip(
        sounding, sounding[1:], strict=False
    )  # just before more comes, what there was has been played for a while
    return Run(
        encode=encode,
        first_sound=first[0],
        speed=made / end,
        playing=(made - first[1]) / (end - first[0]),
        first_second=(then - first[1]) / (at - first[0]),
        in_hand=min(seconds - (later - first[0]) for (_, seconds), (later, _) in before),
    )


def main(
    checkpoint: str = "checkpoints/speech",
    prompt: str | None = None,
    prompt_seconds: float = 5.0,
    seconds: float = 10.0,
    rounds: int = 5,
    engines: tuple[str, ...] = ("auto", "torch"),
    threads: tuple[int, ...] = (1, 2),
    piece_seconds: float = 0.12,
    guidance: float = SpeechTokenizer.usual.guidance,
    device: str = "cpu",
    output: str | None = None,
) -> None:
    """Time every engine with every number of threads.

    Args:
        checkpoint: Checkpoint folder of a speech model.
        prompt: Recording to continue; a buzz if not given, which takes as long.
        prompt_seconds: How much of it is used.
        seconds: Length of each continuation.
        rounds: Times each of them runs, in turn with the others, after one warm-up.
        engines: Engines to time: auto, torch or native.
        threads: CPU threads of torch and of the native engine.
        piece_seconds: Sound that is decoded at a time; the page's is 0.12.
        guidance: How much further than by itself the model holds to the prompt; above 0 each id costs twice.
        device: Where the model runs.
        output: JSON file to write.
    """
    pipelines = {}
    for engine in engines:
        for count in threads:
            torch.set_num_threads(count)  # the native engine takes as many
            pipelines[engine, count] = Pipeline.from_pretrained(checkpoint, device, engine=engine)
    buzz = (np.arange(round(16_000 * prompt_seconds)) * 0.0075 % 1 - 0.5).astype(np.float32)
    given = Prompt.from_file(prompt, prompt_seconds) if prompt else Prompt(media=Audio(buzz[None], 16_000))
    tokenizer = next(iter(pipelines.values())).tokenizer
    every = tokenizer.frame * max(1, round(piece_seconds * len(tokenizer.head(range(10**4), 1.0)) / tokenizer.frame))
    runs: dict[tuple[str, int], list[Run]] = {key: [] for key in pipelines}
    for number in range(rounds + 1):
        for (engine, count), pipeline in pipelines.items():
            torch.set_num_threads(count)
            params = SamplingParams(seconds=seconds, seed=number, guidance=guidance)
            run = continue_once(pipeline, given, params, every)
            if number:
                runs[engine, count].append(run)
    print(f"{'':40}" + "".join(f"{f'{engine}, {count} thread(s)':>24}" for engine, count in runs))
    for field in fields(Run):
        label, form = LABELS[field.name]
        cells = []
        for timed in runs.values():
            values = [getattr(run, field.name) for run in timed]
            low, middle, high = (form.format(v) for v in (min(values), statistics.median(values), max(values)))
            cells.append(f"{middle} ({low} to {high})")
        print(f"{label:40}" + "".join(f"{cell:>24}" for cell in cells))
    if output:
        rows = [
            {"engine": engine, "threads": count, "runs": [vars(run) for run in timed]}
            for (engine, count), timed in runs.items()
        ]
        about = {"checkpoint": checkpoint, "seconds": seconds, "prompt_seconds": prompt_seconds, "timed": rows}
        Path(output).write_text(json.dumps(about, indent=2) + "\n")


if __name__ == "__main__":
    try:
        auto_cli(main, as_positional=False)
    except ShortcutGenError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
