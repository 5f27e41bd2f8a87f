"""Continue piano and speech with a language model that attends to its own layers.

Letters for shapes, everywhere in the code: B batch, T tokens, D width, H heads, E head width, L taps, K cached
positions, C context or channels, V vocabulary, Q codebooks, F frames, S samples.
"""

from importlib import metadata

from shortcut_gen.checkpoint import Checkpoint, CheckpointInfo, load_checkpoint, save_checkpoint
from shortcut_gen.codec.base import Codec
from shortcut_gen.codec.encodec import EncodecCodec
from shortcut_gen.codec.finding import open_codec
from shortcut_gen.decoding.depth import Depth
from shortcut_gen.decoding.sampler import Sampler, Stream
from shortcut_gen.decoding.sampling import SamplingParams
from shortcut_gen.errors import ShortcutGenError
from shortcut_gen.media import Audio, Note, Score
from shortcut_gen.modalities.speech import SpeechTokenizer
from shortcut_gen.network.config import ModelConfig
from shortcut_gen.network.model import ShortcutLM
from shortcut_gen.pipeline import Continuation, Pipeline, Progress, Prompt

try:
    __version__ = metadata.version("shortcut-gen")
except metadata.PackageNotFoundError:  # a folder on the path, not installed
    __version__ = "unknown"

__all__ = [
    "Audio",
    "Checkpoint",
    "CheckpointInfo",
    "Codec",
    "Continuation",
    "Depth",
    "EncodecCodec",
    "ModelConfig",
    "Note",
    "Pipeline",
    "Progress",
    "Prompt",
    "Sampler",
    "SamplingParams",
    "Score",
    "ShortcutGenError",
    "ShortcutLM",
    "SpeechTokenizer",
    "Stream",
    "__version__",
    "load_checkpoint",
    "open_codec",
    "save_checkpoint",
]
