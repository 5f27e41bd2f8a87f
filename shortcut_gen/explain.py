"""What one id was drawn from: where the last block looked before it, how likely it was, and what was likelier.

Attention, not cause: that the block looked somewhere does not say that the id would have been another without it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from shortcut_gen.errors import SettingsError
from shortcut_gen.network.look import Look
from shortcut_gen.pipeline import Pipeline

MOST = 32
"""Places and alternatives that are said where their number is not named."""


class Attended(NamedTuple):
    """A place that was attended to, through one tap."""

    position: int
    """Of the id read there, among all ids."""
    tap: int
    """Number of the tapped block, from 1 on; the number of blocks stands for the last block's own input."""
    weight: float
    """Of all the attention, which sums to 1."""


class Alternative(NamedTuple):
    """An id that might have come."""

    token: int
    probability: float
    """By the model's own softmax over all ids: at temperature 1, before grammar and filters."""
    allowed: bool
    """Whether the grammar lets it come there."""


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """Of one id. Attention, not cause."""

    place: int
    """Its own among all ids."""
    token: int
    probability: float
    """As `Alternative.probability`; `Depth.surprise` is its -ln."""
    alternatives: tuple[Alternative, ...]
    """The likeliest ids, likeliest first, the id itself among them where it is one."""
    first: int
    """The first place that the model had read when it drew the id; it had read all from there up to the id."""
    taps: tuple[int, ...]
    """L tap numbers, as in `Attended`; empty for the baseline, which says nothing of where it looked."""
    shares: tuple[float, ...]
    """L: each tap's share of the attention over all positions, mean over heads, as in `Depth.shares`."""
    by_head: tuple[tuple[float, ...], ...]
    """H times L: the same of each head."""
    attended: tuple[Attended, ...]
    """The places and taps with the most attention, mean over heads, most first."""
    attended_by_head: tuple[tuple[Attended, ...], ...]
    """H: the same of each head."""


def explain(
    pipeline: Pipeline, ids: Sequence[int], place: int, prompt: int | None = None, most: int = MOST
) -> Explanation:
    """Read once what the model had read when it drew the id at `place`, and say what it saw.

    ids: those of the prompt and those made, as many as there are up to `place`. prompt: how many of them were the
    prompt, so that the window is the very one that the sampler had; if not given, the longest that fits. most: places,
    and alternatives, to say. Computed by the torch model in f32, also where another engine drew. Raises SettingsError.
    """
    if not 1 <= place < len(ids):
        raise SettingsError(
            f"place is {place}; of {len(ids)} ids, a whole number from 1 to {len(ids) - 1} is needed, as the first has "
            "nothing before it"
        )
    if most < 1 or not 0 <= (place if prompt is None else prompt) <= place:
        raise SettingsError(
            f"prompt is {prompt} and most is {most}; a prompt of 0 to {place} ids and a number of at least 1 are needed"
        )
    if wrong := [token for token in ids[: place + 1] if not 0 <= token < pipeline.tokenizer.vocab_size]:
        raise SettingsError(f"the ids hold {wrong[0]}; ids from 0 to {pipeline.tokenizer.vocab_size - 1} are needed")
    model, config = pipeline.model, pipeline.model.config
    window = pipeline.sampler.window(ids, place, place if prompt is None else prompt)
    first = place - len(window)
    look = Look() if config.taps else None
    with torch.inference_mode():
        read = torch.tensor([window], device=model.embedding.weight.device)
        probabilities = model(read, look=look)[0, -1].float().softmax(dim=-1).cpu()
    taps = (*config.taps, config.layers) if config.attend_current else config.taps
    weights = torch.zeros(0, len(window), 0) if look is None or look.weights is None else look.weights[0].cpu()
    return Explanation(
        place=place,
        token=int(ids[place]),
        probability=float(probabilities[ids[place]]),
        alternatives=_alternatives(pipeline, ids[:place], probabilities, most),
        first=first,
        taps=taps,
        shares=tuple(weights.sum(dim=1).mean(dim=0).tolist()) if taps else (),
        by_head=tuple(tuple(shares) for shares in weights.sum(dim=1).tolist()),
        attended=_most(weights.mean(dim=0), taps, first, most) if taps else (),
        attended_by_head=tuple(_most(one, taps, first, most) for one in weights),
    )


def _most(weights: Tensor, taps: Sequence[int], first: int, most: int) -> tuple[Attended, ...]:
    """The largest of weights, (K, L), whose first position is `first`."""
    flat = weights.flatten()
    found = flat.topk(min(most, len(flat)))
    return tuple(
        Attended(first + at // len(taps), taps[at % len(taps)], weight)
        for weight, at in zip(found.values.tolist(), found.indices.tolist(), strict=True)
    )


def _alternatives(
    pipeline: Pipeline, before: Sequence[int], probabilities: Tensor, most: int
) -> tuple[Alternative, ...]:
    grammar = pipeline.tokenizer.grammar()
    for token in before:
        grammar.advance(token)
    allowed = grammar.allowed()
    found = probabilities.topk(min(most, len(probabilities)))
    return tuple(
        Alternative(token, probability, allowed is None or bool(allowed[token]))
        for probability, token in zip(found.values.tolist(), found.indices.tolist(), strict=True)
    )
