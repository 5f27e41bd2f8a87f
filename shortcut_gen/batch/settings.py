"""What the batch command takes, and how its command line is read."""

import dataclasses
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from types import NoneType
from typing import Any, get_args

import docstring_parser
import torch
from jsonargparse import ArgumentError, ArgumentParser

from shortcut_gen.decoding.sampling import SamplingParams
from shortcut_gen.errors import SettingsError
from shortcut_gen.modalities.base import Usual
from shortcut_gen.modalities.piano import PianoTokenizer
from shortcut_gen.modalities.speech import SpeechTokenizer
from shortcut_gen.places import Place, Url, place


@dataclass(frozen=True, kw_only=True)
class BatchSettings:
    """What the batch command takes beside the prompts."""

    out: Place
    """Folder for the results, made if need be, or its URL."""
    variations: int = 1
    """Continuations of each prompt."""
    seconds: float | None = None
    """Length of each continuation, in seconds; {music} of music or {speech} of speech if not given."""
    seed: int = 0
    """Seed; with a variation's number it fixes that variation, whatever else is in the batch."""
    checkpoint: Place | None = None
    """Checkpoint folder, or its URL; checkpoints/piano for MIDI files and checkpoints/speech for sound if not given."""
    temperature: float = 1.0
    """Divides the logits; 0 takes the likeliest id."""
    top_k: int = 0
    """Keep only the k likeliest ids; 0 keeps all."""
    top_p: float | None = None
    """Keep the fewest ids whose probabilities reach p, 1 all; {music} for music, {speech} for speech if not given."""
    min_p: float = 0.0
    """Keep ids at least this share as likely as the likeliest; 0 keeps all."""
    guidance: float | None = None
    """How much further than by itself the model holds to the prompt, 0 to 10, at half the speed above 0; {music} for
    music, {speech} for speech if not given."""
    ending: float | None = None
    """Look past the length for the best place to end, in so many seconds of music; it breaks off if not given."""
    prompt_seconds: float | None = None
    """Use only this much of each prompt's start; all of it if not given."""
    from_scratch: int = 0
    """Pieces to make from no prompt at all: of music, unless the checkpoint is one for speech."""
    midi_only: bool = False
    """Write no WAV files of music; speech has nothing else."""
    batch_size: int = 8
    """Continuations that are generated together; more is faster and takes more memory."""
    overwrite: bool = False
    """Make again what is there already."""
    device: str = "cpu"
    """Where the model runs, such as cpu or cuda."""
    engine: str = "auto"
    """What runs it: torch, native (in C++, on a CPU), or auto, which is native on a CPU where that was built."""
    precision: str | None = None
    """Of the native engine's weights: f32, bf16 or int8; the fastest that loses next to nothing if not given."""
    ray: str | None = None
    """Make them on a Ray cluster: HOST:PORT of its head, auto for the one that runs here, local for these cores."""

    def __post_init__(self) -> None:
        for name, least in (("variations", 1), ("batch_size", 1), ("from_scratch", 0)):
            if getattr(self, name) < least:
                raise SettingsError(f"{name} is {getattr(self, name)}; a whole number of at least {least} is needed")
        if self.prompt_seconds is not None and not (math.isfinite(self.prompt_seconds) and self.prompt_seconds > 0):
            raise SettingsError(f"prompt_seconds is {self.prompt_seconds}; a number above 0 is needed")
        if self.device not in ("cpu", "mps") and not re.fullmatch(r"cuda(:\d+)?", self.device):
            raise SettingsError(f"device is {self.device!r}; cpu, cuda, cuda:N or mps is needed")
        try:
            torch.empty(0, device=self.device)
        except (RuntimeError, AssertionError, NotImplementedError) as error:
            raise SettingsError(f"device is {self.device!r}, which this machine or this PyTorch lacks") from error
        if self.ray is not None and isinstance(self.out, Url):
            raise SettingsError(f"out is {self.out}; with --ray a folder that all machines share is needed, no URL")
        self.params(PianoTokenizer.usual)  # validates the rest

    def params(self, usual: Usual) -> SamplingParams:
        """The sampler's part of the settings; `usual` is for what is not set."""
        values = {
            name: getattr(self, name)
            for name in ("temperature", "top_k", "min_p", "seed", "seconds", "top_p", "guidance", "ending")
        }
        unset = {name for name, value in values.items() if value is None and name != "ending"}
        return SamplingParams(**values | {name: getattr(usual, name) for name in unset})

    def recorded(self, usual: Usual) -> dict[str, Any]:
        """The settings that decide the result, as the manifest has them (the seed has a field of its own)."""
        values = dataclasses.asdict(self.params(usual)) | {"prompt_seconds": self.prompt_seconds}
        left_out = {"seed", "tap_gains"}
        if self.ending is None:  # what was made before it was an option
            left_out.add("ending")
        if not values["guidance"]:  # likewise
            left_out.add("guidance")
        return {name: value for name, value in values.items() if name not in left_out}


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="python -m shortcut_gen.generate",
        description="Continue piano performances and speech: a MIDI file and a WAV file, or for speech a WAV file, "
        "and a line in manifest.jsonl for each.",
        exit_on_error=False,
    )
    parser.add_argument("prompts", nargs="*", default=[], help="MIDI files, sound files, or folders of them")
    helps = {p.args[1]: p.description for p in docstring_parser.parse_from_object(BatchSettings).params}
    for name in ("seconds", "top_p", "guidance"):
        usual = [f"{getattr(tokenizer.usual, name):g}" for tokenizer in (PianoTokenizer, SpeechTokenizer)]
        helps[name] = (helps[name] or "").format(music=usual[0], speech=usual[1])
    for field in dataclasses.fields(BatchSettings):
        option = "--" + field.name.replace("_", "-")
        if field.type is bool:
            parser.add_argument(option, action="store_true", help=helps[field.name])
            continue
        kinds = [part for part in get_args(field.type) if part is not NoneType] or [field.type]
        kind: Any = place if Url in kinds else kinds[0]
        required = field.default is dataclasses.MISSING
        rest: dict[str, Any] = {"required": True} if required else {"default": field.default}
        parser.add_argument(option, type=kind, help=helps[field.name], **rest)
    return parser


def arguments(argv: Sequence[str] | None) -> tuple[list[str], BatchSettings]:
    """Prompts and settings. Raises SettingsError."""
    try:
        values = vars(_parser().parse_args(argv))
    except ArgumentError as error:
        text = " ".join(str(error).split())
        wrong = re.search(r"key \"(\w+)\": Expected a <class '(float|int)'>\. Got value: (.*)", text)
        kind = "a whole number" if wrong and wrong[2] == "int" else "a number"
        raise SettingsError(f"{wrong[1]} is {wrong[3]}; {kind} is needed" if wrong else text) from error
    prompts = values.pop("prompts")
    settings = BatchSettings(**values)
    if not prompts and not settings.from_scratch:
        raise SettingsError("no prompt is given; name MIDI files, sound files or folders, or use --from-scratch N")
    return prompts, settings
