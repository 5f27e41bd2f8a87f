"""The networks run chunk by chunk, exactly: every block keeps the few frames it still needs.

A block sees a frame ahead, so what it gives lags one frame behind what it is given; at the end silence stands for what
does not come. Joined, the chunks are what the networks make of the whole, but for rounding.
"""

from collections.abc import Callable, Iterable

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from shortcut_gen.codec.harmonic import source
from shortcut_gen.codec.harmonic.config import FRAME, HOP, SAMPLE_RATE
from shortcut_gen.codec.harmonic.features import MARGIN, features
from shortcut_gen.codec.harmonic.network import AHEAD, Block, Decoder, Encoder, Filters, decided, paired

NOISE_SEED = 0
"""Of the noise: the same codes sound the same, however they arrive."""


LEAST_ROWS = 32
"""Frames that pass through a layer together at least, zeros behind those there are: products of fewer round otherwise,
and a pitch that differs in its last bits gives another phase to a high harmonic a second later."""


def even(layer: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """A layer that treats frames alike, on (B, n, C), in whole multiples of LEAST_ROWS frames."""
    more = -x.shape[1] % LEAST_ROWS
    return layer(F.pad(x, (0, 0, 0, more)))[:, : x.shape[1]] if more else layer(x)


class _Blocks:
    """A stack of blocks, each with the frames before the next it is given."""

    def __init__(self, blocks: Iterable[nn.Module], rows: int) -> None:
        self._blocks = [block for block in blocks if isinstance(block, Block)]
        self._tails = [torch.zeros(rows, block.behind, block.taps.shape[1]) for block in self._blocks]

    def __call__(self, x: Tensor, last: bool = False) -> Tensor:
        """(B, n, C) to what that makes certain, (B, m, C); all of it where nothing follows."""
        for number, block in enumerate(self._blocks):
            joined = torch.cat((self._tails[number].to(x), x), dim=1)
            if last:
                joined = F.pad(joined, (0, 0, 0, AHEAD))
            if joined.shape[1] < block.kernel:
                self._tails[number] = joined
                x = x[:, :0]
                continue
            self._tails[number] = joined[:, joined.shape[1] - block.kernel + 1 :]
            count = joined.shape[1] - block.kernel + 1
            x = block.valid(F.pad(joined, (0, 0, 0, -count % LEAST_ROWS)))[:, :count]
        return x


class EncoderStream:
    """Sound that arrives incrementally, (B, s), to vectors."""

    def __init__(self, encoder: Encoder, rows: int) -> None:
        self._encoder = encoder
        self._blocks = _Blocks(encoder.blocks, rows)
        self._sound = torch.zeros(rows, MARGIN)

    def push(self, sound: Tensor, last: bool = False) -> Tensor:
        """(B, s) to (B, f, D), the frames it makes certain; `last`: nothing follows, and s fills a whole frame."""
        joined = torch.cat((self._sound.to(sound), sound), dim=1)
        if last:
            joined = F.pad(joined, (0, MARGIN))
        count = (joined.shape[1] - 2 * MARGIN) // FRAME * 2  # half frames whose whole window is there, two by two
        if count <= 0:
            self._sound = joined
            inputs = joined.new_zeros(len(joined), 0, self._encoder.into.in_features)
        else:
            inputs = paired(features(joined[:, : count * HOP + 2 * MARGIN]))
            self._sound = joined[:, count * HOP :]
        x = self._blocks(even(self._encoder.into, inputs), last)
        return even(self._encoder.out, self._encoder.norm(x))


class _Noise:
    """White noise, the same however it is drawn."""

    def __init__(self, *key: int) -> None:
        self._generator = np.random.default_rng([NOISE_SEED, *key])

    def __call__(self, *shape: int) -> Tensor:
        return torch.from_numpy(self._generator.standard_normal(shape, np.float32))


class DecoderStream:
    """Vectors of one sound that arrive incrementally, to samples."""

    def __init__(self, decoder: Decoder, noise_channels: int, liveliness: float) -> None:
        """liveliness: size of the random numbers beside the codes; 0 is nearest to what was said."""
        self._decoder = decoder
        self._blocks, self._fine = _Blocks(decoder.blocks, 1), _Blocks(decoder.fine_blocks, 1)
        self._channels, self._liveliness = noise_channels, liveliness
        self._lively, self._noise = _Noise(0), _Noise(1)
        self._pitch = self._voiced = torch.zeros(1, 0)  # of nodes whose filters are still to come, and one more
        self._phase = torch.zeros(1, dtype=torch.float64)
        self._pulses = torch.zeros(1, HOP)  # before the first node all is silent
        self._breath = torch.zeros(1, HOP)
        self._filters: list[Filters] = []
        self._half: Tensor | None = None

    def push(self, vectors: Tensor, last: bool = False) -> NDArray[np.float32]:
        """(1, f, D) to the samples that are certain, (S,)."""
        beside = self._lively(vectors.shape[1], self._channels)[None] * self._liveliness
        decoder = self._decoder
        x = self._blocks(even(decoder.into, torch.cat((vectors, beside.to(vectors)), dim=-1)), last)
        body = decoder.norm(x)
        pitch, voiced = decided(decoder.voice_logits(even(decoder.pitch, body)))
        filters = decoder.filters(self._fine(decoder.fine(even(decoder.split, body), pitch, voiced), last))
        self._excite(pitch, voiced, last)
        return self._shape(filters, last)

    def _excite(self, pitch: Tensor, voiced: Tensor, last: bool) -> None:
        """Adds source and noise up to the last node whose successor is known."""
        self._pitch = torch.cat((self._pitch, pitch), dim=1)
        self._voiced = torch.cat((self._voiced, voiced), dim=1)
        if last and self._pitch.shape[1]:  # the last value serves the node behind it
            self._pitch = torch.cat((self._pitch, self._pitch[:, -1:]), dim=1)
            self._voiced = torch.cat((self._voiced, self._voiced[:, -1:]), dim=1)
        if self._pitch.shape[1] < 2:
            return
        phase = source.phases(self._pitch, self._voiced, SAMPLE_RATE, self._phase)
        pulses = source.pulses(phase, self._pitch, self._voiced)
        self._phase = phase[:, -1] % 1.0
        self._pitch, self._voiced = self._pitch[:, -1:], self._voiced[:, -1:]
        self._pulses = torch.cat((self._pulses, pulses), dim=1)
        self._breath = torch.cat((self._breath, self._noise(pulses.shape[1])[None]), dim=1)

    def _shape(self, filters: Filters, last: bool) -> NDArray[np.float32]:
        """The samples between nodes whose filters, and sound to either side, are there."""
        if filters.breath.shape[1]:
            self._filters.append(filters)
        if not self._filters:
            return np.zeros(0, np.float32)
        harmonic = torch.cat([part.harmonic for part in self._filters], dim=1)
        breath = torch.cat([part.breath for part in self._filters], dim=1)
        if last:  # the last filter serves the node at the end, and silence follows
            harmonic = torch.cat((harmonic, harmonic[:, -1:]), dim=1)
            breath = torch.cat((breath, breath[:, -1:]), dim=1)
            self._pulses, self._breath = F.pad(self._pulses, (0, HOP)), F.pad(self._breath, (0, HOP))
        count = min(harmonic.shape[1], self._pulses.shape[1] // HOP - 1)
        if count < 1:
            return np.zeros(0, np.float32)
        self._filters = [Filters(harmonic=harmonic[:, count:], breath=breath[:, count:])]
        pulses, noise = (part[:, : (count + 1) * HOP] for part in (self._pulses, self._breath))
        halves = source.shaped(pulses, noise, harmonic[:, :count], breath[:, :count])
        self._pulses, self._breath = self._pulses[:, count * HOP :], self._breath[:, count * HOP :]
        if self._half is not None:
            halves = torch.cat((self._half, halves), dim=1)
        self._half = halves[:, -1:]
        samples: NDArray[np.float32] = source.overlapped(halves)[0].clamp(-1.0, 1.0).numpy()
        return samples
