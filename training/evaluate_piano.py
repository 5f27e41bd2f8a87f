"""Listen to a piano model, in numbers: `python -m training.evaluate_piano checkpoints/piano --data data/maestro`.

Test performances are continued from a point in their middle. What follows is held against what the pianist really
played next, and against the continuation of another piece: whether key, register, rhythm, density and loudness go on,
how each drifts with time, how the sets differ (Yang & Lerch 2020), and how long the runs of notes are that training
performances have too. With `--settings` it compares settings of the sampler.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jsonargparse import ArgumentParser
from tqdm import tqdm

from shortcut_gen.copying import Copying, line
from shortcut_gen.decoding.sampling import SamplingParams
from shortcut_gen.errors import DataError, MediaError, SettingsError
from shortcut_gen.files import write_whole
from shortcut_gen.media import Score
from shortcut_gen.modalities.piano import PianoTokenizer
from shortcut_gen.pipeline import Pipeline, Prompt
from training.corpus.shards import Corpus, Split, spread
from training.scoring.continuations import spread as summary
from training.scoring.lines import line_of_ids
from training.scoring.music import FEATURES, Excerpt, against, apart
from training.scoring.rolls import draw
from training.support.command_line import plain, run

MADE, REAL, OTHER = "continuation", "really played", "of another piece"
ROWS = (
    ("key", "key kept: cosine of pitch classes", "{:.3f}"),
    ("register", "register: overlap", "{:.3f}"),
    ("intervals", "inter-onset intervals: overlap", "{:.3f}"),
    ("rhythm", "rhythm: cosine of autocorrelations", "{:.3f}"),
    ("density", "notes a second: octaves off", "{:.2f}"),
    ("loudness", "mean velocity: steps off", "{:.1f}"),
    ("at once", "notes at once: octaves off", "{:.2f}"),
    ("copied", "longest run that training has, notes", "{:.0f}"),
)


@dataclass(frozen=True, kw_only=True)
class PianoEvaluation:
    """What is continued and how."""

    data: Path = Path("data/maestro")
    """Prepared corpus; its test split is continued, its training split is where copies are looked for."""
    prompts: int = 100
    """Performances to continue, spread over the split."""
    prompt_seconds: float = PianoTokenizer.usual.prompt_seconds
    """How much of each is the prompt."""
    seconds: float = PianoTokenizer.usual.seconds
    """Length of each continuation."""
    temperature: float = 1.0
    """Divides the logits."""
    top_p: float = PianoTokenizer.usual.top_p
    """Keep the fewest ids whose probabilities reach p; 1 keeps all."""
    min_p: float = 0.0
    """Keep ids at least this share as likely as the likeliest; 0 keeps all."""
    seed: int = 0
    """Seed of the continuations."""
    batch_size: int = 16
    """Continuations made together."""
    copies: bool = True
    """Look for runs of notes in the training split."""
    settings: list[str] = field(default_factory=list)
    """Settings of the sampler to compare in a line each: temperature, top-p and min-p with commas between them."""
    json: Path | None = None
    """File to write the figures to."""
    plot: Path | None = None
    """PNG file to draw six continuations to: two of the best, two of the middle, two of the worst."""
    threads: int = 0
    """CPU threads of torch; 0 leaves its own choice."""
    precision: str | None = None
    """Of the native engine's weights: f32, bf16 or int8."""

    def __post_init__(self) -> None:
        for name in ("prompts", "batch_size"):
            if getattr(self, name) < 1:
                raise SettingsError(f"{name} is {getattr(self, name)}; a whole number of at least 1 is needed")
        for name in ("prompt_seconds", "seconds"):
            if not 5 <= getattr(self, name) <= 120:
                raise SettingsError(f"{name} is {getattr(self, name)}; a number from 5 to 120 is needed")
        for given in self.tried:
            given.params  # noqa: B018, raises where they are wrong

    @property
    def params(self) -> SamplingParams:
        """The sampler's part."""
        names = ("temperature", "top_p", "min_p", "seed", "seconds")
        return SamplingParams(**{name: getattr(self, name) for name in names})

    @property
    def tried(self) -> list["PianoEvaluation"]:
        """One of these for each of `settings`. Raises SettingsError."""
        made = []
        for text in self.settings:
            try:
                temperature, top_p, min_p = (float(part) for part in text.split(","))
            except ValueError as error:
                raise SettingsError(f"settings has {text!r}; TEMPERATURE,TOP_P,MIN_P is needed") from error
            made.append(replace(self, temperature=temperature, top_p=top_p, min_p=min_p, settings=[]))
        return made


@dataclass(frozen=True)
class Take:
    """A prompt and what followed it."""

    name: str
    score: Score
    """Both, the prompt from 0 on."""
    seam: float
    seconds: float

    @cached_property
    def prompt(self) -> Excerpt:
        """Up to the seam."""
        return Excerpt.of(self.score, 0.0, self.seam)

    @cached_property
    def following(self) -> Excerpt:
        """From the seam on."""
        return Excerpt.of(self.score, self.seam, self.seam + self.seconds)


def real_takes(split: Split, settings: PianoEvaluation) -> list[Take]:
    """The middles of so many pieces that are long enough. Raises DataError where there are fewer than two."""
    tokenizer, length = PianoTokenizer(), settings.prompt_seconds + settings.seconds
    out = []
    for name, ids in split:
        score = tokenizer.decode(ids.tolist())
        start = (score.duration - length) / 2
        if start > 0:
            out.append(Take(name, score.slice(start, start + length), settings.prompt_seconds, settings.seconds))
    out = [out[place] for place in spread(len(out), settings.prompts)]
    if len(out) < 2:
        raise DataError(f"the test split has {len(out)} pieces of {length:g} s or more; at least two are needed")
    return out


def continued(pipeline: Pipeline, takes: Sequence[Take], settings: PianoEvaluation) -> list[Take]:
    """What the model makes of the takes' starts."""
    out = []
    with tqdm(total=len(takes), desc="continuing", disable=None) as bar:
        for first in range(0, len(takes), settings.batch_size):
            chunk = takes[first : first + settings.batch_size]
            prompts = [Prompt(media=t.score, name=t.name, seconds=t.seam) for t in chunk]
            for progress in pipeline.stream(prompts, settings.params, every_tokens=256):
                made = progress.continuations
            for take, each in zip(chunk, made, strict=True):
                out.append(Take(take.name, each.score, each.seam_seconds, settings.seconds))
            bar.update(len(chunk))
    return out


def exchanged(takes: Sequence[Take]) -> list[Take]:
    """Each prompt with what followed another: what being unrelated comes to."""
    out = []
    for take, other in zip(takes, [*takes[1:], takes[0]], strict=True):
        notes = (*take.score.slice(0.0, take.seam).notes, *(n for n in other.score.notes if n.start >= other.seam))
        out.append(replace(take, score=Score(notes=notes)))
    return out


def measured(takes: Sequence[Take], copies: Copying | None) -> list[dict[str, float]]:
    """The rows of each take."""
    rows = []
    for take in takes:
        following = take.following
        row = against(take.prompt, following)
        if copies is not None:
            row["copied"] = float(copies.longest_of(line(following.pitch, following.start)).notes)
        rows.append(row)
    return rows


def drift(takes: Sequence[Take], steps: int = 3) -> dict[str, list[float]]:
    """Means of the measures by part of the continuation, first to last: does it wander off?"""
    out: dict[str, list[float]] = {}
    for step in range(steps):
        parts = []
        for take in takes:
            width = take.seconds / steps
            parts.append(against(take.prompt, take.following.part(step * width, (step + 1) * width)))
        for key in parts[0]:
            out.setdefault(key, []).append(float(np.mean([part[key] for part in parts])))
    return out


def distances(made: Sequence[Take], real: Sequence[Take]) -> dict[str, dict[str, float]]:
    """How a set of excerpts differs from the real one, feature by feature."""
    out = {}
    for name, feature in FEATURES.items():
        area, divergence = apart([feature(t.following) for t in real], [feature(t.following) for t in made])
        out[name] = {"overlap": area, "kl": divergence}
    return out


def score_of(figures: Mapping[str, Any]) -> float:
    """One number for comparing settings: over the measures, how many standard deviations of the real ones the
    continuation's mean lies from theirs, in the mean."""
    off = []
    for key, *_ in ROWS:
        real, made = figures["rows"][REAL].get(key), figures["rows"][MADE].get(key)
        if real is not None and key != "copied":
            off.append(abs(np.mean(made) - np.mean(real)) / max(float(np.std(real)), 1e-6))
    return float(np.mean(off))


def judge(made: Sequence[Take], real: Sequence[Take], copies: Copying | None) -> dict[str, Any]:
    """Every figure of a set of continuations."""
    sets = {MADE: made, REAL: real, OTHER: exchanged(real)}
    rows = {name: measured(takes, copies) for name, takes in sets.items()}
    keys = list(rows[REAL][0])
    figures: dict[str, Any] = {
        "rows": {name: {key: [row[key] for row in of] for key in keys} for name, of in rows.items()},
        "drift": {name: drift(takes) for name, takes in sets.items()},
        "distances": {name: distances(sets[name], real) for name in (MADE, OTHER)},
    }
    figures["off"] = score_of(figures)
    return figures


def table(figures: dict[str, Any], count: int) -> str:
    """The figures as text."""
    rows = figures["rows"]
    lines = [
        f"{count} test performances; mean (5th to 95th percentile)",
        f"{'':38}" + "".join(f"{n:>26}" for n in rows),
    ]
    for key, label, form in ROWS:
        cells = []
        for of in rows.values():
            if key in of:
                told = summary(of[key])
                span = f"{form.format(told['low'])} to {form.format(told['high'])}"
                cells.append(f"{form.format(told['mean'])} ({span})")
        if cells:
            lines.append(f"{label:38}" + "".join(f"{cell:>26}" for cell in cells))
    lines.append("by thirds of the continuation: " + ", ".join(key for key, *_ in ROWS if key != "copied"))
    for name, by_third in figures["drift"].items():
        thirds = [" ".join(f"{value:.2f}" for value in by_third[key]) for key, *_ in ROWS if key in by_third]
        lines.append(f"  {name:20}{' | '.join(thirds)}")
    lines.append("overlapping area (KL, nats) of distances within the real set and between the sets")
    for name, features in figures["distances"].items():
        told_apart = [f"{feature} {v['overlap']:.2f} ({v['kl']:.2f})" for feature, v in features.items()]
        lines.append(f"  {name:20}{', '.join(told_apart)}")
    lines.append(f"off by {figures['off']:.3f} standard deviations of the real ones, in the mean of the measures")
    return "\n".join(lines)


def chosen(rows: Mapping[str, list[float]], count: int = 6) -> list[int]:
    """Which continuations to show: a third each of the best, the middle and the worst by key, register and rhythm."""
    kept = [
        sum(values) for values in zip(rows["key"], rows["register"], rows["intervals"], rows["rhythm"], strict=True)
    ]
    order = np.argsort(kept)[::-1].tolist()
    if len(order) <= count:
        return order
    third, middle = count // 3, len(order) // 2
    return [*order[:third], *order[middle - third // 2 : middle - third // 2 + third], *order[-third:]]


def evaluate(checkpoint: Path, settings: PianoEvaluation) -> dict[str, Any]:
    """Continue, measure, print and write what is asked for."""
    if settings.threads:
        torch.set_num_threads(settings.threads)
    corpus = Corpus.open(settings.data)
    pipeline = Pipeline.from_pretrained(checkpoint, precision=settings.precision)
    if pipeline.tokenizer.media is not Score or corpus.tokenizer != pipeline.tokenizer.name:
        raise SettingsError(f"{checkpoint} and {settings.data} are no model of piano and its corpus; both are needed")
    real = real_takes(corpus.split("test"), settings)
    if settings.settings:
        return _compared(pipeline, real, settings, checkpoint)
    copies = Copying.of([line_of_ids(ids) for _, ids in corpus.split("train")]) if settings.copies else None
    made = continued(pipeline, real, settings)
    figures = judge(made, real, copies)
    print(table(figures, len(real)))
    if settings.plot:
        rows = figures["rows"][MADE]
        shown = [
            (f"{made[k].name}: key {rows['key'][k]:.2f}, rhythm {rows['rhythm'][k]:.2f}", real[k], made[k])
            for k in chosen(rows)
        ]
        draw([(text, one.score, one.seam, other.score, other.seam) for text, one, other in shown], settings.plot)
    told = figures | {"rows": {n: {k: summary(v) for k, v in of.items()} for n, of in figures["rows"].items()}}
    return _written(told, checkpoint, settings, len(real))


def _compared(pipeline: Pipeline, real: Sequence[Take], settings: PianoEvaluation, checkpoint: Path) -> dict[str, Any]:
    """A line for each setting of the sampler."""
    names = [key for key, *_ in ROWS if key != "copied"]
    print(f"{'temperature, top-p, min-p':28}{'off':>7}" + "".join(f"{name:>11}" for name in names) + f"{'overlap':>9}")
    lines = []
    for given in settings.tried:
        figures = judge(continued(pipeline, real, given), real, None)
        means = {name: float(np.mean(figures["rows"][MADE][name])) for name in names}
        area = float(np.mean([value["overlap"] for value in figures["distances"][MADE].values()]))
        label = f"{given.temperature:g}, {given.top_p:g}, {given.min_p:g}"
        print(
            f"{label:28}{figures['off']:>7.3f}" + "".join(f"{means[n]:>11.3f}" for n in names) + f"{area:>9.3f}",
            flush=True,
        )
        lines.append({"settings": label, "off": figures["off"], "means": means, "overlap": area})
    means = {name: float(np.mean(figures["rows"][REAL][name])) for name in names}
    print(f"{REAL:28}{'':>7}" + "".join(f"{means[name]:>11.3f}" for name in names))
    return _written({"tried": lines, REAL: means}, checkpoint, settings, len(real))


def _written(figures: dict[str, Any], checkpoint: Path, settings: PianoEvaluation, count: int) -> dict[str, Any]:
    names = ("temperature", "top_p", "min_p", "seed", "seconds", "prompt_seconds")
    about = {"checkpoint": checkpoint.name, "data": settings.data.name, "takes": count}
    told = about | {"settings": {name: getattr(settings, name) for name in names}} | figures
    if settings.json:
        write_whole(settings.json, (json.dumps(plain(told), indent=2) + "\n").encode(), MediaError)
    return told


def _parser() -> ArgumentParser:
    parser = ArgumentParser(prog="python -m training.evaluate_piano", description=__doc__, exit_on_error=False)
    parser.add_argument("checkpoint", type=Path, help="Checkpoint folder, such as checkpoints/piano.")
    parser.add_class_arguments(PianoEvaluation, skip={"settings"})
    text = (
        "Settings of the sampler to compare in a line each, as TEMPERATURE,TOP_P,MIN_P, such as 1,0.98,0 0.95,1,0.02."
    )
    parser.add_argument("--settings", nargs="+", default=[], help=text)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    return run(_parser, lambda values: evaluate(values.pop("checkpoint"), PianoEvaluation(**values)), arguments)


if __name__ == "__main__":
    sys.exit(main())
