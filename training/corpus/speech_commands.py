"""The commands of training.prepare for speech, as the options of a command line."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from shortcut_gen.errors import SettingsError
from shortcut_gen.places import Url
from training.corpus.archives import name_of
from training.corpus.speech import AudioOptions, AudioSource, FolderSource, LibriSpeechSource
from training.corpus.speech_encoding import CodecSettings
from training.support.command_line import device_of

_GPU_PROCESSES = 4
"""Each holds a context of its own on the GPU, and reads and resamples meanwhile."""


@dataclass(frozen=True, kw_only=True)
class SpeechCommand:
    """What commands for speech share."""

    source: Path
    """A folder, or a zip, tar, tar.gz or tar.xz archive of it. Any sound file counts that soundfile reads."""
    out: Url | Path
    """Folder of the shards, or its URL, such as data/librispeech."""
    codec: str
    """encodec_24khz, or the folder of a codec, such as checkpoints/codec-harmonic."""
    codebooks: int
    """Codebooks to use, Q: that many ids a frame."""
    weights: Path | None = None
    """File of encodec_24khz's weights, where they cannot be downloaded."""
    speeds: tuple[float, ...] = (1.0,)
    """How fast the training split is played, such as `0.9 1.0 1.1`: every speed is a piece of its own, in another
    voice, as it is higher or lower with it."""
    validation: float = 0.05
    """Share of the training speakers to validate on."""
    seed: int = 0
    """Chooses which speakers are held out."""
    batch_seconds: float = 0.0
    """Seconds of sound encoded together; 0 takes 16 on a CPU and 240 on a GPU."""
    device: str = "auto"
    """Where the codec runs: cpu, cuda, or auto for a GPU where there is one."""
    workers: int = 0
    """Processes that encode; 0 takes one a core, or up to 4 for a GPU."""
    ray: str | None = None
    """Encode on a Ray cluster: HOST:PORT of its head, auto for the one that runs here, local for these cores."""

    # Public methods would become subcommands: jsonargparse's way with classes.

    def _open(self) -> AudioSource:
        raise NotImplementedError

    @property
    def _device(self) -> str:
        return device_of(self.device)

    def _settings(self) -> CodecSettings:
        try:
            torch.empty(0, device=self._device)
        except (RuntimeError, AssertionError) as error:
            raise SettingsError(f"device is {self.device!r}; cpu, or a GPU that is there, is needed") from error
        return CodecSettings(name=self.codec, codebooks=self.codebooks, weights=self.weights, device=self._device)

    def _options(self) -> AudioOptions:
        return AudioOptions(speeds=self.speeds, batch_seconds=self.batch_seconds)


def source_of(command: SpeechCommand) -> AudioSource:
    """The source that a command names, looked through. Raises ShortcutGenError."""
    return command._open()


def processes_of(command: SpeechCommand) -> int:
    """Processes that are to encode; 0 takes one a core."""
    few = command._device != "cpu" and command.workers == 0
    return min(os.cpu_count() or 1, _GPU_PROCESSES) if few else command.workers


@dataclass(frozen=True, kw_only=True)
class LibriSpeech(SpeechCommand):
    """LibriSpeech as published: one subset or several, split by speaker as its folders say.

    Where there is no dev-*, some of the training speakers are held out to validate on.
    """

    def _open(self) -> AudioSource:
        return LibriSpeechSource(
            self.source, codec=self._settings(), options=self._options(), seed=self.seed, validation=self.validation
        )


@dataclass(frozen=True, kw_only=True)
class AudioFolder(SpeechCommand):
    """Your own recordings, split by speaker. Files that cannot be read are left out and named."""

    validation: float = 0.05
    """Share of the speakers to validate on."""
    test: float = 0.05
    """Share of the speakers to test on."""
    speakers: Literal["folder", "parent", "file"] = "folder"
    """Who speaks: each folder with recordings in it is a speaker, or the folder above it is (as in SPEAKER/BOOK/file),
    or each file is one, where nothing is known of the speakers."""
    licence: str = "not stated"
    """Licence of the recordings; models trained on them name it."""
    name: str | None = None
    """Name of the corpus; that of the source if none is given."""

    def _open(self) -> AudioSource:
        return FolderSource(
            self.source,
            corpus=self.name or name_of(self.source),
            licence=self.licence,
            codec=self._settings(),
            options=self._options(),
            speakers=self.speakers,
            shares=(self.validation, self.test),
            seed=self.seed,
        )
