"""Does it fall apart? Minutes of piano far past the context window, measured against real performances.

    python -m benchmarks.endless --checkpoint checkpoints/piano --data data/maestro --plot docs/images/endless.png

Every 15 s window of each continuation gets its note density, mean velocity, pitch spread and polyphony. The same is
measured over windows of the corpus's test split; the band is its 1st to 99th percentile. Prints how many windows of the
continuations lie inside it, minute by minute.
"""

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jsonargparse import auto_cli
from numpy.typing import NDArray
from tqdm import tqdm

from shortcut_gen import Pipeline, Prompt, SamplingParams, Score, ShortcutGenError
from shortcut_gen.decoding.sampler import DROPPED, Sampler
from training.corpus.shards import Corpus

WINDOW_SECONDS = 15.0
MEASURES = ("notes a second", "mean velocity", "pitch spread (semitones)", "notes at once")
BAND = (1, 99)
"""Percentiles of the real windows that bound what counts as usual."""
RANGE = (0, 100)
"""Percentiles that bound what occurs at all."""


def windows(score: Score, start: float = 0.0) -> NDArray[np.float64]:
    """The four measures of each whole window from `start` seconds on, (N, 4). An empty window: density 0, else NaN."""
    onsets = np.array([note.start for note in score.notes])
    ends = np.array([note.end for note in score.notes])
    pitches = np.array([note.pitch for note in score.notes])
    velocities = np.array([note.velocity for note in score.notes])
    last = ends.max(initial=0.0)
    rows = []
    for low in np.arange(start, last - WINDOW_SECONDS, WINDOW_SECONDS):
        high = low + WINDOW_SECONDS
        here = (onsets >= low) & (onsets < high)
        sounding = np.clip(np.minimum(ends, high) - np.maximum(onsets, low), 0, None).sum() / WINDOW_SECONDS
        if here.any():
            rows.append([here.sum() / WINDOW_SECONDS, velocities[here].mean(), pitches[here].std(), sounding])
        else:
            rows.append([0.0, np.nan, np.nan, sounding])
    return np.array(rows).reshape(-1, 4)


def real_windows(corpus: Corpus, pipeline: Pipeline, pieces: int) -> NDArray[np.float64]:
    """The measures of the windows of so many pieces of the test split, evenly chosen."""
    split = corpus.split("test")
    chosen = np.unique(np.linspace(0, len(split) - 1, min(pieces, len(split))).astype(int))
    parts = []
    for index in tqdm(chosen, desc="real performances", disable=None):
        score = pipeline.tokenizer.decode(split[int(index)][1].tolist())
        assert isinstance(score, Score)
        parts.append(windows(score))
    return np.concatenate(parts)


def main(
    checkpoint: str = "checkpoints/piano",
    data: str = "data/maestro",
    prompts: Sequence[str] = (),
    minutes: float = 5.0,
    variations: int = 4,
    prompt_seconds: float = 12.0,
    temperature: float = 1.0,
    top_p: float = 0.98,
    seed: int = 0,
    dropped: float = DROPPED,
    pieces: int = 60,
    plot: str | None = None,
    output: str | None = None,
) -> None:
    """Generate, measure, print and plot.

    Args:
        checkpoint: Checkpoint folder.
        data: Prepared corpus, whose test split is the yardstick.
        prompts: MIDI files to continue; none starts every continuation from nothing.
        minutes: Length of each continuation.
        variations: Continuations of each prompt.
        prompt_seconds: How much of each prompt is used.
        temperature: Sampling temperature.
        top_p: Nucleus share.
        seed: Seed.
        dropped: Share of a full window that goes when it slides.
        pieces: Pieces of the test split that are measured.
        plot: PNG file to write.
        output: JSON file to write.
    """
    pipeline = Pipeline.from_pretrained(checkpoint)
    pipeline.sampler = Sampler(pipeline.model, pipeline.tokenizer, pipeline.sampler.engine, dropped)
    given = [Prompt.from_file(path, prompt_seconds) for path in prompts] or [Prompt.empty()]
    params = SamplingParams(seconds=60 * minutes, temperature=temperature, top_p=top_p, seed=seed)
    began = time.perf_counter()
    bar = tqdm(total=round(60 * minutes), desc="generating", unit="s", disable=None)
    for progress in pipeline.stream(given, params, variations, every_tokens=64):
        now = min(c.seconds - c.seam_seconds for c in progress.continuations)
        bar.update(max(0, round(min(now, 60 * minutes)) - bar.n))
    bar.close()
    elapsed = time.perf_counter() - began
    real = real_windows(Corpus.open(data), pipeline, pieces)
    usual, whole = (np.nanpercentile(real, bounds, axis=0) for bounds in (BAND, RANGE))
    runs = [(c.prompt.name, windows(c.score, c.seam_seconds)) for c in progress.continuations]
    result = {
        "continuations": len(runs),
        "usual": report("the 1st to 99th percentile of real ones", runs, *usual, minutes),
        "range": report("the range of real ones", runs, *whole, minutes),
        "checkpoint": checkpoint,
        "tokens": sum(len(c.ids) for c in progress.continuations),
        "seconds": round(elapsed, 1),
        "temperature": temperature,
        "top_p": top_p,
        "seed": seed,
        "dropped": dropped,
    }
    if plot:
        draw(runs, usual, whole, np.nanmedian(real, axis=0), Path(plot))
    if output:
        Path(output).write_text(json.dumps(result, indent=2) + "\n")


def report(
    bounds: str,
    runs: list[tuple[str, NDArray[np.float64]]],
    low: NDArray[np.float64],
    high: NDArray[np.float64],
    minutes: float,
) -> dict[str, Any]:
    """Prints the share of windows inside the bounds, minute by minute, and returns it by measure."""
    per_minute = round(60 / WINDOW_SECONDS)
    table: dict[str, Any] = {}
    print(f"share of {WINDOW_SECONDS:.0f} s windows within {bounds}")
    print(f"{'':26}{'bounds':>16}" + "".join(f"{f'min {m + 1}':>9}" for m in range(int(minutes))))
    for column, name in enumerate(MEASURES):
        shares = []
        for minute in range(int(minutes)):
            part = np.concatenate(
                [values[minute * per_minute : (minute + 1) * per_minute, column] for _, values in runs]
            )
            inside = (part >= low[column]) & (part <= high[column])
            shares.append(float(inside.mean()) if len(part) else float("nan"))
        print(f"{name:26}{f'{low[column]:.1f} to {high[column]:.1f}':>16}" + "".join(f"{s:>9.0%}" for s in shares))
        table[name] = {"bounds": [round(low[column], 3), round(high[column], 3)], "inside_by_minute": shares}
    return table


def draw(
    runs: list[tuple[str, NDArray[np.float64]]],
    usual: NDArray[np.float64],
    whole: NDArray[np.float64],
    median: NDArray[np.float64],
    path: Path,
) -> None:
    """One panel a measure: the continuations over time, what is usual and what occurs at all behind them."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(len(MEASURES), 1, figsize=(9, 9), sharex=True, layout="constrained")
    for column, (axis, name) in enumerate(zip(axes, MEASURES, strict=True)):
        axis.axhspan(*whole[:, column], color="#eef2f6", label="real performances, all")
        axis.axhspan(*usual[:, column], color="#d3dde8", label="1st to 99th percentile")
        axis.axhline(median[column], color="#829ab1", linestyle="--", linewidth=1, label="their median")
        for number, (prompt, values) in enumerate(runs):
            at = (np.arange(len(values)) + 0.5) * WINDOW_SECONDS / 60
            axis.plot(
                at, values[:, column], linewidth=1.2, marker=".", label=f"{prompt} {number}" if not column else None
            )
        axis.set_ylabel(name)
        axis.set_ylim(bottom=0)
    axes[-1].set_xlabel("minutes after the prompt")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)


if __name__ == "__main__":
    try:
        auto_cli(main, as_positional=False)
    except ShortcutGenError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
