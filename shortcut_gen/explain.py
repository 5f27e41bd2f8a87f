"""What one id was drawn from: where the last block looked before it, how likely it was, and what was likelier.

Attention, not cause: that the block looked somewhere does not say that the id would have been another without it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from shortcut_gen.decoding.sampling import SamplingParams
from shortcut_gen.errors import SettingsError
from shortcut_gen.network.look import Look, biases
from shortcut_gen.network.model import Step
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
    pipeline: Pipeline,
    ids: Sequence[int],
    place: int,
    prompt: int | None = None,
    most: int = MOST,
    gains: Sequence[float] = (),
) -> Explanation:
    """Read once what the model had read when it drew the id at `place`, and say what it saw.

    ids: those of the prompt and those made, as many as there are up to `place`. prompt: how many of them were the
    prompt, so that the window is the very one that the sampler had; if not given, the longest that fits. most: places,
    and alternatives, to say. gains: the taps', as `SamplingParams.tap_gains`. Computed by the torch model in f32, also
    where another engine drew. Raises SettingsError.
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
    _check_ids(pipeline, ids[: place + 1])
    model, config = pipeline.model, pipeline.model.config
    window = pipeline.sampler.window(ids, place, place if prompt is None else prompt)
    first = place - len(window)
    bias = _bias(pipeline, gains)
    look = Look(bias) if config.taps else None
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


@dataclass(frozen=True, kw_only=True)
class GainCost:
    """What it costs to turn taps down or up, on given ids: nats a token under the gains, and as trained."""

    tokens: int
    """Over so many ids."""
    nats: float
    nats_as_trained: float

    @property
    def difference(self) -> float:
        """Nats a token that the gains cost; below 0 where they gain."""
        return self.nats - self.nats_as_trained


def gain_cost(pipeline: Pipeline, ids: Sequence[int], gains: Sequence[float], skip: int = 0) -> GainCost:
    """NLL a token of ids under gains of the taps, and as trained: the mean over all but the first `skip` of those that
    are scored, which are all but the first of the newest `context` and one ids.

    Everything below the last block is computed once. Raises SettingsError.
    """
    context = pipeline.model.config.context
    _check_ids(pipeline, ids)
    window = pipeline.tokenizer.clip(ids, context + 1)
    if not 0 <= skip < len(window) - 1:
        raise SettingsError(f"skip is {skip}; of {len(window)} ids that are read, 0 to {len(window) - 2} are needed")
    bias = _bias(pipeline, gains)
    model = pipeline.model
    read = torch.tensor([window], device=model.embedding.weight.device)
    step = Step(torch.arange(len(window) - 1, device=read.device).unsqueeze(0), None)
    with torch.inference_mode():
        x, tapped = model.below(read[:, :-1], step)

        def nats(look: Look | None) -> float:
            step.look = look
            logits = model.above(x, tapped, step)[0].float()
            return float(F.cross_entropy(logits, read[0, 1:], reduction="none")[skip:].double().mean())

        trained = nats(None)
        changed = trained if bias is None else nats(Look(bias, watched=False))
    return GainCost(tokens=len(window) - 1 - skip, nats=changed, nats_as_trained=trained)


def _check_ids(pipeline: Pipeline, ids: Sequence[int]) -> None:
    if wrong := [token for token in ids if not 0 <= token < pipeline.tokenizer.vocab_size]:
        raise SettingsError(f"the ids hold {wrong[0]}; ids from 0 to {pipeline.tokenizer.vocab_size - 1} are needed")


def _bias(pipeline: Pipeline, gains: Sequence[float]) -> Tensor | None:
    """(1, L), what gains add to the scores; None where all are 1. Raises SettingsError."""
    checked, sources = SamplingParams(max_tokens=1, tap_gains=tuple(gains)).tap_gains, pipeline.model.config.sources
    if gains and len(gains) != sources:
        raise SettingsError(f"{len(gains)} gains are given; the model has {sources} taps and needs as many")
    return torch.tensor([biases(checked)], device=pipeline.model.embedding.weight.device) if checked else None


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
