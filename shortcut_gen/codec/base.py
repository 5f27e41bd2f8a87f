"""What every codec of speech can do, whatever its architecture."""

import hashlib
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Protocol, Self, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from shortcut_gen.errors import CodecError
from shortcut_gen.media import Audio

CHUNK_SECONDS = 10.0
"""Sound that is encoded or decoded at a time, over all rows of a batch: memory does not grow with length."""


@runtime_checkable
class Codec(Protocol):
    """Sound of one channel to codes and back."""

    name: str
    """Such as "codec-16khz" or "encodec_24khz"."""
    sample_rate: int
    """Samples a second, in Hz."""
    frame_rate: float
    """Frames a second, in Hz."""
    cardinality: int
    """Entries of a codebook."""
    num_codebooks: int
    """Codebooks in use, Q."""

    def encode(self, audio: Audio) -> Tensor:
        """Codes, (Q, F) int64: channels are mixed, the rate is changed, the end is filled up to a whole frame."""
        ...

    def encode_many(self, audios: Sequence[Audio]) -> list[Tensor]:
        """encode of each, made together."""
        ...

    def decode(self, codes: Tensor) -> Audio:
        """The sound of codes, (q, F) with q from 1 to Q: one channel in [-1, 1]."""
        ...

    def decoder(self) -> "CodecStream":
        """A decoder for codes that arrive incrementally; use it in a `with` block."""
        ...

    def identity(self) -> dict[str, Any]:
        """Plain values that tell this codec from others: what must agree for codes to mean the same."""
        ...


class CodecStream(Protocol):
    """Decodes codes that arrive incrementally. What it gives, joined, is what `decode` gives for all of them.

    It holds the first few frames back until there are enough of them, as their sound depends on what follows.
    """

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def push(self, codes: Tensor) -> NDArray[np.float32]:
        """The sound that the next codes, (q, f), make certain: (S,) float32 in [-1, 1]."""
        ...

    def finish(self) -> NDArray[np.float32]:
        """What was held back, (S,). Closes it."""
        ...


def check_codebooks(name: str, held: int, wanted: int | None) -> int:
    """How many codebooks are used of those a codec has: all if none is named. Raises CodecError."""
    if wanted is None:
        return held
    if not isinstance(wanted, int) or isinstance(wanted, bool) or not 1 <= wanted <= held:
        raise CodecError(f"{name} has {held} codebooks and {wanted} are asked for; 1 to {held} can be used")
    return wanted


def check_codes(codec: Codec, codes: Tensor) -> Tensor:
    """The codes, (q, F) int64. Raises CodecError on codes that a codec has no entry for."""
    if codes.dim() != 2 or not 1 <= codes.shape[0] <= codec.num_codebooks:
        raise CodecError(f"codes have shape {tuple(codes.shape)}; 1 to {codec.num_codebooks} rows are needed")
    if codes.numel() and not 0 <= int(codes.min()) <= int(codes.max()) < codec.cardinality:
        raise CodecError(
            f"codes run from {int(codes.min())} to {int(codes.max())}; 0 to {codec.cardinality - 1} are needed"
        )
    return codes.to(torch.long)


def identity_of(codec: Codec, sha256: str) -> dict[str, Any]:
    """What `Codec.identity` gives: the attributes of the contract, and the hash of encoder and codebooks."""
    names = ("name", "sample_rate", "frame_rate", "cardinality", "num_codebooks")
    return {name: getattr(codec, name) for name in names} | {"sha256": sha256}


def meaning_hash(state: Mapping[str, Tensor]) -> str:
    """sha256 of what decides what an id means, encoder and codebooks: of all of a network's state but its decoder's."""
    digest = hashlib.sha256()
    for name, value in sorted(state.items()):
        if not name.startswith("decoder."):
            digest.update(f"{name} {tuple(value.shape)}\n".encode())
            digest.update(value.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def decode_in_chunks(codec: Codec, codes: Tensor, seconds: float) -> Audio:
    """What `Codec.decode` gives, so many seconds at a time through the codec's stream. Raises CodecError."""
    codes = check_codes(codec, codes)
    size = int(seconds * codec.frame_rate)
    with codec.decoder() as stream:
        parts = [stream.push(codes[:, at : at + size]) for at in range(0, codes.shape[1], size)]
        parts.append(stream.finish())
    return Audio(np.concatenate(parts)[None], codec.sample_rate)
