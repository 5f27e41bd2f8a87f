"""Many who listen at once: `python -m benchmarks.listeners [--json FILE]`.

Each listener asks for a continuation of a piano prompt, as on the page, and when it has that for one of another prompt,
until the round is over, so that so many listen at every moment. In one process, in turn: all of them in
one shared batch (`Pipeline(share=...)`), and each request with a decoding of its own, one after another. Prints the ids
a second of all together, and how long a request waits for its first ids: medians of the rounds with their spread. A
ratio is taken round by round.
"""

import copy
import os
import statistics
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch is imported, as the page does: see Makefile

import torch

from benchmarks.measuring.timing import Figure, about, alternate, command, describe, progress, ratio, table
from shortcut_gen import Pipeline, Prompt, SamplingParams
from shortcut_gen.decoding.shared import SharedSampler
from shortcut_gen.errors import SettingsError
from shortcut_gen.pipeline import EncodedPrompt
from training.corpus.shards import write_json

EXAMPLES = Path(__file__).resolve().parents[1] / "ui/examples"
WAYS = {"shared": "one batch", "turns": "one after another"}


@dataclass(frozen=True, kw_only=True)
class Work:
    """What every listener asks for."""

    prompt_seconds: float = 8.0
    """How much of an example is continued."""
    seconds: float = 10.0
    """Length of each continuation."""
    top_p: float = 0.98
    """Share of the likeliest that ids are drawn from."""
    seed: int = 0
    """Seed; listeners differ by their number."""
    every_tokens: int = 16
    """Ids after which a listener is told what there is."""
    round_seconds: float = 2.0
    """How long they listen in a round."""


@dataclass(frozen=True)
class Heard:
    """One round of some listeners."""

    ids: int
    seconds: float
    """How long it took, the ends of the last passes among it."""
    waited: tuple[float, ...]
    """Seconds until each request had its first ids, of those that had some."""

    @property
    def speed(self) -> float:
        """Ids a second, of all together."""
        return self.ids / self.seconds


def listen(
    pipeline: Pipeline, prompts: Sequence[EncodedPrompt], listeners: int, work: Work, seconds: float, turns: bool
) -> Heard:
    """Let so many listen for so many seconds; in `turns`, one request after another, in the order of their asking."""
    params = SamplingParams(seconds=work.seconds, top_p=work.top_p, seed=work.seed)
    waited: list[float] = []
    made = [0] * listeners
    start = time.perf_counter()
    asked = [start] * listeners
    """When each listener asked for what it waits for or hears."""

    def follow(request: int) -> bool:
        """Take a request's ids; whether the round goes on."""
        number, before = request % listeners, made[request % listeners]
        stream = pipeline.stream_rows([(prompts[request % len(prompts)], request)], params, work.every_tokens)
        for part in stream:
            if part.continuations[0].ids and made[number] == before:
                waited.append(time.perf_counter() - asked[number])
            made[number] = before + len(part.continuations[0].ids)
            if time.perf_counter() >= start + seconds:
                return False  # which closes the stream
        asked[number] = time.perf_counter()
        return True

    def again(first: int, step: int) -> None:
        for request in range(first, sys.maxsize, step):
            if not follow(request):
                return

    each = [(0, 1)] if turns else [(number, listeners) for number in range(listeners)]
    threads = [threading.Thread(target=again, args=which) for which in each]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return Heard(sum(made), time.perf_counter() - start, tuple(waited))


def measure(
    pipeline: Pipeline,
    prompts: Sequence[EncodedPrompt],
    listeners: Sequence[int],
    rounds: int,
    work: Work,
) -> dict[tuple[str, int], list[Heard]]:
    """Every number of listeners in both ways, all taking turns, after a short round that is not counted."""
    together, apart = copy.copy(pipeline), copy.copy(pipeline)
    together.shared, apart.shared = SharedSampler(pipeline.sampler, max(listeners)), None
    heard: dict[tuple[str, int], list[Heard]] = {(way, count): [] for way in WAYS for count in listeners}

    def run(way: str, count: int, seconds: float) -> Heard:
        shared = way == "shared"
        return listen(together if shared else apart, prompts, count, work, seconds, turns=not shared)

    def keep(way: str, count: int) -> float:
        heard[way, count].append(run(way, count, work.round_seconds))
        return heard[way, count][-1].speed

    for key in heard:
        run(*key, seconds=0.1)
    timed: dict[tuple[str, int], Callable[[], float]] = {key: partial(keep, *key) for key in heard}
    alternate(timed, rounds, progress)
    return heard


def report(heard: dict[tuple[str, int], list[Heard]]) -> list[dict[str, Any]]:
    """What is printed and written, a row for each number of listeners and way."""
    least = min(count for _, count in heard)
    rows = []
    for (way, count), runs in heard.items():
        speeds = [run.speed for run in runs]
        waits = [sorted(run.waited) or [run.seconds] for run in runs]
        rows.append(
            {
                **{"listeners": count, "way": way},
                "tokens_per_second": Figure.of(speeds).to_dict(1),
                "against_turns": ratio(speeds, [run.speed for run in heard["turns", count]]).to_dict(),
                "against_fewest": ratio(speeds, [run.speed for run in heard["turns", least]]).to_dict(),
                "first_ids": Figure.of([statistics.median(some) for some in waits]).to_dict(),
                "first_ids_longest": Figure.of([some[-1] for some in waits]).to_dict(),
            }
        )
    return sorted(rows, key=lambda row: (row["listeners"], row["way"]))


def lines(rows: Sequence[dict[str, Any]]) -> list[list[str]]:
    """The table."""

    def figure(found: dict[str, Any], form: str, unit: float = 1.0) -> str:
        return f"{found['median'] * unit:{form}} ± {found['spread']:.0%}"

    least = min(row["listeners"] for row in rows)
    head = [
        "listeners",
        "way",
        "tokens/s",
        "against turns",
        f"against {least} alone",
        "first ids, ms",
        "longest, ms",
    ]
    return [head] + [
        [
            *(str(row["listeners"]), WAYS[row["way"]], figure(row["tokens_per_second"], ",.0f")),
            *(figure(row["against_turns"], ".2f"), figure(row["against_fewest"], ".2f")),
            *(figure(row[key], ",.0f", 1e3) for key in ("first_ids", "first_ids_longest")),
        ]
        for row in rows
    ]


def main(
    checkpoint: str = "checkpoints/piano",
    prompts: tuple[str, ...] = (),
    listeners: tuple[int, ...] = (1, 2, 4, 8, 16),
    rounds: int = 5,
    work: Work = Work(),
    engine: str = "auto",
    precision: str | None = None,
    threads: int = 2,
    json: Path | None = None,
) -> None:
    """Measure, print and write.

    Args:
        checkpoint: Checkpoint folder of a piano model.
        prompts: MIDI files that the listeners continue, in turn; the page's examples if not given.
        listeners: Numbers of listeners.
        rounds: Times each of them is measured, in turn with the others.
        work: What every listener asks for.
        engine: auto, torch or native.
        precision: f32, bf16 or int8, of the native engine's weights.
        threads: CPU threads.
        json: File for the figures.
    """
    for name, numbers in (("listeners", listeners), ("rounds", (rounds,)), ("threads", (threads,))):
        if not numbers or min(numbers) < 1:
            raise SettingsError(f"{name} is {list(numbers)}; whole numbers of at least 1 are needed")
    torch.set_num_threads(threads)
    machine = about()
    print(describe(machine), flush=True)
    pipeline = Pipeline.from_pretrained(checkpoint, engine=engine, precision=precision)
    given = [Prompt.from_file(path, work.prompt_seconds) for path in prompts or sorted(EXAMPLES.glob("*.mid"))]
    encoded = [EncodedPrompt(prompt=prompt, ids=pipeline.encode(prompt)) for prompt in given]
    rows = report(measure(pipeline, encoded, listeners, rounds, work))
    used = pipeline.sampler.engine
    print(f"\n{used.name}, {used.precision}, {threads} threads, {work.seconds:g} s of piano each, {rounds} rounds\n")
    print(table(lines(rows)))
    if json:
        about_run = {"engine": used.name, "precision": used.precision, "threads": threads, "rounds": rounds}
        write_json(json, {"machine": machine, "work": asdict(work), **about_run, "rows": rows})


if __name__ == "__main__":
    sys.exit(command(main))
