"""Listen to a speech model, in numbers: `python -m training.evaluate_speech checkpoints/speech --data FOLDER`.

The starts of recordings of speakers it never heard are continued. What follows is held against what really followed,
as it is and through the codec: the voice, silence, loudness, pitch, clipping, and whether the seam can be told.
--judges asks models that listen as well.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jsonargparse import ArgumentParser
from tqdm import tqdm

from shortcut_gen.decoding.sampling import SamplingParams
from shortcut_gen.errors import MediaError, SettingsError
from shortcut_gen.files import write_whole
from shortcut_gen.media import Audio
from shortcut_gen.modalities.speech import SpeechTokenizer
from shortcut_gen.pipeline import Pipeline, Prompt
from shortcut_gen.places import Place
from training.scoring.continuations import CODED, MADE, REAL, Take, coded, compare, faults, limits, real_takes, spread
from training.scoring.judges import OPINIONS, check, opinions
from training.scoring.sound import RATE, Voices, to_rate
from training.scoring.spectrograms import draw
from training.support.command_line import add_checkpoint, plain, run

ROWS = (
    ("similarity", "voice like the prompt's", "{:.3f}"),
    ("nearest", "its speaker is the nearest", "{:.0%}"),
    ("silence", "silence", "{:.1%}"),
    ("longest_silence", "longest silence, s", "{:.2f}"),
    ("level_change", "louder than the prompt, dB", "{:+.1f}"),
    ("pitch", "median pitch, Hz", "{:.0f}"),
    ("pitch_change", "pitch moved by, semitones", "{:.1f}"),
    ("pitch_range", "pitch range, semitones", "{:.1f}"),
    ("voiced", "frames with a pitch", "{:.1%}"),
    ("clipped", "clipped samples", "{:.3%}"),
    ("seam_flux", "seam's rank in spectral flux", "{:.0f}"),
    ("distillmos", "DistillMOS, 1 to 5", "{:.2f}"),
    ("dnsmos", "DNSMOS overall, 1 to 5", "{:.2f}"),
    ("dnsmos_signal", "DNSMOS signal, 1 to 5", "{:.2f}"),
)
"""What is said of each system, as far as it was measured: the last three by judges."""


@dataclass(frozen=True, kw_only=True)
class SpeechEvaluation:
    """What is continued and how."""

    data: Path = Path("data/speech/LibriSpeech/test-other")
    """Folder of recordings; its first level of subfolders names the speakers."""
    prompts: int = 30
    """Recordings to continue, spread over the speakers."""
    prompt_seconds: float = SpeechTokenizer.usual.prompt_seconds
    """How much of each is the prompt."""
    seconds: float = SpeechTokenizer.usual.seconds
    """Length of each continuation."""
    temperature: float = 1.0
    """Divides the logits."""
    top_k: int = 0
    """Keep only the k likeliest ids; 0 keeps all."""
    top_p: float = SpeechTokenizer.usual.top_p
    """Keep the fewest ids whose probabilities reach p; 1 keeps all."""
    guidance: float = SpeechTokenizer.usual.guidance
    """How much further than by itself the model holds to the prompt."""
    seed: int = 0
    """Seed of the continuations."""
    batch_size: int = 8
    """Continuations made together."""
    json: Path | None = None
    """File to write the figures to."""
    plot: Path | None = None
    """PNG file to draw six continuations to: two of the best, two of the middle, two of the worst."""
    out: Path | None = None
    """Folder to write the continuations to, as WAV files."""
    judges: Sequence[str] = ()
    """Models to ask as well, some of OPINIONS."""
    threads: int = 0
    """CPU threads of torch; 0 leaves its own choice."""
    device: str = "cpu"
    """Where the model runs."""

    def __post_init__(self) -> None:
        for name in ("prompts", "batch_size"):
            if getattr(self, name) < 1:
                raise SettingsError(f"{name} is {getattr(self, name)}; a whole number of at least 1 is needed")
        if not 0.5 <= self.prompt_seconds <= 60:
            raise SettingsError(f"prompt_seconds is {self.prompt_seconds}; a number from 0.5 to 60 is needed")
        self.params  # noqa: B018, raises where they are wrong

    @property
    def params(self) -> SamplingParams:
        """The sampler's part."""
        names = ("temperature", "top_k", "top_p", "guidance", "seed", "seconds")
        return SamplingParams(**{name: getattr(self, name) for name in names})


def continued(pipeline: Pipeline, takes: Sequence[Take], settings: SpeechEvaluation) -> list[Take]:
    """What the model makes of the takes' starts."""
    out = []
    with tqdm(total=len(takes), desc="continuing", disable=None) as bar:
        for first in range(0, len(takes), settings.batch_size):
            chunk = takes[first : first + settings.batch_size]
            prompts = [Prompt(media=Audio(take.start[None], RATE), name=take.path.name) for take in chunk]
            for progress in pipeline.stream(prompts, settings.params, every_tokens=64):
                made = progress.continuations
            for take, continuation in zip(chunk, made, strict=True):
                audio = continuation.audio()
                sound = to_rate(audio.samples[0], audio.sample_rate)
                out.append(Take(path=take.path, speaker=take.speaker, sound=sound, seam=continuation.seam_seconds))
            bar.update(len(chunk))
    return out


def table(figures: dict[str, Any]) -> str:
    """The figures as text."""
    systems = figures["systems"]
    lines = [f"{figures['takes']} prompts of {figures['pairs']['speakers']} speakers; mean (5th to 95th percentile)"]
    lines.append(f"{'':28}" + "".join(f"{name:>27}" for name in systems))
    for key, label, form in ROWS:
        if not all(key in rows for rows in systems.values()):
            continue
        cells = []
        for rows in systems.values():
            value = rows[key]
            span = f" ({form.format(value['low'])} to {form.format(value['high'])})" if key != "nearest" else ""
            cells.append(form.format(value["mean"]) + span)
        lines.append(f"{label:28}" + "".join(f"{cell:>27}" for cell in cells))
    for name, value in figures["pairs"].items():
        if isinstance(value, dict):
            lines.append(f"voices, {name}: {value['mean']:.3f} ({value['low']:.3f} to {value['high']:.3f})")
    counts = ", ".join(f"{name} {count}" for name, count in figures["faults"].items()) or "none"
    lines.append(f"continuations outside the range of real speech through the codec: {figures['faulty']} ({counts})")
    return "\n".join(lines)


def chosen(rows: list[dict[str, float]], found: list[list[str]], count: int = 6) -> list[int]:
    """Which continuations to show: a third each of the best, the middle and the worst by faults and voice."""
    order = sorted(range(len(rows)), key=lambda k: (len(found[k]), -np.nan_to_num(rows[k]["similarity"])))
    if len(order) <= count:
        return order
    third, middle = count // 3, len(order) // 2
    return [*order[:third], *order[middle - third // 2 : middle - third // 2 + third], *order[-third:]]


def evaluate(checkpoint: Place, settings: SpeechEvaluation) -> dict[str, Any]:
    """Continue, measure, print and write what is asked for."""
    if settings.threads:
        torch.set_num_threads(settings.threads)
    check(settings.judges)
    pipeline = Pipeline.from_pretrained(checkpoint, settings.device)
    if pipeline.tokenizer.media is not Audio:
        raise SettingsError(f"{checkpoint} is a model of {pipeline.tokenizer.name}; one for speech is needed")
    real = real_takes(settings.data, settings.prompts, settings.prompt_seconds, settings.seconds)
    voices = Voices()
    made = continued(pipeline, real, settings)
    systems = {MADE: made, CODED: [coded(pipeline.tokenizer, take) for take in real], REAL: real}
    rows, pairs = compare(systems, voices)
    for name, takes in systems.items():
        for row, take in zip(rows[name], takes, strict=True):
            row |= opinions(settings.judges, take.following)
    bounds = limits(rows[CODED], pairs)
    found = [faults(row, bounds) for row in rows[MADE]]
    names = [name for names in found for name in names]
    figures = {
        "checkpoint": checkpoint.name,
        "data": settings.data.name,
        "settings": {
            name: getattr(settings.params, name)
            for name in ("temperature", "top_k", "top_p", "guidance", "seed", "seconds")
        }
        | {"prompt_seconds": settings.prompt_seconds},
        "takes": len(real),
        "systems": {
            name: {key: spread([row[key] for row in measured]) for key, *_ in ROWS if key in measured[0]}
            for name, measured in rows.items()
        },
        "pairs": pairs,
        "limits": bounds,
        "faulty": sum(bool(names) for names in found),
        "faults": {name: names.count(name) for name in sorted(set(names))},
    }
    print(table(figures))
    if settings.json:
        write_whole(settings.json, (json.dumps(plain(figures), indent=2) + "\n").encode(), MediaError)
    if settings.out:
        for take in made:
            settings.out.mkdir(parents=True, exist_ok=True)
            Audio(take.sound[None], RATE).write(settings.out / f"{take.path.stem}.wav")
    if settings.plot:
        shown = [
            (real[k].sound, made[k].sound, made[k].seam, _caption(real[k], rows[MADE][k], found[k]))
            for k in chosen(rows[MADE], found)
        ]
        draw(shown, settings.plot)
    return figures


def _caption(take: Take, row: dict[str, float], found: list[str]) -> str:
    verdict = ", ".join(found) or "within the range of real speech"
    return f"{take.path.stem}: voice {row['similarity']:.2f}, silence {row['silence']:.0%}; {verdict}"


def _parser() -> ArgumentParser:
    parser = ArgumentParser(prog="python -m training.evaluate_speech", description=__doc__, exit_on_error=False)
    add_checkpoint(parser, "checkpoints/speech")
    parser.add_class_arguments(SpeechEvaluation, skip={"judges"})
    told = "Models to ask how good it sounds, of what follows the prompts alone."
    parser.add_argument("--judges", nargs="+", choices=OPINIONS, default=[], help=told)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""

    return run(_parser, lambda values: evaluate(values.pop("checkpoint"), SpeechEvaluation(**values)), arguments)


if __name__ == "__main__":
    sys.exit(main())
