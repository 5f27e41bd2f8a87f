"""The codec's network: the `encodec` package's classes, at a size of its config or at the official one."""

import math
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

from shortcut_gen.codec import torchaudio_loader  # noqa: F401 (encodec imports torchaudio)
from shortcut_gen.errors import ConfigError

from encodec.model import EncodecModel  # isort: skip
from encodec.modules import SEANetDecoder, SEANetEncoder  # isort: skip
from encodec.quantization import ResidualVectorQuantizer  # isort: skip


# Of what config.json asks for, before memory is taken for it.
_LARGEST = {
    "sample_rate": 768_000,
    "ratios": 64,
    "filters": 1024,
    "lstm_layers": 16,
    "dimension": 4096,
    "codebooks": 64,
    "cardinality": 2**20,
}
_MOST_RATIOS = 8


@dataclass(frozen=True, kw_only=True)
class CodecConfig:
    """Shape of a causal EnCodec (arXiv:2210.13438, section 3.1) for one channel of sound."""

    sample_rate: int = 16_000
    """Samples a second, in Hz."""
    ratios: tuple[int, ...] = (8, 5, 4, 2)
    """Upsampling of the decoder's layers, first to last; their product is the samples of a frame."""
    filters: int = 16
    """Channels next to the waveform; every ratio doubles them on the way to the code."""
    lstm_layers: int = 2
    """Recurrent layers at the frame rate."""
    dimension: int = 128
    """Width of a code vector."""
    codebooks: int = 8
    """Levels of the residual quantiser, Q."""
    cardinality: int = 1024
    """Entries of a codebook, a power of 2."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "ratios", tuple(self.ratios))
        for field in fields(self):
            value = getattr(self, field.name)
            numbers = value if field.name == "ratios" else (value,)
            least, most = 0 if field.name == "lstm_layers" else 1, _LARGEST[field.name]
            if not numbers or not all(type(n) is int and least <= n <= most for n in numbers):
                raise ConfigError(f"{field.name} is {value!r}; whole numbers from {least} to {most:,} are needed")
        if len(self.ratios) > _MOST_RATIOS:
            raise ConfigError(f"ratios are {len(self.ratios)}; at most {_MOST_RATIOS} are needed")
        if self.cardinality & (self.cardinality - 1):
            raise ConfigError(f"cardinality is {self.cardinality}; a power of 2 is needed")
        if self.sample_rate % self.frame_samples:
            raise ConfigError(
                f"sample_rate is {self.sample_rate}; a multiple of the ratios' product, {self.frame_samples}, is needed"
            )

    @property
    def frame_samples(self) -> int:
        """Samples of a frame."""
        return math.prod(self.ratios)

    @property
    def frame_rate(self) -> float:
        """Frames a second, in Hz."""
        return self.sample_rate / self.frame_samples

    @property
    def codebook_kbps(self) -> float:
        """Bits that one codebook takes, in kb/s."""
        return self.frame_rate * math.log2(self.cardinality) / 1000

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a config.json."""
        return asdict(self) | {"ratios": list(self.ratios)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """The config written by `to_dict`. Raises ConfigError on unknown keys."""
        known = {field.name for field in fields(cls)}
        if unknown := sorted(set(values) - known):
            raise ConfigError(f"unknown key {unknown[0]!r}; known are {', '.join(sorted(known))}")
        return cls(**values)


def build(config: CodecConfig) -> EncodecModel:
    """A network with random weights."""
    shape = {
        "channels": 1,
        "dimension": config.dimension,
        "n_filters": config.filters,
        "ratios": list(config.ratios),
        "lstm": config.lstm_layers,
        "norm": "none",
        "causal": True,
    }
    quantizer = ResidualVectorQuantizer(
        dimension=config.dimension,
        n_q=config.codebooks,
        bins=config.cardinality,
        decay=0.98,  # a short run on small batches: entries must keep up with the encoder
        kmeans_init=False,
        threshold_ema_dead_code=0,  # training.codec_quantizer does it: the package's replaced entries do not last
    )
    return EncodecModel(
        SEANetEncoder(**shape),
        SEANetDecoder(**shape),
        quantizer,
        target_bandwidths=[config.codebook_kbps * (level + 1) for level in range(config.codebooks)],
        sample_rate=config.sample_rate,
        channels=1,
        name="unset",
    )
