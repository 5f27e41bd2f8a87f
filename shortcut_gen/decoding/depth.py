"""What of the layers below the last block's attention drew on, id by id, kept while ids are drawn.

Attention, not cause: a share says where the block looked, and not what the id would have been without.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from shortcut_gen.network.config import ModelConfig


@dataclass(frozen=True, kw_only=True, eq=False)
class Depth:
    """The depth map of some ids: for each the taps' shares of the last block's attention when it was drawn, and how
    surprising it was. Attention, not cause."""

    taps: tuple[int, ...]
    """L numbers of tapped blocks, from 1 on; the number of blocks itself stands for the last block's own input, where
    the model attends to that too. Empty for the baseline, which has surprise alone."""
    shares: NDArray[np.float32]
    """(T_new, L): share of the attention that each tap has, over all positions, mean over heads; a row sums to 1. NaN
    where an id was not drawn by the model, as the first ones without a prompt."""
    surprise: NDArray[np.float32]
    """(T_new,): -ln p of the id, in nats, by the model's own softmax over all ids: at temperature 1, and before grammar
    and filters. NaN as above."""
    by_head: NDArray[np.float32] | None = field(default=None, repr=False)
    """(T_new, H, L): the shares, head by head of the last block."""

    @property
    def entropy(self) -> NDArray[np.float32]:
        """(T_new,): entropy of the shares in nats: 0 where one tap has all, ln L where all have the same."""
        entropy: NDArray[np.float32] = -(self.shares * np.log(np.maximum(self.shares, 1e-30))).sum(axis=1)
        return entropy


class DepthLog:
    """The depth of one stream's ids, written as they are drawn. One thread writes, one may read what is there."""

    def __init__(self, config: ModelConfig) -> None:
        """For a model of that shape."""
        self.taps = (*config.taps, config.layers) if config.attend_current else config.taps
        self._length = 0
        self._shares = np.empty((256, config.shortcut_heads if self.taps else 1, len(self.taps)), np.float32)
        self._surprise = np.empty(256, np.float32)
        self._means = np.empty((0, len(self.taps)), np.float32)  # over heads, of those that were asked for

    def __len__(self) -> int:
        return self._length

    def append(self, shares: NDArray[np.float32] | float, surprise: float) -> None:
        """One id more: shares, (H, L), or one number for all of them."""
        at = self._length
        if at == len(self._surprise):  # what was given away keeps the old ones
            self._shares = np.concatenate([self._shares, np.empty_like(self._shares)])
            self._surprise = np.concatenate([self._surprise, np.empty_like(self._surprise)])
        self._shares[at], self._surprise[at] = shares, surprise
        self._length = at + 1

    def depth(self, count: int, drawn: int | None = None) -> Depth:
        """Of the first `count` ids, of which all or the first `drawn` were logged; arrays that are not to be written
        to."""
        if drawn is not None and drawn < count:
            logged = self.depth(drawn)
            assert logged.by_head is not None

            def longer(array: NDArray[np.float32]) -> NDArray[np.float32]:
                return np.pad(array, [(0, count - drawn), *[(0, 0)] * (array.ndim - 1)], constant_values=np.nan)

            by_head, surprise = longer(logged.by_head), longer(logged.surprise)
            return Depth(taps=self.taps, shares=longer(logged.shares), surprise=surprise, by_head=by_head)
        by_head, surprise = self._shares[:count], self._surprise[:count]
        known = len(self._means)
        if known < count:
            self._means = np.concatenate([self._means, by_head[known:].mean(axis=1)])
        made = (self._means[:count], surprise, by_head)
        for array in made:
            array.flags.writeable = False
        return Depth(taps=self.taps, shares=made[0], surprise=surprise, by_head=by_head)


class Seen(NamedTuple):
    """What was seen of some rows when their last tokens were read; more rows may stand behind them."""

    shares: NDArray[np.float32]
    """(rows, H, L): the taps' shares of the last block's attention; L is 0 without taps."""
    surprise: NDArray[np.float32] | None
    """(rows,): nats of the ids that were drawn with it; None where none were."""


def surprises(totals: Tensor, logits: Tensor, ids: Sequence[int]) -> NDArray[np.float32]:
    """(B,) nats: how unlikely ids are by logits, (B, V), whose log-sum-exps are totals, (B,); all on the CPU."""
    drawn = logits.numpy()[np.arange(len(ids)), np.maximum(ids, 0)]  # an unusable draw has no place
    found: NDArray[np.float32] = totals.numpy() - drawn
    return found
