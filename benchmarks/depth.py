"""What it costs to say the depth while decoding: `python -m benchmarks.depth [--json FILE]`.

The same continuations through the pipeline with and without `depth=True`, in each engine and batch, all taking turns
in one process; told every 16 ids, as the page is. Prints ids a second and the ratio of the seconds, taken round by
round, so that what slows a whole round falls out: of a round the median of its 16 ids at a time, as other work on the
machine lengthens some. The ids must be the same.
"""

import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.measuring.timing import Figure, about, alternate, command, describe, progress, ratio, table
from shortcut_gen import Pipeline, Prompt, SamplingParams
from shortcut_gen.errors import SettingsError, ShortcutGenError
from shortcut_gen.pipeline import EncodedPrompt
from training.corpus.shards import write_json

EVERY = 16
"""Ids after which the page is told."""

Key = tuple[str, str, int, bool]
"""Checkpoint, engine, rows, and whether the depth is said."""


def prompt_of(pipeline: Pipeline, length: int) -> EncodedPrompt:
    """A prompt of so many ids of no meaning, each allowed at its place in a frame."""
    frame, vocab = pipeline.tokenizer.frame, pipeline.tokenizer.vocab_size
    level = vocab // frame
    ids = tuple(level * (at % frame) + 97 * at % level for at in range(length // frame * frame))
    return EncodedPrompt(prompt=Prompt.empty(), ids=ids)


class Bench:
    """What is timed, and the ids that it made."""

    def __init__(self, prompt: int, new: int, processor: bool) -> None:
        """`processor`: time of the processor, not of the clock."""
        self.prompt = prompt
        self.new = new
        self.now = time.process_time if processor else time.perf_counter
        self.made: dict[Key, list[tuple[int, ...]]] = {}

    def timed(self, pipeline: Pipeline, key: Key) -> Callable[[], float]:
        """Median seconds of EVERY ids behind the prompt."""
        encoded = prompt_of(pipeline, self.prompt)
        params = SamplingParams(max_tokens=self.new, top_p=0.98)

        def run() -> float:
            rows = [(encoded, variation) for variation in range(key[2])]
            stream = pipeline.stream_rows(rows, params, EVERY, depth=key[3])
            last = next(stream)  # the prompt is read
            taken, began = [], self.now()
            for part in stream:
                last, now = part, self.now()
                taken.append(now - began)
                began = now
            if any((made.depth is not None) is not key[3] for made in last.continuations):
                raise ShortcutGenError(f"the engine {key[1]} says no depth; there is nothing to measure")
            self.made[key] = [made.ids for made in last.continuations]
            return statistics.median(taken[:-1])  # the last is short, or nothing

        return run


def report(seconds: dict[Key, list[float]]) -> list[dict[str, Any]]:
    """A row for each checkpoint, engine and batch."""
    rows = []
    for (name, engine, batch, depth), plain in seconds.items():
        if depth:
            continue
        watched = seconds[name, engine, batch, True]
        rows.append(
            {
                **{"checkpoint": name, "engine": engine, "batch": batch},
                "without": Figure.of([EVERY * batch / one for one in plain]).to_dict(1),
                "with": Figure.of([EVERY * batch / one for one in watched]).to_dict(1),
                "seconds_with_to_without": ratio(watched, plain).to_dict(),
            }
        )
    return rows


def lines(rows: Sequence[dict[str, Any]]) -> list[list[str]]:
    """The table."""
    head = ["checkpoint", "engine", "batch", "tokens/s without", "with depth", "seconds, with to without"]
    return [head] + [
        [
            *(row["checkpoint"], row["engine"], str(row["batch"])),
            *(f"{row[key]['median']:,.0f} ± {row[key]['spread']:.0%}" for key in ("without", "with")),
            "{median:.3f} ± {spread:.0%}".format(**row["seconds_with_to_without"]),
        ]
        for row in rows
    ]


def main(
    checkpoints: tuple[str, ...] = ("checkpoints/piano", "checkpoints/speech"),
    engines: tuple[str, ...] = ("native", "torch"),
    batches: tuple[int, ...] = (1, 4),
    prompt: int = 512,
    new: int = 256,
    rounds: int = 9,
    threads: int = 1,
    processor: bool = False,
    json: Path | None = None,
) -> None:
    """Measure, print and write.

    Args:
        checkpoints: Checkpoint folders.
        engines: Of native and torch.
        batches: Rows that are decoded side by side.
        prompt: Ids before the first new one.
        new: New ids of each row.
        rounds: Times each is measured, in turn with the others.
        threads: CPU threads.
        processor: Take the processor's time, for a machine that does other work too.
        json: File for the figures.
    """
    numbers = [("batches", batches), ("prompt", (prompt,)), ("new", (new - 3 * EVERY + 1,)), ("rounds", (rounds,))]
    for name, values in [*numbers, ("threads", (threads,)), ("engines", engines), ("checkpoints", checkpoints)]:
        if not values or any(isinstance(value, int) and value < 1 for value in values):
            raise SettingsError(f"{name} is too small; whole numbers of at least 1, and of 48 new ids, are needed")
    torch.set_num_threads(threads)
    machine = about()
    print(describe(machine), flush=True)
    bench = Bench(prompt, new, processor)
    timed: dict[Key, Callable[[], float]] = {}
    for folder in checkpoints:
        for engine in engines:
            pipeline = Pipeline.from_pretrained(folder, engine=engine)
            for key in [(Path(folder).name, engine, batch, depth) for batch in batches for depth in (False, True)]:
                timed[key] = bench.timed(pipeline, key)
                timed[key]()  # to warm up
    seconds = alternate(timed, rounds, progress)
    same = all(ids == bench.made[*key[:3], True] for key, ids in bench.made.items())
    rows = report(seconds)
    clock = "processor" if processor else "wall"
    print(f"\n{prompt} + {new} ids, {threads} threads, {rounds} rounds, {clock} time; the ids are the same: {same}\n")
    print(table(lines(rows)))
    if json:
        work = {"prompt": prompt, "new": new, "rounds": rounds, "threads": threads, "clock": clock}
        write_json(json, {"machine": machine, "work": work, "same_ids": same, "rows": rows})


if __name__ == "__main__":
    sys.exit(command(main))
