"""Training of the residual vector quantiser: running means, first entries from data, revival of unused entries."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from shortcut_gen.codec.harmonic.quantizer import ResidualQuantizer

_DECAY = 0.99  # of an entry's running mean a step
_LEAST = 0.15  # share of the mean use below which an entry is moved


@dataclass(frozen=True, kw_only=True)
class Quantized:
    """What quantising (B, F, D) vectors gave."""

    vectors: Tensor
    """(B, F, D): sums of the entries, gradients passed straight through to the encoder."""
    commitment: Tensor
    """Mean squared distance of what each level was given from what it chose, over the levels in use."""


def draw_levels(batch: int, codebooks: int, generator: torch.Generator) -> Tensor:
    """(B,) levels in use (quantiser dropout, arXiv:2107.03312, section 3.4): mostly 2, and all of them, or 1 or half."""
    choices = torch.tensor([1, min(2, codebooks), max(1, codebooks // 2), codebooks])
    return choices[
        torch.multinomial(torch.tensor([0.15, 0.4, 0.15, 0.3]), batch, replacement=True, generator=generator)
    ]


class EntryMeans(nn.Module):
    """Running counts and sums of the vectors that chose each entry."""

    counts: Tensor
    sums: Tensor

    def __init__(self, quantizer: ResidualQuantizer) -> None:
        super().__init__()
        self.register_buffer("counts", torch.ones(quantizer.entries.shape[:2]))  # (Q, N), 1 on average
        self.register_buffer("sums", quantizer.entries.clone())  # (Q, N, D)

    @torch.no_grad()
    def start(self, quantizer: ResidualQuantizer, vectors: Tensor, generator: torch.Generator, rounds: int = 8) -> None:
        """First entries of every level by Lloyd's algorithm on (M, D) vectors, level by level on what is left over."""
        left, size = vectors, quantizer.entries.shape[1]
        for level in range(len(quantizer.entries)):
            book = quantizer.entries[level]
            book.copy_(left[_draw(len(left), size, generator)])
            counts = torch.ones(size)
            for _ in range(rounds):
                chosen = quantizer.nearest(level, left)
                counts = torch.bincount(chosen, minlength=size).float()
                sums = torch.zeros_like(book).index_add_(0, chosen, left)
                fresh = left[_draw(len(left), size, generator)]
                book.copy_(torch.where(counts[:, None] > 0, sums / counts.clamp_min(1)[:, None], fresh))
            self.counts[level] = counts.clamp_min(0.3) / counts.mean()
            self.sums[level] = book * self.counts[level][:, None]
            left = left - book[quantizer.nearest(level, left)]

    @torch.no_grad()
    def learn(
        self, quantizer: ResidualQuantizer, level: int, vectors: Tensor, chosen: Tensor, revive: torch.Generator | None
    ) -> None:
        """Move a level's entries to the means of the vectors, (M, D), that chose them; with `revive`, unused ones to
        vectors drawn at random.
        """
        size = quantizer.entries.shape[1]
        mean = len(vectors) / size
        fresh_counts = torch.bincount(chosen, minlength=size).float() / mean
        fresh_sums = torch.zeros_like(self.sums[level]).index_add_(0, chosen, vectors) / mean
        self.counts[level].lerp_(fresh_counts, 1 - _DECAY)
        self.sums[level].lerp_(fresh_sums, 1 - _DECAY)
        if revive is not None:
            unused = (self.counts[level] < _LEAST).nonzero().flatten()
            if len(unused):
                self.sums[level][unused] = vectors[_draw(len(vectors), len(unused), revive)]
                self.counts[level][unused] = 1.0
        quantizer.entries[level] = self.sums[level] / self.counts[level].clamp_min(1e-3)[:, None]


def quantize(
    quantizer: ResidualQuantizer,
    vectors: Tensor,
    levels: Tensor,
    means: EntryMeans | None = None,
    revive: torch.Generator | None = None,
) -> Quantized:
    """Quantise (B, F, D) vectors with the first levels[b] codebooks; with `means` the entries follow them."""
    left, total, commitment = vectors, torch.zeros_like(vectors), vectors.new_zeros(())
    for level in range(len(quantizer.entries)):
        given = left.detach()
        chosen = quantizer.nearest(level, given)  # (B, F)
        entries = quantizer.entries[level][chosen]  # a copy: the book moves below
        active = (levels > level).to(vectors)[:, None, None]
        commitment = commitment + ((left - entries).square() * active).mean()
        left = left - entries
        total = total + entries * active
        if means is not None:
            means.learn(quantizer, level, given.flatten(0, 1), chosen.flatten(), revive)
    return Quantized(vectors=vectors + (total - vectors).detach(), commitment=commitment)


def _draw(available: int, wanted: int, generator: torch.Generator) -> Tensor:
    """`wanted` row numbers, none twice where there are enough."""
    if available >= wanted:
        return torch.randperm(available, generator=generator)[:wanted]
    return torch.randint(available, (wanted,), generator=generator)
