"""What the loss does when the last block's attention is changed: taps removed, shuffled, made constant, weights fixed.

Each change leaves all blocks below, and so the query, as they are. What a change puts in place of a weight or a feature
is a mean over other windows than those that are scored. No change lets a query see a later position.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from shortcut_gen.network.model import ShortcutLM
from training.attention.taps import Entry, Parts, enter, last_block, mix, source_names, take_apart

DRAWS = 2000
"""Resamples of the pieces that an interval is taken from."""
DEPTH = "depth weights fixed"


@dataclass(frozen=True, kw_only=True)
class Means:
    """Means of the attention over windows of T tokens."""

    sources: Tensor
    """(L, D): the mean feature of each tap, as it enters the block."""
    by_position: Tensor
    """(H, L, T): share of each tap, by the query's position in its window."""
    by_kind: Tensor
    """(K, H, L): the same by the kind of the token read."""
    by_token: Tensor
    """(V, H, L): the same by the token read."""
    weights: Tensor
    """(H, L, T, T): weight of each position of each tap."""
    windows: int
    """How many windows they are of."""

    @property
    def by_head(self) -> Tensor:
        """(H, L): the mean over all positions."""
        return self.by_position.mean(dim=-1)

    @property
    def by_distance(self) -> Tensor:
        """(H, L, T, T): weights that depend on how far back a position lies, and on nothing else."""
        length = self.weights.shape[-1]
        steps = torch.arange(length, device=self.weights.device)
        back = steps.unsqueeze(1) - steps  # (T, T): row t, column k, and t - k is the way back
        seen = back >= 0
        sums = self.weights.new_zeros(*self.weights.shape[:2], length)
        sums.index_add_(2, back[seen], self.weights[..., seen])
        means = sums / torch.arange(length, 0, -1, device=sums.device)  # (H, L, T) by distance
        table = torch.where(seen, means[..., back.clamp(min=0)], 0)
        return table / table.sum(dim=(1, 3), keepdim=True)


def average(model: ShortcutLM, windows: Iterable[Tensor], kinds: Tensor, count: int) -> Means:
    """Means over windows, (T,) ids each and all of one length; kinds: (V,), which of `count` kinds an id is.

    The mean of a token counts that of its kind as one token more, so that a token never seen has its kind's; and so
    has a kind that of all tokens.
    """
    shape = (last_block(model).attention.heads, model.config.sources)  # (H, L)
    zeros = model.embedding.weight.new_zeros
    of_token, tokens = zeros(len(kinds), *shape), zeros(len(kinds))
    sums: list[Tensor] = []
    number = 0
    for window in windows:
        entry = enter(model, window.unsqueeze(0))
        parts = take_apart(last_block(model).attention, entry.query, entry.sources, entry.step)
        share = parts.share[0]  # (H, L, T)
        new = [entry.sources[0].mean(dim=0), share, share.unsqueeze(-1) * parts.within[0]]
        sums = [old + more for old, more in zip(sums, new, strict=True)] if sums else new
        of_token.index_add_(0, window, share.permute(2, 0, 1))
        tokens += torch.bincount(window, minlength=len(kinds))
        number += 1
    features, by_position, weights = (total / number for total in sums)
    of_kind = zeros(count, *shape).index_add_(0, kinds, of_token)
    with_kind = zeros(count).index_add_(0, kinds, tokens)
    by_kind = (of_kind + by_position.mean(dim=-1)) / (with_kind + 1)[:, None, None]
    by_token = (of_token + by_kind[kinds]) / (tokens + 1)[:, None, None]
    return Means(
        sources=features, by_position=by_position, by_kind=by_kind, by_token=by_token, weights=weights, windows=number
    )


@dataclass(frozen=True, kw_only=True)
class View:
    """A window whose attention is to be changed."""

    model: ShortcutLM
    entry: Entry
    parts: Parts
    tokens: Tensor
    """(T,): the ids read."""
    generator: torch.Generator


Change = Callable[[View], Tensor]
"""Gives what the block's heads read after the change, (B, H, T, E)."""


def changes(model: ShortcutLM, means: Means, kinds: Tensor) -> list[tuple[str, str, Change]]:
    """All changes, as (what is done, to what, how); kinds: (V,), the kind of each id."""
    names = source_names(model.config)
    alone = [(name, [number]) for number, name in enumerate(names)]
    every = [("all", list(range(len(names))))] if len(names) > 1 else []
    out: list[tuple[str, str, Change]] = []
    if every:
        out += [("removed", name, without(taps[0])) for name, taps in alone]
    out += [("shuffled in time", name, shuffled(taps)) for name, taps in alone + every]
    out += [("replaced by its mean", name, constant(taps, means.sources)) for name, taps in alone + every]
    if every:
        even = torch.full_like(means.by_head, 1 / len(names))
        out += [
            (DEPTH, "by token read", weighted(lambda view: means.by_token[view.tokens].movedim(0, -1))),
            (DEPTH, "by kind of token", weighted(lambda view: means.by_kind[kinds[view.tokens]].movedim(0, -1))),
            (DEPTH, "by position", weighted(lambda view: means.by_position)),
            (DEPTH, "by head", weighted(lambda view: means.by_head.unsqueeze(-1))),
            (DEPTH, "all alike", weighted(lambda view: even.unsqueeze(-1))),
        ]
    return [
        *out,
        ("all weights fixed", "by both positions", fixed(means.weights)),
        ("all weights fixed", "by distance", fixed(means.by_distance)),
        ("own position only", "all", lambda view: mix(view.parts.share, view.parts.values)),
    ]


def without(tap: int) -> Change:
    """The tap's keys masked: the others share its attention in proportion to their own."""

    def change(view: View) -> Tensor:
        totals = view.parts.totals.clone()
        totals[:, :, tap] = -torch.inf
        return mix(totals.softmax(dim=2), view.parts.read)

    return change


def shuffled(taps: Sequence[int]) -> Change:
    """Each query's weights over a tap dealt out anew, at random, among the positions up to its own.

    The tap keeps its share and the weights their values: only which moment gets which is lost. Keys moved together with
    their values would change nothing, as attention is blind to order; and one order for all queries would bring later
    positions before earlier queries, so each query has an order of its own.
    """

    def change(view: View) -> Tensor:
        parts, read = view.parts, view.parts.read.clone()
        for tap in taps:
            within = parts.within[:, :, tap]  # (B, H, T, T)
            order = past_orders(within.shape[-1], view.generator).to(within.device)
            read[:, :, tap] = within.gather(-1, order.expand_as(within)) @ parts.values[:, :, tap]
        return mix(parts.share, read)

    return change


def past_orders(length: int, generator: torch.Generator) -> Tensor:
    """(T, T): row t begins with the numbers 0 to t in random order; what follows is never seen."""
    noise = torch.rand(length, length, generator=generator)
    later = torch.ones(length, length, dtype=torch.bool).triu(1)
    return noise.masked_fill(later, 2.0).argsort(dim=-1)


def constant(taps: Sequence[int], means: Tensor) -> Change:
    """The taps' features replaced by their means, (L, D), at every position."""

    def change(view: View) -> Tensor:
        entry, parts = view.entry, view.parts
        given = means[list(taps)].expand(*entry.sources.shape[:2], -1, -1)
        part = take_apart(last_block(view.model).attention, entry.query, given, entry.step)
        totals, read = parts.totals.clone(), parts.read.clone()
        totals[:, :, list(taps)], read[:, :, list(taps)] = part.totals, part.read
        return mix(totals.softmax(dim=2), read)

    return change


def weighted(share: Callable[[View], Tensor]) -> Change:
    """The taps weighted by given shares, (H, L, T) or (H, L, 1); where in a tap a query looks stays as it was."""

    def change(view: View) -> Tensor:
        given = share(view)
        return mix(given / given.sum(dim=1, keepdim=True), view.parts.read)

    return change


def fixed(weights: Tensor) -> Change:
    """All weights given, (H, L, T, T): neither tap nor position depends on what is played or said."""

    def change(view: View) -> Tensor:
        return (weights / weights.sum(dim=(1, 3), keepdim=True) @ view.parts.values).sum(dim=2)

    return change


def interval(sums: NDArray[np.float64], tokens: NDArray[np.float64], seed: int) -> tuple[float, float]:
    """Bounds of the middle 95% of the mean over tokens when pieces, (P,) sums and (P,) tokens, are drawn anew."""
    picks = np.random.default_rng(seed).integers(len(sums), size=(DRAWS, len(sums)))
    low, high = np.percentile(sums[picks].sum(axis=1) / tokens[picks].sum(axis=1), [2.5, 97.5])
    return float(low), float(high)


def outcome(
    named: Sequence[tuple[str, str]],
    losses: NDArray[np.float64],
    changed: NDArray[np.float64],
    tokens: NDArray[np.float64],
    pieces: NDArray[np.int64],
    seed: int,
) -> list[dict[str, Any]]:
    """What each change came to, in nats per token.

    losses: (N,) summed over each window as the model is; changed: (N, changes), the same after each change; tokens and
    pieces: (N,), tokens of each window and which piece it is of.
    """
    count = int(pieces.max()) + 1
    by_piece = np.bincount(pieces, tokens, count).astype(np.float64)
    out = []
    for (what, to, *_), column in zip(named, changed.T, strict=True):
        sums = np.bincount(pieces, column - losses, count).astype(np.float64)
        low, high = interval(sums, by_piece, seed)
        nll = float(column.sum() / tokens.sum())
        difference = float(sums.sum() / tokens.sum())
        out.append({"change": what, "of": to, "nll": nll, "difference": difference, "low": low, "high": high})
    return out
