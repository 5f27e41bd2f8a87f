"""The residual vector quantiser (arXiv:2107.03312, section 3.3): every level quantises what those before it left."""

import torch
from torch import Tensor, nn


class ResidualQuantizer(nn.Module):
    """Codebooks of vectors; training/codec/quantizer.py moves them."""

    entries: Tensor
    """(Q, N, D)."""

    def __init__(self, codebooks: int, cardinality: int, dimension: int) -> None:
        super().__init__()
        self.register_buffer("entries", torch.zeros(codebooks, cardinality, dimension))

    def nearest(self, level: int, vectors: Tensor) -> Tensor:
        """Numbers of a level's entries nearest to vectors, (..., D): (...) int64."""
        book = self.entries[level]
        return (book.square().sum(1) - 2 * (vectors @ book.mT)).argmin(-1)

    def encode(self, vectors: Tensor, levels: int) -> Tensor:
        """Codes of vectors, (B, F, D), by the first levels: (B, Q, F) int64."""
        left, codes = vectors, []
        for level in range(levels):
            chosen = self.nearest(level, left)
            left = left - self.entries[level][chosen]
            codes.append(chosen)
        return torch.stack(codes, dim=1)

    def decode(self, codes: Tensor) -> Tensor:
        """Sums of the entries of codes, (B, q, F): (B, F, D)."""
        total = self.entries[0][codes[:, 0]]
        for level in range(1, codes.shape[1]):
            total = total + self.entries[level][codes[:, level]]
        return total
