"""Speech as codes: EnCodec (arXiv:2210.13438), the official 24 kHz model or a small one of ours.

The package and torchaudio are imported when a codec is first made: what needs no speech needs neither.
"""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

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
from shortcut_gen.codec.folder import load_model, needed, network, quietly
from shortcut_gen.errors import CheckpointError, CodecError
from shortcut_gen.files import reason
from shortcut_gen.folder import check_weights
from shortcut_gen.media import Audio
from shortcut_gen.media.sound import resampled

if TYPE_CHECKING:
    from shortcut_gen.codec.chunks import Chunks

OFFICIAL = "encodec_24khz"
"""Name of the model that the package offers for speech and other sound of one channel."""
OFFICIAL_FILE = "encodec_24khz-d7cc33bc.th"
"""The file of its weights."""


class EncodecStream:
    """Decodes codes that arrive incrementally. What it gives, joined, is what `decode` gives for all of them.

    It holds the first few frames back until there are enough of them (0.14 s in all for the models here), as their
    sound depends on what follows; `finish` gives what is left where no more come.
    """

    def __init__(self, codec: "EncodecCodec") -> None:
        self._codec = codec
        self._chunks: Chunks | None = codec.decoder_chunks()
        self._waiting: list[Tensor] = []
        self._started = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._chunks, self._waiting = None, []

    @torch.inference_mode()
    def push(self, codes: Tensor) -> NDArray[np.float32]:
        """The sound of the next codes, (q, f): (S,) float32 in [-1, 1], f frames of it once it has started."""
        if self._chunks is None:
            raise ValueError("the stream is closed")
        codes = self._codec.checked(codes)
        if not self._started:
            self._waiting.append(codes)
            codes = torch.cat(self._waiting, dim=-1)
            if codes.shape[-1] < self._chunks.least:
                return np.zeros(0, np.float32)
            self._started, self._waiting = True, []
        if not codes.shape[-1]:
            return np.zeros(0, np.float32)
        return _sound(self._chunks(self._codec.vectors(codes)))

    @torch.inference_mode()
    def finish(self) -> NDArray[np.float32]:
        """The sound held back where the stream ends before it has started; else nothing. Closes it."""
        waiting, self._waiting, self._chunks = self._waiting, [], None
        codes = torch.cat(waiting, dim=-1) if waiting else torch.zeros(1, 0)
        if not codes.shape[-1]:
            return np.zeros(0, np.float32)
        return _sound(self._codec.model.decoder(self._codec.vectors(codes)))


def _sound(x: Tensor) -> NDArray[np.float32]:
    """(1, 1, S) to (S,)."""
    samples: NDArray[np.float32] = x[0, 0].clamp(-1.0, 1.0).cpu().numpy()
    return samples


class EncodecCodec:
    """An EnCodec of one channel: the official 24 kHz model, or a folder of that architecture."""

    def __init__(
        self,
        name: str | Path = OFFICIAL,
        *,
        codebooks: int | None = None,
        weights: str | Path | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        """codebooks: how many of its codebooks to use, which sets the bandwidth; all of them if not given.
        weights: file of the official weights, where they cannot be downloaded.

        Raises CodecError, CheckpointError.
        """
        with quietly():
            if str(name) == OFFICIAL:
                self.name = OFFICIAL
                model = _official(weights)
            elif weights is not None:
                raise CodecError(f"weights is given for {name}; only {OFFICIAL} takes it")
            else:
                self.name = Path(name).resolve().name
                model = _ours(Path(name))
        self._sha256 = meaning_hash(needed(model.state_dict()))
        self.model = _fused(model).to(device).eval()
        self.device = torch.device(device)
        self.sample_rate: int = model.sample_rate
        self.cardinality: int = model.quantizer.bins
        self.frame_samples = int(model.encoder.hop_length)
        """Samples of a frame."""
        self.frame_rate = self.sample_rate / self.frame_samples
        self.num_codebooks = check_codebooks(self.name, len(model.quantizer.vq.layers), codebooks)

    def identity(self) -> dict[str, Any]:
        """name, sample_rate, frame_rate, cardinality, num_codebooks and the sha256 of encoder and codebooks.

        Those decide what an id means; a decoder trained further says the same ids better.
        """
        return identity_of(self, self._sha256)

    def encode(self, audio: Audio) -> Tensor:
        """Codes, (Q, F) int64, F the length over a frame's, rounded up. 0.02 s or an hour: the memory is the same."""
        return self.encode_many([audio])[0]

    @torch.inference_mode()
    def encode_many(self, audios: Sequence[Audio]) -> list[Tensor]:
        """encode of each, (Q, F) int64, made together; equal but where two entries are equally near."""
        sounds = [self._prepared(audio) for audio in audios]
        frames = [-(-len(sound) // self.frame_samples) for sound in sounds]
        chunks = self._encoder_chunks()
        out: dict[int, Tensor] = {}
        for index, sound in enumerate(sounds):
            if frames[index] < chunks.least:  # too short to be mirrored: the package's own way
                out[index] = self._short(sound, frames[index])
        order = sorted((i for i in range(len(sounds)) if i not in out), key=lambda index: -frames[index])
        if order:
            codes = self._together([sounds[i] for i in order], [frames[i] for i in order], chunks)
            out |= dict(zip(order, codes, strict=True))
        return [out[index] for index in range(len(sounds))]

    def _together(self, sounds: list[Tensor], frames: list[int], chunks: "Chunks") -> list[Tensor]:
        """Codes of sounds, longest first, all of at least chunks.least frames."""
        size = max(int(CHUNK_SECONDS * self.frame_rate / len(sounds)), 2 * chunks.least)
        parts: list[list[Tensor]] = [[] for _ in sounds]
        for start in range(0, frames[0], size):
            rows = sum(length > start for length in frames)
            chunks.keep(rows)
            end = min(start + size, frames[0])
            batch = torch.zeros(rows, 1, (end - start) * self.frame_samples)
            for row, sound in enumerate(sounds[:rows]):
                part = sound[start * self.frame_samples : end * self.frame_samples]
                batch[row, 0, : len(part)] = part
            codes = self._quantise(chunks(batch.to(self.device)))  # (Q, B, F)
            for row in range(rows):
                parts[row].append(codes[:, row, : frames[row] - start])
        return [torch.cat(part, dim=-1) for part in parts]

    def _short(self, sound: Tensor, frames: int) -> Tensor:
        if not frames:
            return torch.zeros(self.num_codebooks, 0, dtype=torch.long)
        padded = torch.zeros(1, 1, frames * self.frame_samples)
        padded[0, 0, : len(sound)] = sound
        return self._quantise(self.model.encoder(padded.to(self.device)))[:, 0]

    def _quantise(self, vectors: Tensor) -> Tensor:
        """(B, D, F) to codes, (Q, B, F)."""
        codes: Tensor = self.model.quantizer.vq.encode(vectors, n_q=self.num_codebooks).cpu()
        return codes

    def _prepared(self, audio: Audio) -> Tensor:
        """One channel at the codec's rate, (S,)."""
        sound = audio.samples.mean(axis=0, dtype=np.float32)
        return torch.from_numpy(resampled(sound, audio.sample_rate, self.sample_rate))

    def decode(self, codes: Tensor) -> Audio:
        """The sound of codes, (q, F) with q from 1 to Q: (1, F·frame_samples) float32 in [-1, 1]."""
        return decode_in_chunks(self, codes, CHUNK_SECONDS)

    def decoder(self) -> EncodecStream:
        """A fresh decoder for codes that arrive incrementally."""
        return EncodecStream(self)

    def checked(self, codes: Tensor) -> Tensor:
        """The codes, (q, F), on the codec's device. Raises CodecError on codes it has no entry for."""
        return check_codes(self, codes).to(self.device)

    def vectors(self, codes: Tensor) -> Tensor:
        """What the decoder takes: (q, F) to (1, D, F)."""
        found: Tensor = self.model.quantizer.vq.decode(codes[:, None])
        return found

    def decoder_chunks(self) -> "Chunks":
        """A fresh pass of the decoder."""
        return self._seanet.Chunks(self.model.decoder, 1)

    def _encoder_chunks(self) -> "Chunks":
        return self._seanet.Chunks(self.model.encoder, self.frame_samples)

    @cached_property
    def _seanet(self) -> Any:
        from shortcut_gen.codec import chunks as seanet

        return seanet


def _ours(folder: Path) -> Any:
    """The model of a codec folder."""
    if not folder.is_dir():
        raise CodecError(f"{folder} is no codec: {OFFICIAL} or a folder such as checkpoints/codec-harmonic is needed")
    return load_model(folder)


def _official(weights: str | Path | None) -> Any:
    """The package's 24 kHz model with its weights, from a file or by its own download."""
    network()
    from encodec.model import ROOT_URL, EncodecModel

    model = EncodecModel.encodec_model_24khz(pretrained=False)
    hub = Path(torch.hub.get_dir()) / "checkpoints"
    try:
        if weights is None:
            state = torch.hub.load_state_dict_from_url(
                ROOT_URL + OFFICIAL_FILE, map_location="cpu", check_hash=True, progress=False, weights_only=True
            )
        else:
            state = torch.load(weights, map_location="cpu", weights_only=True)
    except Exception as error:  # a network's, a disk's or an unpickler's: there are a dozen kinds
        why = reason(error) if isinstance(error, OSError) else (str(error).splitlines() or [type(error).__name__])[0]
        if weights is not None:
            raise CodecError(f"{weights}: cannot be read as EnCodec's weights, {OFFICIAL_FILE}: {why}") from error
        raise CodecError(
            f"the weights of {OFFICIAL} cannot be downloaded ({why}): get {OFFICIAL_FILE} of EnCodec's release "
            f"and put it into {hub} or checkpoints/, or pass it as weights="
        ) from error
    path = Path(weights) if weights is not None else hub / OFFICIAL_FILE
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise CodecError(f"{path}: holds no weights by name; EnCodec's {OFFICIAL_FILE} is needed")
    try:
        check_weights(path, needed(model.state_dict()), needed(state))
    except CheckpointError as error:
        raise CodecError(f"{error}; EnCodec's {OFFICIAL_FILE} is needed") from error
    model.load_state_dict(needed(state), strict=False)
    return model


def _fused(model: Any) -> Any:
    """With each convolution's direction and length multiplied into one weight, once and for all."""
    for layer in model.modules():
        if hasattr(layer, "weight_g"):
            torch.nn.utils.remove_weight_norm(layer)
    return model
