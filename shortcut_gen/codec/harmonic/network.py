"""The networks: features to vectors, vectors to pitch, voicing and filters. Channels are the last axis everywhere."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from shortcut_gen.codec.harmonic.config import PITCHES, HarmonicConfig
from shortcut_gen.codec.harmonic.features import FEATURES, pitches
from shortcut_gen.codec.harmonic.quantizer import ResidualQuantizer
from shortcut_gen.codec.harmonic.source import BINS

AHEAD = 1
"""Frames of its input that a block looks ahead."""

_NEIGHBOURS = 4  # pitch classes to either side of the likeliest that its frequency is the mean of
_LOG_RANGE = (-12.0, 6.0)  # of the filters' log magnitudes: no overflow, nothing audible lost
_TYPICAL_LOG_PITCH = 5.0  # 148 Hz


class Block(nn.Module):
    """A ConvNeXt block (arXiv:2201.03545): depthwise convolution, norm and a pointwise MLP beside the input."""

    def __init__(self, width: int, expansion: int, kernel: int) -> None:
        super().__init__()
        self.kernel = kernel
        self.taps = nn.Parameter(torch.randn(kernel, width) * kernel**-0.5)
        self.bias = nn.Parameter(torch.zeros(width))
        self.norm = nn.LayerNorm(width)
        self.up = nn.Linear(width, expansion * width)
        self.down = nn.Linear(expansion * width, width)
        self.scale = nn.Parameter(torch.full((width,), 0.3))

    @property
    def behind(self) -> int:
        """Frames of its input that the block looks back."""
        return self.kernel - 1 - AHEAD

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, C) to (B, T, C); what is before the first frame and behind the last is 0."""
        return self.valid(F.pad(x, (0, 0, self.behind, AHEAD)))

    def valid(self, x: Tensor) -> Tensor:
        """(B, T, C) to (B, T - kernel + 1, C): the frames whose whole context is given."""
        length = x.shape[1] - self.kernel + 1
        mixed = self.bias + x[:, :length] * self.taps[0]
        for number in range(1, self.kernel):
            mixed = torch.addcmul(mixed, x[:, number : number + length], self.taps[number])
        hidden = F.silu(self.up(self.norm(mixed)))
        return x[:, self.behind : self.behind + length] + self.scale * self.down(hidden)


class Encoder(nn.Module):
    """Two half frames' features to one vector."""

    def __init__(self, config: HarmonicConfig) -> None:
        super().__init__()
        width = config.encoder_width
        self.into = nn.Linear(2 * FEATURES, width)
        self.blocks = nn.ModuleList(Block(width, config.expansion, config.kernel) for _ in range(config.encoder_blocks))
        self.norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, config.dimension)

    def forward(self, features: Tensor) -> Tensor:
        """(B, 2·F, 176) to (B, F, D)."""
        x = self.into(paired(features))
        for block in self.blocks:
            x = block(x)
        return self.out(self.norm(x))


def paired(features: Tensor) -> Tensor:
    """Half frames two by two: (B, 2·F, C) to (B, F, 2·C)."""
    return features.unflatten(1, (-1, 2)).flatten(2)


@dataclass(frozen=True, kw_only=True)
class Filters:
    """What shapes the sound at T nodes."""

    harmonic: Tensor
    """Complex filter of the harmonic source, (B, T, 161)."""
    breath: Tensor
    """Filter of the noise, (B, T, 161)."""


class Decoder(nn.Module):
    """Vectors, and the random numbers beside them, to pitch and voicing, then to filters."""

    def __init__(self, config: HarmonicConfig) -> None:
        super().__init__()
        width = config.width
        self.into = nn.Linear(config.dimension + config.noise_channels, width)
        self.blocks = nn.ModuleList(Block(width, config.expansion, config.kernel) for _ in range(config.blocks))
        self.norm = nn.LayerNorm(width)
        self.pitch = nn.Linear(width, 2 * (PITCHES + 1))
        self.split = nn.Linear(width, 2 * width)
        self.voice = nn.Linear(2, width)
        self.fine_blocks = nn.ModuleList(
            Block(width, config.expansion, config.kernel) for _ in range(config.fine_blocks)
        )
        self.fine_norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, 3 * BINS)
        with torch.no_grad():  # start soft: speech is far below full scale
            self.head.weight.mul_(0.3)
            self.head.bias.zero_()
            self.head.bias[:BINS] = -4.0
            self.head.bias[2 * BINS :] = -5.0

    def body(self, vectors: Tensor) -> Tensor:
        """(B, F, D + noise channels) to (B, F, C)."""
        x = self.into(vectors)
        for block in self.blocks:
            x = block(x)
        return self.norm(x)

    def pitch_logits(self, body: Tensor) -> Tensor:
        """(B, F, C) to (B, 2·F, 97): of every pitch class, and of voicing."""
        return self.pitch(body).unflatten(-1, (2, PITCHES + 1)).flatten(1, 2)

    def fine(self, body: Tensor, pitch: Tensor, voiced: Tensor) -> Tensor:
        """What the fine blocks take: (B, F, C), pitch in Hz and voicing, (B, 2·F) each, to (B, 2·F, C)."""
        halves = self.split(body).unflatten(-1, (2, -1)).flatten(1, 2)
        about = torch.stack(((pitch.log() - _TYPICAL_LOG_PITCH) * voiced, voiced), dim=-1)
        return halves + self.voice(about)

    def filters(self, fine: Tensor) -> Filters:
        """(B, T, C) behind the fine blocks to the filters at T nodes."""
        values = self.head(self.fine_norm(fine)).float()
        magnitude, angle, breath = values.split(BINS, dim=-1)
        return Filters(
            harmonic=torch.polar(magnitude.clamp(*_LOG_RANGE).exp(), angle), breath=breath.clamp(*_LOG_RANGE).exp()
        )

    def forward(self, body: Tensor, pitch: Tensor, voiced: Tensor) -> Filters:
        """Filters at every half frame of a body, (B, F, C), sung at that pitch, (B, 2·F) each."""
        x = self.fine(body, pitch, voiced)
        for block in self.fine_blocks:
            x = block(x)
        return self.filters(x)


def decided(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Pitch in Hz and voicing, 0 or 1, from logits, (B, T, 97): (B, T) each."""
    classes = logits[..., :PITCHES].float()
    best = classes.argmax(-1, keepdim=True)
    far = (torch.arange(PITCHES, device=logits.device) - best).abs() > _NEIGHBOURS
    weights = classes.masked_fill(far, -torch.inf).softmax(-1)
    pitch = (weights @ pitches().log().to(weights)).exp()
    return pitch, (logits[..., PITCHES] > 0).float()


class HarmonicNetwork(nn.Module):
    """Encoder, codebooks and decoder."""

    def __init__(self, config: HarmonicConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.quantizer = ResidualQuantizer(config.codebooks, config.cardinality, config.dimension)
        self.decoder = Decoder(config)
