"""The last block's attention taken apart, tap by tap, with the model's own projections.

A softmax over (tap, position) is two in one: each tap's own softmax over its positions, and over the taps a softmax of
the log-sum-exps of their scores. So what the block reads is a mean of what each tap gives, by weights that say how much
each tap counts: its share of the attention. Those are taken from a hook on the block; the library's own path is as it
was. Letters for shapes are those of `shortcut_gen`.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from shortcut_gen.network.cache import KVCache
from shortcut_gen.network.config import ModelConfig
from shortcut_gen.network.look import Look
from shortcut_gen.network.model import Attention, Block, ShortcutLM, Step


@dataclass(frozen=True, kw_only=True)
class Entry:
    """What enters the last block in one pass over windows, and the logits that left the model."""

    x: Tensor
    """(B, T, D)."""
    query: Tensor
    """(B, T, D), x as the attention gets it: normalised."""
    sources: Tensor
    """(B, T, L, D), the features of the taps, normalised."""
    step: Step
    logits: Tensor
    """(B, T, V)."""


@dataclass(frozen=True)
class Parts:
    """The attention of the last block, tap by tap. Weight of position k of tap l: share[l] · within[l, k]."""

    within: Tensor
    """(B, H, L, T, T): each tap's own softmax over the positions up to the query's."""
    totals: Tensor
    """(B, H, L, T): log-sum-exp of each tap's scores."""
    values: Tensor
    """(B, H, L, T, E)."""

    @cached_property
    def share(self) -> Tensor:
        """(B, H, L, T): how much of each query's attention each tap has; over the taps it sums to 1."""
        return self.totals.softmax(dim=2)

    @cached_property
    def read(self) -> Tensor:
        """(B, H, L, T, E): what each tap gives each query."""
        return self.within @ self.values


def source_names(config: ModelConfig) -> list[str]:
    """What the last block attends to, in the order of L: "block 2", and its own input where `attend_current`."""
    return [f"block {tap}" for tap in config.taps] + ["own input"] * int(config.attend_current)


def last_block(model: ShortcutLM) -> Block:
    """The block that attends to taps; the model must have one."""
    assert model.shortcut is not None
    return model.shortcut.block


def enter(model: ShortcutLM, tokens: Tensor) -> Entry:
    """Run the model over tokens, (B, T), and keep what enters its last block."""
    block = last_block(model)
    seen: dict[str, Any] = {}

    def keep_block(_: nn.Module, given: tuple[Any, ...]) -> None:
        seen["x"], seen["step"] = given[:2]

    def keep_attention(_: nn.Module, given: tuple[Any, ...]) -> None:
        seen["query"], seen["sources"] = given[:2]

    handles = [
        block.register_forward_pre_hook(keep_block),
        block.attention.register_forward_pre_hook(keep_attention),
    ]
    try:
        logits = model(tokens)
    finally:
        for handle in handles:
            handle.remove()
    return Entry(**seen, logits=logits)


def take_apart(attention: Attention, query: Tensor, sources: Tensor, step: Step) -> Parts:
    """The attention of query, (B, T, D), to sources, (B, T, L, D): any choice of those that entered the block."""
    queries, keys, values = attention.project(query, sources, step)  # (B, H, T, E), (B, H, T, L, E) twice
    keys, values = keys.transpose(2, 3), values.transpose(2, 3)  # (B, H, L, T, E)
    length = query.shape[1]
    later = torch.ones(length, length, dtype=torch.bool, device=query.device).triu(1)
    scores = queries.unsqueeze(2) @ keys.transpose(-1, -2) * queries.shape[-1] ** -0.5  # (B, H, L, T, T)
    scores = scores.masked_fill(later, -torch.inf)
    totals = scores.logsumexp(dim=-1)
    return Parts((scores - totals.unsqueeze(-1)).exp(), totals, values)


def mix(share: Tensor, read: Tensor) -> Tensor:
    """What the block reads: share, (B, H, L, T), of what each tap gives, (B, H, L, T, E). Returns (B, H, T, E)."""
    return (share.unsqueeze(-1) * read).sum(dim=2)


class _Given(Attention):
    """Stands in the attention's place and gives what it was given."""

    def __init__(self, out: Tensor) -> None:
        nn.Module.__init__(self)
        self.given = out

    def forward(
        self, x: Tensor, sources: Tensor, step: Step, cache: KVCache | None, look: Look | None = None
    ) -> Tensor:
        return self.given


def leave(model: ShortcutLM, entry: Entry, attended: Tensor) -> Tensor:
    """Logits, (B, T, V), had the last block's heads read `attended`, (B, H, T, E)."""
    block = last_block(model)
    own = block.attention
    block.attention = _Given(own.out(attended.transpose(1, 2).flatten(2)))  # (B, T, D)
    try:
        x = block(entry.x, entry.step, None, sources=entry.sources)
    finally:
        block.attention = own
    # From here on as in ShortcutLM.forward.
    if (last := str(model.config.layers)) in model.residual_mlps:
        x = model.residual_mlps[last](x)
    return F.linear(model.norm(x), model.embedding.weight)
