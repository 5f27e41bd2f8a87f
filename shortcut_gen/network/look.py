"""A look at the last block's attention in one pass: where it went, which is attention and not cause, and how much each
tap's keys count for.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor


class Look:
    """Asked for with a pass, it holds afterwards what the last query of each row attended to in the shortcut block.

    Without a bias the block computes as it does without a look: its weights are computed a second time here, for that
    one query.
    """

    def __init__(self, bias: Tensor | None = None, *, watched: bool = True) -> None:
        """bias: (B, L), added to the scores of each tap's keys (`biases`); None where all taps count as trained.
        watched: whether the weights are wanted."""
        self.bias = bias
        self.watched = watched
        self.weights: Tensor | None = None
        """(B, H, K, L): the weight of each position of each tap, over both a sum of 1; None without taps."""

    @property
    def shares(self) -> Tensor | None:
        """(B, H, L): the share of the attention that each tap has, over all positions."""
        return None if self.weights is None else self.weights.sum(dim=2)

    def see(self, query: Tensor, keys: Tensor, positions: Tensor | None) -> None:
        """Weights of queries, (B, H, T, E), of which the last counts, over keys, (B, H, K, L, E).

        positions: (B or 1, T), the queries' own: each sees the keys up to there; None where the last sees all of them.
        """
        if not self.watched:
            return
        length, sources = keys.shape[2:4]
        query = query[:, :, -1:] * query.shape[-1] ** -0.5
        scores = query @ keys.flatten(2, 3).transpose(2, 3)  # (B, H, 1, K*L)
        scores = scores.float().unflatten(3, (length, sources)).squeeze(2)  # (B, H, K, L)
        if self.bias is not None:
            scores = scores + self.bias[:, None, None]
        if positions is not None:
            later = torch.arange(length, device=keys.device) > positions[:, -1:]  # (B or 1, K)
            scores = scores.masked_fill(later[:, None, :, None], -torch.inf)
        self.weights = scores.flatten(2).softmax(dim=-1).unflatten(2, (length, sources))


def biases(gains: Sequence[float]) -> list[float]:
    """What, added to the scores of each tap's keys, makes them count so many times as much: the gains' logarithms."""
    return [math.log(gain) if gain else -math.inf for gain in gains]
