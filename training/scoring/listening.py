"""Continuations as somebody would hear them: rendered, drawn, and searched for what no real excerpt has."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from shortcut_gen.errors import MediaError
from shortcut_gen.files import reason
from shortcut_gen.media.render import render
from training.scoring import rolls, spectrograms
from training.scoring.faults import LABELS, of_notes, of_sound, outside
from training.scoring.sound import Signal, to_rate
from training.scoring.takes import Take

SHEET = 6
"""Continuations in a picture."""


def listen(made: Sequence[Take], real: Sequence[Take], folder: Path) -> dict[str, Any]:
    """Write every continuation's sound (NN.wav) and sheets of rolls and spectrograms to a folder; its faults.

    Raises MediaError where nothing renders or the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MediaError(f"{folder} cannot be made: {reason(error)}") from error
    rows: list[list[dict[str, float]]] = [[], []]
    heard: list[list[Signal]] = [[], []]
    for number, pair in enumerate(tqdm(list(zip(made, real, strict=True)), desc="rendering", disable=None)):
        for which, take in enumerate(pair):
            audio = render(take.score)
            if take is pair[0]:
                audio.write(folder / f"{number:02d}.wav")
            rows[which].append(of_notes(take.prompt, take.following) | of_sound(audio))
            heard[which].append(to_rate(audio.samples.mean(axis=0), audio.sample_rate))
    found = outside(*rows)
    both = enumerate(zip(made, found, strict=True))
    told = [f"{k:02d} {take.name[-30:]}: {', '.join(of) or 'in range'}" for k, (take, of) in both]
    for first in range(0, len(made), SHEET):
        here = range(first, min(first + SHEET, len(made)))
        shown = [(told[k], real[k].score, real[k].seam, made[k].score, made[k].seam) for k in here]
        rolls.draw(shown, folder / f"rolls-{first // SHEET}.png")
        sounds = [(heard[1][k], heard[0][k], made[k].seam, told[k]) for k in here]
        spectrograms.draw(sounds, folder / f"spectrograms-{first // SHEET}.png")
    bounds = {key: [min(row[key] for row in rows[1]), max(row[key] for row in rows[1])] for key in rows[1][0]}
    each = zip(made, rows[0], found, strict=True)
    takes = [{"name": take.name, "measures": row, "outside": of} for take, row, of in each]
    return {"bounds": bounds, "takes": takes}


def report(heard: dict[str, Any]) -> str:
    """How many continuations are outside the range of the real ones, by measure, and which."""
    takes, lines = heard["takes"], []
    whole = sum(not take["outside"] for take in takes)
    lines.append(f"{whole} of {len(takes)} continuations have nothing that no real excerpt has; the others, by measure")
    for key, (low, high) in heard["bounds"].items():
        which = [f"{k:02d} ({take['measures'][key]:.2f})" for k, take in enumerate(takes) if key in take["outside"]]
        if which:
            lines.append(f"  {LABELS.get(key, key)}, real {low:.2f} to {high:.2f}: {', '.join(which)}")
    return "\n".join(lines)
