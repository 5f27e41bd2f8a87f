"""Training of the residual vector quantiser: quantiser dropout, first entries from data, revival of unused entries."""

from dataclasses import dataclass

import torch
from encodec.quantization import ResidualVectorQuantizer
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Quantized:
    """What quantising (B, D, F) vectors gave."""

    vectors: Tensor
    """(B, D, F): sums of the entries, gradients passed straight through to the encoder."""
    codes: Tensor
    """(Q, B, F)."""
    commitment: Tensor
    """Mean squared distance of what each level was given from what it chose, over the levels in use."""
    error: Tensor
    """Share of the vectors' variance left over after the levels in use."""


def powers_of_two(most: int) -> list[int]:
    """1, 2, 4, ... up to `most`."""
    return [2**k for k in range(most.bit_length())]


def draw_levels(batch: int, codebooks: int, full: float, generator: torch.Generator) -> Tensor:
    """(B,) levels in use: all of them with probability `full`, else a power of 2 or a uniform draw, half and half.

    Quantiser dropout (arXiv:2107.03312, section 3.4), with more weight on the few-codebook rates a language model uses.
    """
    powers = powers_of_two(codebooks)
    power = torch.tensor(powers)[torch.randint(len(powers), (batch,), generator=generator)]
    uniform = torch.randint(1, codebooks + 1, (batch,), generator=generator)
    coin = torch.rand(batch, generator=generator)
    chosen = torch.where(torch.rand(batch, generator=generator) < 0.5, power, uniform)
    return torch.where(coin < full, torch.full_like(chosen, codebooks), chosen)


def quantize(quantizer: ResidualVectorQuantizer, vectors: Tensor, levels: Tensor) -> Quantized:
    """Quantise (B, D, F) vectors with the first levels[b] codebooks; in training mode the entries follow them."""
    residual, total, commitment, codes = vectors, torch.zeros_like(vectors), vectors.new_zeros(()), []
    for number, layer in enumerate(quantizer.vq.layers):
        active = (levels > number).to(vectors)[:, None, None]  # (B, 1, 1)
        given = residual.detach()
        entries, indices = layer._codebook(given.transpose(1, 2))  # (B, F, D), (B, F)
        chosen = entries.transpose(1, 2)  # (B, D, F)
        commitment = commitment + ((residual - chosen) ** 2 * active).mean()
        residual = residual - chosen
        total = total + chosen * active
        codes.append(indices)
    with torch.no_grad():
        spread = (vectors - vectors.mean(dim=(0, 2), keepdim=True)).pow(2).mean()
        error = (vectors - total).pow(2).mean() / spread.clamp_min(1e-12)
    straight = vectors + (total - vectors).detach()
    return Quantized(vectors=straight, codes=torch.stack(codes), commitment=commitment, error=error)


@torch.no_grad()
def initialise(
    quantizer: ResidualVectorQuantizer, vectors: Tensor, generator: torch.Generator, rounds: int = 10
) -> None:
    """First entries of every level by Lloyd's algorithm on (N, D) vectors, level by level on what is left over."""
    residual = vectors
    for layer in quantizer.vq.layers:
        book = layer._codebook
        size = book.codebook_size
        means = residual[_draw(len(residual), size, generator)].clone()
        counts = torch.zeros(size, device=means.device)
        for _ in range(rounds):
            nearest = torch.cdist(residual, means).argmin(1)  # (N,)
            counts = torch.bincount(nearest, minlength=size).to(means)
            sums = torch.zeros_like(means).index_add_(0, nearest, residual)
            fresh = residual[_draw(len(residual), size, generator)]
            means = torch.where(counts[:, None] > 0, sums / counts.clamp_min(1)[:, None], fresh)
        book.embed.copy_(means)
        weight = counts.clamp_min(1)
        book.cluster_size.copy_(weight / weight.mean())
        book.embed_avg.copy_(means * book.cluster_size[:, None])
        residual = residual - means[torch.cdist(residual, means).argmin(1)]


@torch.no_grad()
def revive(quantizer: ResidualVectorQuantizer, vectors: Tensor, share: float, generator: torch.Generator) -> int:
    """Move entries used less than `share` of the mean onto vectors of this batch, (B, D, F); returns how many moved.

    The package overwrites its replaced entries with their old running means in the same step, so that they never come
    back to life (core_vq.py of 0.1.1); here the running mean moves along.
    """
    moved = 0
    residual = vectors.transpose(1, 2).flatten(0, 1)  # (B*F, D)
    for layer in quantizer.vq.layers:
        book = layer._codebook
        mean = book.cluster_size.mean()
        dead = (book.cluster_size < share * mean).nonzero().flatten()
        if len(dead):
            fresh = residual[_draw(len(residual), len(dead), generator)]
            book.embed[dead] = fresh
            book.embed_avg[dead] = fresh * mean
            book.cluster_size[dead] = mean
            moved += len(dead)
        residual = residual - book.embed[book.quantize(residual)]
    return moved


def _draw(available: int, wanted: int, generator: torch.Generator) -> Tensor:
    """`wanted` row numbers, none twice where there are enough."""
    if available >= wanted:
        return torch.randperm(available, generator=generator)[:wanted]
    return torch.randint(available, (wanted,), generator=generator)
