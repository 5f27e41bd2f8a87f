"""The codec's shape: one frozen dataclass, and what is the same for every shape."""

import dataclasses
from dataclasses import dataclass
from typing import Any, Self

from shortcut_gen.errors import ConfigError

SAMPLE_RATE = 16_000
"""Samples a second, in Hz. Features and pitch range are made for it."""
HOP = 160
"""Samples of a half frame: features, pitch and filters come 100 times a second."""
FRAME = 2 * HOP
"""Samples of a frame of codes, 50 a second; also the length of the synthesis window."""
LOWEST_PITCH, HIGHEST_PITCH = 62.5, 420.0
"""Range of the pitch of a speaking voice, in Hz."""
PITCHES = 96
"""Pitch classes over that range, evenly spaced in log frequency: 35 an octave."""
MELS = 80
"""Bands of the mel spectrogram."""

_LARGEST = {"encoder_width": 4096, "encoder_blocks": 64, "width": 4096, "blocks": 64, "fine_blocks": 64}
_LARGEST |= {"expansion": 16, "kernel": 31, "dimension": 1024, "codebooks": 64, "cardinality": 65_536}


@dataclass(frozen=True, kw_only=True)
class HarmonicConfig:
    """Shape of a `HarmonicNetwork`."""

    encoder_width: int = 256
    """Channels of the encoder."""
    encoder_blocks: int = 3
    """ConvNeXt blocks of the encoder."""
    width: int = 256
    """Channels of the decoder."""
    blocks: int = 5
    """ConvNeXt blocks of the decoder at the rate of the codes, 50 a second."""
    fine_blocks: int = 2
    """ConvNeXt blocks of the decoder at the rate of the filters, 100 a second."""
    expansion: int = 3
    """Hidden channels of a block, in multiples of its width."""
    kernel: int = 7
    """Frames that a block's convolution sees, one of them ahead."""
    dimension: int = 48
    """Numbers of a frame that are quantised."""
    codebooks: int = 8
    """Levels of the residual quantiser."""
    cardinality: int = 1024
    """Entries of a codebook."""
    noise_channels: int = 0
    """Random numbers a frame that the decoder is given beside the codes, to learn that speech varies."""

    def __post_init__(self) -> None:
        for name, largest in _LARGEST.items():
            _check(self, name, 1, largest)
        _check(self, "noise_channels", 0, 1024)
        if self.kernel < 2:
            raise ConfigError(f"codec kernel is {self.kernel}; at least 2 frames are needed, one of them ahead")

    def to_dict(self) -> dict[str, Any]:
        """Plain values for config.json."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """The config written by `to_dict`. Raises ConfigError on an unknown key or a wrong value."""
        known = {field.name for field in dataclasses.fields(cls)}
        if unknown := sorted(set(values) - known):
            raise ConfigError(f"codec config has the unknown key {unknown[0]!r}; known are {', '.join(sorted(known))}")
        return cls(**values)


def _check(config: HarmonicConfig, name: str, least: int, largest: int) -> None:
    value = getattr(config, name)
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= largest:
        raise ConfigError(f"codec {name} is {value!r}; a whole number from {least} to {largest} is needed")
