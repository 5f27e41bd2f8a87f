"""Listen to a piano model, in numbers: `python -m training.evaluate_piano checkpoints/piano --data data/maestro`.

Test performances are continued from a point in their middle. What follows is held against what the pianist really
played next, against what n-grams of the training split make, and against the continuation of another piece: whether
key, register, rhythm, density and loudness go on, how each drifts with time, whether what was 10, 20 and 30 s before
comes again, how the sets differ (Yang & Lerch 2020, and a Fréchet distance of our own measures), and how long the runs
of notes are that training performances have too. With `--settings` it compares settings of the sampler.
"""

import json
import sys
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jsonargparse import ArgumentParser
from tqdm import tqdm

from shortcut_gen.copying import Copying
from shortcut_gen.decoding.sampler import Sampler
from shortcut_gen.decoding.sampling import SamplingParams
from shortcut_gen.errors import DataError, MediaError, SettingsError
from shortcut_gen.files import write_whole
from shortcut_gen.media import Score
from shortcut_gen.modalities.piano import MAX_NOTE_SECONDS, PianoTokenizer
from shortcut_gen.pipeline import Pipeline, Prompt
from shortcut_gen.places import Place, place
from training.corpus.joined import open_corpus
from training.corpus.shards import Split, spread
from training.scoring.continuations import spread as summary
from training.scoring.lines import line_of_ids
from training.scoring.listening import listen, report
from training.scoring.ngram_engine import NgramEngine
from training.scoring.rolls import draw
from training.scoring.takes import MADE, REAL, ROWS, Take, chosen, judge, table
from training.support.command_line import add_checkpoint, plain, run


@dataclass(frozen=True, kw_only=True)
class PianoEvaluation:
    """What is continued and how."""

    data: Place = Path("data/maestro")
    """Prepared corpus, or its URL; its test split is continued, its training split is where copies are looked for."""
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
    guidance: float = PianoTokenizer.usual.guidance
    """How much further than by itself the model is to hold to the prompt; more than 0 takes twice as long."""
    longest_note: float = MAX_NOTE_SECONDS
    """Seconds after which the grammar ends a note that the model has not."""
    seed: int = 0
    """Seed of the continuations."""
    batch_size: int = 16
    """Continuations made together."""
    copies: bool = True
    """Look for runs of notes in the training split."""
    ngrams: bool = True
    """Count n-grams of the training split as a control, which takes a minute and a GB of memory."""
    settings: list[str] = field(default_factory=list)
    """Settings of the sampler to compare in a line each: temperature, top-p and min-p with commas between them."""
    json: Path | None = None
    """File to write the figures to."""
    plot: Path | None = None
    """PNG file to draw six continuations to: two of the best, two of the middle, two of the worst."""
    out: Path | None = None
    """Folder for every continuation's sound, for sheets of rolls and spectrograms, and what no real excerpt has."""
    threads: int = 0
    """CPU threads of torch; 0 leaves its own choice."""
    precision: str | None = None
    """Of the native engine's weights: f32, bf16 or int8."""

    def __post_init__(self) -> None:
        for name, least in (("prompts", 2), ("batch_size", 1)):
            if getattr(self, name) < least:
                raise SettingsError(f"{name} is {getattr(self, name)}; a whole number of at least {least} is needed")
        for name in ("prompt_seconds", "seconds"):
            if not 5 <= getattr(self, name) <= 120:
                raise SettingsError(f"{name} is {getattr(self, name)}; a number from 5 to 120 is needed")
        if not 0.1 <= self.longest_note <= 60:
            raise SettingsError(f"longest_note is {self.longest_note}; a number from 0.1 to 60 is needed")
        for given in self.tried:
            given.params  # noqa: B018, raises where they are wrong

    @property
    def params(self) -> SamplingParams:
        """The sampler's part."""
        names = ("temperature", "top_p", "min_p", "guidance", "seed", "seconds")
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


def real_takes(split: Split, settings: PianoEvaluation) -> list[Take]:
    """The middles of so many pieces that are long enough. Raises DataError where there are fewer than two."""
    tokenizer, length = PianoTokenizer(), settings.prompt_seconds + settings.seconds
    long = [place for place, (_, ids) in enumerate(split) if tokenizer.seconds(ids.tolist()) > length]
    if len(long) < 2:
        raise DataError(f"the test split has {len(long)} pieces of {length:g} s or more; at least two are needed")
    out = []
    for number in spread(len(long), settings.prompts):
        name, ids = split[long[number]]
        score = tokenizer.decode(ids.tolist())
        start = max(0.0, (score.duration - length) / 2)
        out.append(Take(name, score.slice(start, start + length), settings.prompt_seconds, settings.seconds))
    return out


def continued(pipeline: Pipeline, takes: Sequence[Take], settings: PianoEvaluation) -> list[Take]:
    """What a pipeline makes of the takes' starts."""
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


def evaluate(checkpoint: Place, settings: PianoEvaluation) -> dict[str, Any]:
    """Continue, measure, print and write what is asked for."""
    if settings.threads:
        torch.set_num_threads(settings.threads)
    corpus = open_corpus(settings.data)
    pipeline = Pipeline.from_pretrained(checkpoint, precision=settings.precision)
    if pipeline.tokenizer.media is not Score or corpus.tokenizer != pipeline.tokenizer.name:
        raise SettingsError(f"{checkpoint} and {settings.data} are no model of piano and its corpus; both are needed")
    pipeline.tokenizer = pipeline.sampler.tokenizer = PianoTokenizer(settings.longest_note)
    real = real_takes(corpus.split("test"), settings)
    if settings.settings:
        return _compared(pipeline, real, settings, checkpoint)
    train = corpus.split("train")
    copies = Copying.of([line_of_ids(ids) for _, ids in train]) if settings.copies else None
    made = continued(pipeline, real, settings)
    counted = None
    if settings.ngrams:
        engine = NgramEngine(train, corpus.split("validation"), corpus.vocab_size)
        control = copy(pipeline)  # all but what computes is the model's
        control.sampler = Sampler(pipeline.model, pipeline.tokenizer, engine)
        counted = continued(control, real, settings)
    figures = judge(made, real, copies, counted, settings.longest_note)
    print(table(figures, len(real)))
    if settings.plot:
        rows = figures["rows"][MADE]
        shown = [
            (f"{made[k].name}: key {rows['key'][k]:.2f}, rhythm {rows['rhythm'][k]:.2f}", real[k], made[k])
            for k in chosen(rows)
        ]
        draw([(text, one.score, one.seam, other.score, other.seam) for text, one, other in shown], settings.plot)
    if settings.out:
        figures["heard"] = listen(made, real, settings.out)
        print(report(figures["heard"]))
    told = figures | {"rows": {n: {k: summary(v) for k, v in of.items()} for n, of in figures["rows"].items()}}
    return _written(told, checkpoint, settings, len(real))


def _compared(pipeline: Pipeline, real: Sequence[Take], settings: PianoEvaluation, checkpoint: Place) -> dict[str, Any]:
    """A line for each setting of the sampler."""
    names = [key for key, *_ in ROWS if key != "copied"]
    print(
        f"{'temperature, top-p, min-p':28}{'off':>7}"
        + "".join(f"{name:>11}" for name in names)
        + f"{'overlap':>9}{'unended':>9}"
    )
    lines = []
    for given in settings.tried:
        figures = judge(continued(pipeline, real, given), real, None, None, settings.longest_note)
        means = {name: float(np.mean(figures["rows"][MADE][name])) for name in names}
        area = float(np.mean([value["overlap"] for value in figures["distances"][MADE].values()]))
        held = figures["left to the grammar"][MADE]
        label = f"{given.temperature:g}, {given.top_p:g}, {given.min_p:g}"
        print(
            f"{label:28}{figures['off']:>7.3f}"
            + "".join(f"{means[n]:>11.3f}" for n in names)
            + f"{area:>9.3f}{held:>9.2f}",
            flush=True,
        )
        lines.append({"settings": label, "off": figures["off"], "means": means, "overlap": area, "unended": held})
    means = {name: float(np.mean(figures["rows"][REAL][name])) for name in names}
    print(f"{REAL:28}{'':>7}" + "".join(f"{means[name]:>11.3f}" for name in names))
    return _written({"tried": lines, REAL: means}, checkpoint, settings, len(real))


def _written(figures: dict[str, Any], checkpoint: Place, settings: PianoEvaluation, count: int) -> dict[str, Any]:
    names = ("temperature", "top_p", "min_p", "longest_note", "seed", "seconds", "prompt_seconds")
    about = {"checkpoint": checkpoint.name, "data": settings.data.name, "takes": count}
    told = about | {"settings": {name: getattr(settings, name) for name in names}} | figures
    if settings.json:
        write_whole(settings.json, (json.dumps(plain(told), indent=2) + "\n").encode(), MediaError)
    return told


def _parser() -> ArgumentParser:
    parser = ArgumentParser(prog="python -m training.evaluate_piano", description=__doc__, exit_on_error=False)
    add_checkpoint(parser)
    text = (
        "Prepared corpus, or its URL; its test split is continued, its training split is where copies are looked for."
    )
    parser.add_argument("--data", type=place, default=PianoEvaluation.data, help=text)
    parser.add_class_arguments(PianoEvaluation, skip={"settings", "data"})
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
