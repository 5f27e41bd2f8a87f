"""What `training.attention_maps` found out about checkpoints, for the report: the files that its --json wrote."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shortcut_gen.errors import DataError
from shortcut_gen.files import reason
from training.attention.changes import DEPTH
from training.experiment.kept import ATTENTION_KEY, lines_of

LEAST_SHARE = 0.1
"""Of what the taps are worth, what the choice of depth by token must be to count as needed."""
LEAST_WORTH = 0.01
"""In nats per token: what the taps must be worth to a checkpoint for it to say anything of how they are used."""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """One checkpoint's; in nats per token."""

    checkpoint: str
    corpus: str
    taps: float
    """What all taps are worth: the rise of the NLL with their features replaced by their means."""
    by_position: tuple[float, float, float]
    """The rise with the share of each tap fixed by position alone, and its 95% interval."""

    @property
    def tells(self) -> bool:
        """Whether the checkpoint has learnt to use its taps at all."""
        return self.taps >= LEAST_WORTH

    @property
    def needed(self) -> bool:
        """Whether the choice of depth by token matters: surely more than nothing, and LEAST_SHARE of the taps."""
        return self.by_position[1] > 0 and self.by_position[0] >= LEAST_SHARE * self.taps

    def __str__(self) -> str:
        rise, low, high = self.by_position
        return (
            f"{self.checkpoint} on {self.corpus}: {rise:+.4f} ({low:+.4f} to {high:+.4f}) of the {self.taps:.4f} that "
            "its taps are worth"
        )


def read_readings(files: Sequence[Path]) -> list[Reading]:
    """The readings in some files, in order. Raises DataError where one cannot be read or is another kind of file."""
    return [_reading(file) for file in files]


def to_line(reading: Reading) -> dict[str, Any]:
    """A reading as the repository keeps it."""
    figures = {"taps": reading.taps, "by_position": list(reading.by_position)}
    return {"checkpoint": reading.checkpoint, "corpus": reading.corpus, ATTENTION_KEY: figures}


def kept_readings(path: Path) -> list[Reading]:
    """The readings that the repository keeps. Raises DataError where the file is damaged."""
    return [_from_line(path, record) for record in lines_of(path, ATTENTION_KEY)]


def _from_line(path: Path, record: dict[str, Any]) -> Reading:
    try:
        figures = record[ATTENTION_KEY]
        first, low, high = (_finite(value) for value in figures["by_position"])
        return Reading(
            checkpoint=str(record["checkpoint"]),
            corpus=str(record["corpus"]),
            taps=_finite(figures["taps"]),
            by_position=(first, low, high),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path}: a line of {ATTENTION_KEY} is damaged; remove it") from error


def _reading(file: Path) -> Reading:
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{file} cannot be read: {reason(error)}") from error
    except ValueError as error:
        raise DataError(f"{file} is not JSON; a file that training.attention_maps --json wrote is needed") from error
    try:
        data = values["data"]
        found = {(change["change"], change["of"]): change for change in data["changes"]}
        numbers = [_finite(found[DEPTH, "by position"][key]) for key in ("difference", "low", "high")]
        return Reading(
            checkpoint=str(values["checkpoint"]),
            corpus=str(data["corpus"]),
            taps=_finite(found["replaced by its mean", "all"]["difference"]),
            by_position=(numbers[0], numbers[1], numbers[2]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{file} lacks the changes of a model with several taps on a corpus; a file that "
            "training.attention_maps --data --json wrote is needed"
        ) from error


def _finite(value: Any) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(value)
    return number
