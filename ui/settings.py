"""What a run is asked for, by the page or by a program: the values as they were sent, and their check, one for both."""

import math
import secrets
from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields

from shortcut_gen.decoding.sampling import SamplingParams
from shortcut_gen.errors import PromptError
from ui.text import form, refusals
from ui.values import chosen, number, shown, switch, whole

MAX_VARIATIONS = 4
MAX_SEED = 2**31 - 1
LEAST_SECONDS = 2.0
"""A run goes on for so long at least."""
LEAST_USED = 1.0
"""Where the slider of the part that is used begins; a prompt that is no longer is used whole."""
LEAST_TOP_P = 0.05
MAX_TEMPERATURE = 2.0
MAX_TOP_K = 256
MAX_MIN_P = 0.5
MAX_GUIDANCE = 2.0
"""As far as it was tried (docs/experiments.md)."""
ENDING_SECONDS = 12.0
"""How far past its length a run that is to end looks for the best place."""
DARING: dict[str, tuple[float, float | None]] = {"safer": (0.9, 0.95), "usual": (1.0, None), "bolder": (1.1, 1.0)}
"""What a player chooses by one word: temperature and top-p, None for the modality's own."""
ON_PAGE = form.NAMES
"""What the page calls values; programs, and those not here, by their own names."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """The settings of a run as they were sent."""

    seconds: object
    variations: object = 1
    temperature: object = 1.0
    top_p: object
    top_k: object = 0
    min_p: object = 0.0
    guidance: object = None
    """How much further than by itself the model is to hold to the prompt; the modality's own where it is None."""
    fresh: object = False
    """Whether a seed is to be drawn."""
    seed: object = None
    checkpoint: object = None
    gains: object = ""
    """How the taps are turned, as `ui.shortcuts.gains_of` reads it, once the model is known."""
    ending: object = False
    """Whether to look for an end past the length."""

    @classmethod
    def in_order(cls, *values: object) -> "Asked":
        """Of the values of FIELDS, in that order. Raises ValueError where they are more or fewer."""
        return cls(**dict(zip(FIELDS, values, strict=True)))


FIELDS = tuple(each.name for each in fields(Asked))
"""The settings in the order in which the page has them: its events, its links and what it remembers."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The same, in order."""

    params: SamplingParams
    count: int
    """Variations."""
    checkpoint: str | None
    """None for the usual one."""


def planned(
    asked: Asked, most_seconds: float, checkpoints: Collection[str], said: Mapping[str, str], guidance: float
) -> Plan:
    """Check settings. most_seconds: how long a run can be. said: what messages call a value, where not by its name.
    guidance: the modality's own.

    Raises SettingsError.
    """

    def name(value: str) -> str:
        return said.get(value, value)

    params = SamplingParams(
        temperature=number(asked.temperature, name("temperature"), 0, MAX_TEMPERATURE),
        top_p=number(asked.top_p, name("top_p"), LEAST_TOP_P, 1),
        top_k=whole(asked.top_k, name("top_k"), 0, MAX_TOP_K),
        min_p=number(asked.min_p, name("min_p"), 0, MAX_MIN_P),
        seed=secrets.randbelow(MAX_SEED)
        if switch(asked.fresh, name("fresh"))
        else whole(asked.seed, name("seed"), 0, MAX_SEED),
        seconds=number(asked.seconds, name("seconds"), LEAST_SECONDS, most_seconds),
        guidance=guidance if asked.guidance is None else number(asked.guidance, name("guidance"), 0, MAX_GUIDANCE),
        ending=ENDING_SECONDS if switch(asked.ending, name("ending")) else None,
    )
    count = whole(asked.variations, name("variations"), 1, MAX_VARIATIONS)
    return Plan(params=params, count=count, checkpoint=chosen(asked.checkpoint, name("checkpoint"), checkpoints))


def pair_of(word: object, usual_top_p: float) -> tuple[float, float]:
    """Temperature and top-p of a word of DARING. Raises SettingsError."""
    temperature, top_p = DARING[chosen(word, refusals.CHOICE, DARING) or "usual"]
    return temperature, usual_top_p if top_p is None else top_p


def word_of(temperature: object, top_p: object, usual_top_p: float) -> str | None:
    """The word of DARING that stands for temperature and top-p, if one does."""
    return next((word for word in DARING if pair_of(word, usual_top_p) == (temperature, top_p)), None)


def latest(duration: float) -> float:
    """Where the part of a prompt to use can begin at the latest, in seconds. duration: the prompt's."""
    return max(math.floor(10 * (duration - LEAST_USED)) / 10, 0.0)


def part(
    duration: float, start: object, used: object, most_used: float, said: Mapping[str, str]
) -> tuple[float, float]:
    """Where in a prompt to begin and how much of it to use, in seconds: one that is very short is used whole.

    Raises SettingsError, PromptError.
    """
    name = said.get("used", "used")
    length = number(used, name, 0, most_used)
    begins = number(start, said.get("start", "start"), 0, max(latest(duration), 0.1))
    if duration <= LEAST_USED:
        return 0.0, max(duration, 0.01)
    if length < LEAST_USED:
        raise PromptError(refusals.too_little(name, shown(used), LEAST_USED))
    return begins, length
