"""Preallocated decode caches: what a step of one token needs from the tokens before it.

Rows of a batch may hold different numbers of tokens. One list of row lengths is the position counter of every block.
"""

from typing import Self

import torch
from torch import Tensor

from shortcut_gen.network.config import ModelConfig


class KVCache:
    """Keys and values of one self-attention block, (B, H, C, E) each, C positions preallocated."""

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        self.keys = keys
        self.values = values

    @classmethod
    def create(cls, shape: tuple[int, ...], device: torch.device, dtype: torch.dtype) -> Self:
        """Empty caches of that shape."""
        return cls(torch.zeros(shape, device=device, dtype=dtype), torch.zeros(shape, device=device, dtype=dtype))

    def write(self, keys: Tensor, values: Tensor, lengths: list[int]) -> None:
        """Put T new positions, (B, H, T, ...), behind the `lengths` positions that each row holds."""
        new = keys.shape[2]
        if len(set(lengths)) == 1:
            start = lengths[0]
            self.keys[:, :, start : start + new] = keys
            self.values[:, :, start : start + new] = values
            return
        for row, start in enumerate(lengths):
            self.keys[row, :, start : start + new] = keys[row]
            self.values[row, :, start : start + new] = values[row]

    def rows(self, index: slice) -> Self:
        """The same memory, some rows of it."""
        return type(self)(self.keys[index], self.values[index])

    def take(self, rows: Tensor) -> Self:
        """A copy that holds only `rows`, in that order; a row may be taken more than once."""
        return type(self)(self.keys.index_select(0, rows), self.values.index_select(0, rows))


class TapCache(KVCache):
    """Keys and values made from the tapped features, (B, H, C, L, E): position first, then tap.

    Flattened over (C, L) the keys are interleaved in time, so that what a query may see is one contiguous prefix.
    """


class DecodeCache:
    """The caches of all blocks and the one position counter: `lengths[b]` tokens of row b have been read."""

    def __init__(self, blocks: list[KVCache], context: int, lengths: list[int]) -> None:
        self.blocks = blocks
        self.context = context
        self.lengths = lengths

    @classmethod
    def create(
        cls,
        config: ModelConfig,
        batch: int = 1,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> Self:
        """Empty caches for `batch` rows of at most `config.context` tokens."""
        device = torch.device(device)
        heads, width = config.heads, config.width
        own = (batch, heads, config.context, width // heads)
        count = config.layers - 1 if config.taps else config.layers
        blocks = [KVCache.create(own, device, dtype) for _ in range(count)]
        if config.taps:
            heads = config.shortcut_heads
            tapped = (batch, heads, config.context, config.sources, width // heads)
            blocks.append(TapCache.create(tapped, device, dtype))
        return cls(blocks, config.context, [0] * batch)

    @property
    def batch(self) -> int:
        """Number of rows."""
        return len(self.lengths)

    @property
    def ragged(self) -> bool:
        """Whether the rows hold different numbers of tokens."""
        return len(set(self.lengths)) > 1

    def positions(self, new: int) -> Tensor:
        """Positions of the next `new` tokens, (B, new) int64; (1, new) where all rows agree."""
        starts = self.lengths if self.ragged else self.lengths[:1]
        device = self.blocks[0].keys.device
        return torch.tensor(starts, device=device).unsqueeze(1) + torch.arange(new, device=device)

    def advance(self, new: int) -> None:
        """Count `new` tokens as read in every row."""
        self.lengths = [length + new for length in self.lengths]

    def row(self, row: int, length: int = 0) -> Self:
        """A cache of one row that shares this one's memory and counts for itself, from `length`: to read a row anew, or
        on from there."""
        return type(self)([block.rows(slice(row, row + 1)) for block in self.blocks], self.context, [length])

    def take(self, rows: list[int]) -> Self:
        """A copy that holds only `rows`, in that order; a row may be taken more than once."""
        index = torch.tensor(rows, dtype=torch.long, device=self.blocks[0].keys.device)
        return type(self)([block.take(index) for block in self.blocks], self.context, [self.lengths[r] for r in rows])
