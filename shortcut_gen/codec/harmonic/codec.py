"""The codec of a folder: sound to codes and back."""

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from shortcut_gen.codec.base import (
    CHUNK_SECONDS,
    check_codebooks,
    check_codes,
    decode_in_chunks,
    identity_of,
    meaning_hash,
)
from shortcut_gen.codec.harmonic.config import FRAME, SAMPLE_RATE
from shortcut_gen.codec.harmonic.network import HarmonicNetwork
from shortcut_gen.codec.harmonic.streams import DecoderStream, EncoderStream
from shortcut_gen.media import Audio
from shortcut_gen.media.sound import resampled


class HarmonicCodec:
    """A codec whose decoder shapes a harmonic source and noise (network.py)."""

    frame_samples = FRAME
    """Samples of a frame."""

    def __init__(
        self,
        name: str,
        network: HarmonicNetwork,
        *,
        codebooks: int | None = None,
        device: torch.device | str = "cpu",
        liveliness: float = 0.0,
    ) -> None:
        """codebooks: how many to use; all if not given. liveliness: see `DecoderStream`. Raises CodecError."""
        self.name = name
        self.network = network.to(device).eval()
        self.device = torch.device(device)
        self.sample_rate = SAMPLE_RATE
        self.frame_rate = SAMPLE_RATE / FRAME
        self.cardinality = network.config.cardinality
        self.num_codebooks = check_codebooks(name, network.config.codebooks, codebooks)
        self.liveliness = liveliness
        self._sha256 = meaning_hash(network.state_dict())

    def identity(self) -> dict[str, Any]:
        """name, sample_rate, frame_rate, cardinality, num_codebooks and the sha256 of encoder and codebooks.

        Those decide what an id means; a decoder trained further says the same ids better.
        """
        return identity_of(self, self._sha256)

    def encode(self, audio: Audio) -> Tensor:
        """Codes, (Q, F) int64, F the length over a frame's, rounded up."""
        return self.encode_many([audio])[0]

    @torch.inference_mode()
    def encode_many(self, audios: Sequence[Audio]) -> list[Tensor]:
        """encode of each, (Q, F) int64: each alone, as a batch gains nothing at this rate."""
        return [self._encoded(audio) for audio in audios]

    def _encoded(self, audio: Audio) -> Tensor:
        sound = resampled(audio.samples.mean(axis=0, dtype=np.float32), audio.sample_rate, self.sample_rate)
        frames = -(-len(sound) // FRAME)
        whole = torch.zeros(1, frames * FRAME)
        whole[0, : len(sound)] = torch.from_numpy(sound)
        if not frames:
            return torch.zeros(self.num_codebooks, 0, dtype=torch.long)
        stream = EncoderStream(self.network.encoder, 1)
        size = int(CHUNK_SECONDS * self.sample_rate)
        codes = []
        for start in range(0, whole.shape[1], size):
            part = whole[:, start : start + size].to(self.device)
            vectors = stream.push(part, last=start + size >= whole.shape[1])
            codes.append(self.network.quantizer.encode(vectors, self.num_codebooks)[0].cpu())
        return torch.cat(codes, dim=1)

    def decode(self, codes: Tensor) -> Audio:
        """The sound of codes, (q, F) with q from 1 to Q: (1, F·frame_samples) float32 in [-1, 1]."""
        return decode_in_chunks(self, codes, CHUNK_SECONDS)

    def decoder(self) -> "HarmonicStream":
        """A fresh decoder for codes that arrive incrementally."""
        return HarmonicStream(self)


class HarmonicStream:
    """Decodes codes that arrive incrementally. What it gives, joined, is what `decode` gives for all of them.

    It lags 0.14 s behind the codes it is given.
    """

    def __init__(self, codec: HarmonicCodec) -> None:
        self._codec = codec
        channels = codec.network.config.noise_channels
        self._stream: DecoderStream | None = DecoderStream(codec.network.decoder, channels, codec.liveliness)
        self._begun = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stream = None

    @torch.inference_mode()
    def push(self, codes: Tensor) -> NDArray[np.float32]:
        """The sound that the next codes, (q, f), make certain: (S,) float32 in [-1, 1]."""
        if self._stream is None:
            raise ValueError("the stream is closed")
        codes = check_codes(self._codec, codes)
        if not codes.shape[1]:
            return np.zeros(0, np.float32)
        self._begun = True
        return self._stream.push(self._codec.network.quantizer.decode(codes[None].to(self._codec.device)))

    @torch.inference_mode()
    def finish(self) -> NDArray[np.float32]:
        """What was held back, (S,). Closes it."""
        stream, self._stream = self._stream, None
        if stream is None or not self._begun:
            return np.zeros(0, np.float32)
        return stream.push(torch.zeros(1, 0, self._codec.network.config.dimension), last=True)


def open_folder(folder: Path, network: HarmonicNetwork, codebooks: int | None, device: Any) -> HarmonicCodec:
    """The codec of a folder whose network has been read."""
    return HarmonicCodec(folder.resolve().name, network, codebooks=codebooks, device=device)
