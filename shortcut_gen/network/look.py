"""A look at the last block's attention in one pass: where it went, which is attention and not cause."""

import torch
from torch import Tensor


class Look:
    """Asked for with a pass, it holds afterwards what the last query of each row attended to in the shortcut block.

    The block computes as it does without: its weights are computed a second time here, for that one query.
    """

    def __init__(self) -> None:
        self.weights: Tensor | None = None
        """(B, H, K, L): the weight of each position of each tap, over both a sum of 1; None without taps."""

    @property
    def shares(self) -> Tensor | None:
        """(B, H, L): the share of the attention that each tap has, over all positions."""
        return None if self.weights is None else self.weights.sum(dim=2)

    def see(self, query: Tensor, keys: Tensor, positions: Tensor) -> None:
        """Weights of queries, (B, H, T, E), of which the last counts, over keys, (B, H, K, L, E).

        positions: (B or 1, T), the queries' own: each sees the keys up to there.
        """
        length, sources = keys.shape[2:4]
        scores = query[:, :, -1:] @ keys.flatten(2, 3).transpose(2, 3) * query.shape[-1] ** -0.5  # (B, H, 1, K*L)
        scores = scores.float().unflatten(3, (length, sources)).squeeze(2)  # (B, H, K, L)
        later = torch.arange(length, device=keys.device) > positions[:, -1:]  # (B or 1, K)
        scores = scores.masked_fill(later[:, None, :, None], -torch.inf)
        self.weights = scores.flatten(2).softmax(dim=-1).unflatten(2, (length, sources))
