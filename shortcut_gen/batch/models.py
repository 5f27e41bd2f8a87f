"""The models of a batch: which one continues a prompt, each loaded when it is first needed."""

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from shortcut_gen import shipped
from shortcut_gen.checkpoint import CheckpointInfo, read_info
from shortcut_gen.codec.finding import own_codec
from shortcut_gen.decoding.engines import resolve
from shortcut_gen.errors import CheckpointError
from shortcut_gen.files import reason
from shortcut_gen.folder import WEIGHTS
from shortcut_gen.media import Audio, Score
from shortcut_gen.modalities import get_tokenizer
from shortcut_gen.modalities.base import Tokenizer
from shortcut_gen.modalities.piano import PianoTokenizer
from shortcut_gen.modalities.speech import SpeechTokenizer
from shortcut_gen.pipeline import Pipeline
from shortcut_gen.places import Place, Url
from shortcut_gen.remote import at_url

Kind = type[Score] | type[Audio]

FOLDERS: dict[Kind, str] = {Score: "piano", Audio: "speech"}
"""The shipped checkpoint for a kind of prompt where none is named."""
ADDED = {"activation": "gelu"}
"""Options of models that came after the first release, as models without them are: named, they would change the hash
of every checkpoint, and a folder of results made before would be made again."""
SUFFIXES = (*PianoTokenizer.suffixes, *SpeechTokenizer.suffixes)
"""Of the files that a folder of prompts may hold where no checkpoint is named."""


@dataclass(frozen=True)
class Model:
    """A checkpoint of which the weights are read when first needed."""

    folder: Path
    named: Place
    """The folder as it was asked for, or its URL."""
    info: CheckpointInfo
    device: str
    engine: str
    precision: str
    """Of the weights, as the engine has them."""

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """Its tokenizer; a codec is not loaded for it."""
        return get_tokenizer(self.info.tokenizer, self.info.codec, self.folder)

    @cached_property
    def kind(self) -> Kind:
        """What it makes. Raises CheckpointError where that is no music and no speech."""
        made: Kind = self.tokenizer.media
        if made not in FOLDERS:
            raise CheckpointError(
                f"{self.folder} continues {self.info.tokenizer}; a checkpoint for piano or speech is needed"
            )
        return made

    def load(self) -> Pipeline:
        """`pipeline`, for what may go wrong with it. Raises CheckpointError, CodecError."""
        return self.pipeline

    @cached_property
    def pipeline(self) -> Pipeline:
        """The model, loaded, and its codec where it has one. Raises CheckpointError, CodecError."""
        made = Pipeline.from_pretrained(self.folder, self.device, self.engine, self.precision)
        made.tokenizer.decode([0] * made.tokenizer.frame)  # a codec is loaded when it is first asked for sound: now
        return made

    @cached_property
    def sha256(self) -> str:
        """Of the weights, the model's shape, the tokenizer and the codec; not of the card's text or the figures.

        Raises CheckpointError, CodecError.
        """
        digest = _digest(self.folder / WEIGHTS)
        if codec := own_codec(self.info.codec, self.folder):
            # Its identity in config.json leaves the decoder out, which decides how the same ids sound.
            digest.update(_digest(codec / WEIGHTS).digest())
        shape = {k: v for k, v in self.info.model.to_dict().items() if ADDED.get(k) != v}
        decides = [shape, self.info.tokenizer, *([self.info.codec] if self.info.codec else [])]
        digest.update(json.dumps(decides, sort_keys=True).encode())
        return digest.hexdigest()


def _digest(path: Path) -> "hashlib._Hash":
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256")
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {reason(error)}") from error


class Models:
    """The models of a run, by folder."""

    def __init__(self, checkpoint: Place | None, device: str, engine: str, precision: str | None) -> None:
        """Raises SettingsError where the engine cannot run."""
        self._checkpoint = checkpoint
        self._runs_on = (device, *resolve(engine, precision, device))
        self._models: dict[Place, Model] = {}

    def of(self, kind: Kind) -> Model:
        """The one that continues such prompts. Raises CheckpointError."""
        return self.at(self._checkpoint or shipped.checkpoints() / FOLDERS[kind])

    def at(self, named: Place) -> Model:
        """The one in a folder, or at a URL. Raises CheckpointError."""
        if named not in self._models:
            folder = at_url(named) if isinstance(named, Url) else named
            self._models[named] = Model(folder, named, read_info(folder), *self._runs_on)
        return self._models[named]

    @property
    def suffixes(self) -> tuple[str, ...]:
        """Of the files in a folder that count as prompts. Raises CheckpointError."""
        return SUFFIXES if self._checkpoint is None else self.of(Score).tokenizer.suffixes
