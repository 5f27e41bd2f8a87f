"""From a prompt to its continuation: read, encode, clip, sample, decode, each boundary crossed once."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Self

import torch

from shortcut_gen import media
from shortcut_gen.checkpoint import Checkpoint, CheckpointInfo, load_checkpoint
from shortcut_gen.decoding.depth import Depth, DepthLog
from shortcut_gen.decoding.engines import make_engine, resolve
from shortcut_gen.decoding.sampler import Sampler, Stream
from shortcut_gen.decoding.sampling import SamplingParams
from shortcut_gen.decoding.shared import AHEAD, SharedSampler
from shortcut_gen.errors import PromptError, SettingsError
from shortcut_gen.files import write_whole
from shortcut_gen.media import Audio, Score, performed
from shortcut_gen.media.render import render
from shortcut_gen.modalities.base import Media, Tokenizer
from shortcut_gen.remote import folder_of


@dataclass(frozen=True, kw_only=True, repr=False)
class Prompt:
    """What to continue. `media=None` starts from nothing."""

    media: Score | Audio | None
    name: str = ""
    """Where it came from, for messages and file names."""
    seconds: float | None = None
    """How much of it to use; None uses all there is."""
    start: float = 0.0
    """Where the part that is used begins, in seconds; notes struck before it are left out."""

    def __post_init__(self) -> None:
        if self.seconds is not None and not (math.isfinite(self.seconds) and self.seconds > 0):
            raise SettingsError(f"prompt seconds is {self.seconds}; a number above 0 is needed")
        if not (math.isfinite(self.start) and self.start >= 0):
            raise SettingsError(f"prompt start is {self.start}; a number of at least 0 is needed")

    @classmethod
    def from_file(cls, path: str | Path, seconds: float | None = None) -> Self:
        """A prompt read from a file, its kind told by its content. Raises MediaError, SettingsError.

        Of a recording no more than `seconds` is read.
        """
        part = cls(media=None, name=Path(path).name, seconds=seconds)  # refuses wrong seconds before it reads
        return replace(part, media=media.read(path, seconds))

    @classmethod
    def empty(cls) -> Self:
        """No prompt at all."""
        return cls(media=None, name="from scratch")

    def __repr__(self) -> str:
        held = f"{len(self.media.notes):,} notes" if isinstance(self.media, Score) else ""
        if isinstance(self.media, Audio):
            held = f"{self.media.sample_rate:,} Hz"
        length = f", {self.media.duration:.1f} s" if self.media is not None else ""
        part = f", the first {self.seconds:g} s" if self.seconds is not None else ""
        if self.start:
            part = f", from {self.start:g} s" + (f" to {self.start + self.seconds:g} s" if self.seconds else "")
        return f"<Prompt {self.name!r}: {held or 'nothing'}{length}{part}>"


@dataclass(frozen=True, kw_only=True)
class EncodedPrompt:
    """A prompt and the ids of the part of it that is used."""

    prompt: Prompt
    ids: tuple[int, ...]


@dataclass(frozen=True, kw_only=True, repr=False)
class Continuation:
    """A prompt and what followed it, as ids and, on demand, as sound and, for piano, as a score."""

    prompt: Prompt
    prompt_ids: tuple[int, ...]
    ids: tuple[int, ...]
    """The new ids alone."""
    seed: int
    variation: int
    params: SamplingParams
    tokenizer: Tokenizer
    depth: Depth | None = field(default=None, compare=False)
    """Of each of `ids`, what of the layers its prediction drew on, where that was asked for and the engine can say it:
    attention, not cause."""

    def __repr__(self) -> str:
        return (
            f"<Continuation of {self.prompt.name!r}: {len(self.ids):,} ids, {self.seam_seconds:.1f} to "
            f"{self.seconds:.1f} s, seed {self.seed}, variation {self.variation}>"
        )

    @cached_property
    def media(self) -> Media:
        """Prompt and continuation as the tokenizer decodes them: a Score for piano, Audio for speech."""
        return self.tokenizer.decode(self.prompt_ids + self.ids)

    @property
    def score(self) -> Score:
        """Prompt and continuation as one score; a note the prompt left sounding is ended by the continuation.

        Raises SettingsError for speech, which has none.
        """
        if not isinstance(self.media, Score):
            raise SettingsError(f"a continuation of {self.tokenizer.name} has no score; use its audio()")
        return self.media

    @cached_property
    def seam_seconds(self) -> float:
        """Where the prompt ends and the continuation begins, in seconds."""
        return self.tokenizer.seconds(self.prompt_ids)

    @cached_property
    def seconds(self) -> float:
        """How long prompt and continuation last together."""
        return self.tokenizer.seconds(self.prompt_ids + self.ids)

    def write_midi(self, path: str | Path, marker: str | None = None) -> None:
        """Write a MIDI file, whole or not at all, that has of the prompt what the prompt's file had: keys and pedal as
        they were played, tempo and time signatures. marker: text of a mark at the seam. Raises MediaError.
        """
        given = self.prompt.media
        mark = (self.seam_seconds, marker) if marker and self.prompt_ids else None
        if isinstance(given, Score) and given.played is not None and self.prompt_ids:
            until = min(self.seam_seconds, self.prompt.seconds or math.inf)
            write_whole(path, performed(self.score, given, self.prompt.start, until, mark))
        else:
            self.score.write(path, mark)

    def audio(self) -> Audio:
        """The sound of prompt and continuation: a score rendered anew at each call, 44.1 kHz stereo; speech as the
        codec decodes it, one channel at its rate."""
        return self.media if isinstance(self.media, Audio) else render(self.score)


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a batch has come: the continuations so far, prompt by prompt and variation by variation."""

    continuations: tuple[Continuation, ...]
    done: tuple[bool, ...]
    queue: int = 0
    """The place in the queue, from 1 on, of the first of them that waits to join a shared batch; 0 where none waits."""


def _part(prompt: Prompt, media: Media) -> Media:
    """What of a prompt there is to encode: from its start on, and of sound no more than is used, as a codec is slow.

    Raises PromptError where nothing lies there.
    """
    if prompt.start and isinstance(media, Score | Audio) and prompt.start >= media.duration:
        raise PromptError(f"it lasts {media.duration:.1f} s, and is to be used from {prompt.start:g} s on")
    if isinstance(media, Audio) and (prompt.start or prompt.seconds is not None):
        return media.slice(prompt.start, prompt.start + (prompt.seconds or media.duration))
    return media.after(prompt.start) if isinstance(media, Score) and prompt.start else media


class Pipeline:
    """A loaded checkpoint that continues prompts."""

    def __init__(
        self, checkpoint: Checkpoint, engine: str = "auto", precision: str | None = None, share: int = 0
    ) -> None:
        """`engine`, `precision` and `share` as `from_pretrained` has them. Raises SettingsError."""
        self.model = checkpoint.model
        self.tokenizer = checkpoint.tokenizer
        self.info: CheckpointInfo = checkpoint.info
        self.sampler = Sampler(self.model, self.tokenizer, make_engine(self.model, engine, precision))
        self.shared = SharedSampler(self.sampler, share) if share else None
        """The batch that all of this pipeline's continuations share; None where each has its own."""

    @classmethod
    def from_pretrained(
        cls,
        folder: str | Path,
        device: torch.device | str = "cpu",
        engine: str = "auto",
        precision: str | None = None,
        share: int = 0,
    ) -> Self:
        """Load a checkpoint folder, USER/NAME of the Hugging Face Hub (`hub.fetch`) or a URL (`remote.at_url`).

        `engine`: auto, torch, or native, the engine in C++ for a CPU; auto takes it where it was built. `precision`:
        f32, bf16 or int8, of the native engine's weights. `share`: rows of one batch in which all continuations play,
        from whatever thread they are asked for; further ones wait in order; 0 gives each call a batch of its own.
        Raises CheckpointError, SettingsError.
        """
        resolve(engine, precision, device)  # refuses what cannot be before it reads
        return cls(load_checkpoint(folder_of(folder), device), engine, precision, share)

    def encode(self, prompt: Prompt) -> tuple[int, ...]:
        """The ids of the part of a prompt that is used. Raises PromptError where nothing of it can be continued."""
        if prompt.media is None:
            return ()
        name = prompt.name or "the prompt"
        try:
            ids = self.tokenizer.encode(_part(prompt, prompt.media))
        except PromptError as error:
            raise PromptError(f"{name}: {error}") from error
        if prompt.seconds is not None:
            whole = ids
            ids = self.tokenizer.head(ids, prompt.seconds)
            if not ids:
                first = self.tokenizer.seconds(whole)
                raise PromptError(
                    f"{name}: nothing sounds in its first {prompt.seconds:g} s "
                    f"(it lasts {first:.1f} s); a longer part of it is needed"
                )
        return tuple(ids)

    def continue_prompt(
        self, prompt: Prompt, params: SamplingParams, variation: int = 0, depth: bool = False
    ) -> Continuation:
        """The continuation of one prompt, with its depth if that is asked for. Raises PromptError."""
        encoded = EncodedPrompt(prompt=prompt, ids=self.encode(prompt))
        *_, last = self.stream_rows([(encoded, variation)], params, every_tokens=AHEAD, depth=depth)
        return last.continuations[0]

    def stream(
        self,
        prompts: Sequence[Prompt],
        params: SamplingParams,
        variations: int = 1,
        every_tokens: int = 16,
        depth: bool = False,
    ) -> Iterator[Progress]:
        """Continue prompts side by side, yielding what there is every so many tokens; the last has all done.

        Order: the first prompt's variations, then the second's. Close the generator to cancel. `depth` asks for
        `Continuation.depth`, which costs a little and changes no id.
        """
        if variations < 1:
            raise SettingsError(f"variations is {variations}; a whole number of at least 1 is needed")
        return self._stream(prompts, params, variations, every_tokens, depth)

    def _stream(
        self, prompts: Sequence[Prompt], params: SamplingParams, variations: int, every_tokens: int, depth: bool
    ) -> Iterator[Progress]:
        # Encoded when first asked for: whoever waits for the first ids can be told so before.
        encoded = [EncodedPrompt(prompt=prompt, ids=self.encode(prompt)) for prompt in prompts]
        rows = [(each, variation) for each in encoded for variation in range(variations)]
        yield from self.stream_rows(rows, params, every_tokens, depth)

    def stream_rows(
        self,
        rows: Sequence[tuple[EncodedPrompt, int]],
        params: SamplingParams,
        every_tokens: int = 16,
        depth: bool = False,
    ) -> Iterator[Progress]:
        """`stream` for any choice of prompts, which are encoded, and variation numbers, in that order.

        In a shared batch each row goes on at its own pace, and what there is comes as soon as one has so many new ids,
        or the queue before one that waits has changed.
        """
        asked = depth and self.sampler.engine.looks
        streams = [
            Stream(
                prompt=encoded.ids,
                seed=params.seed,
                variation=k,
                depth=DepthLog(self.model.config) if asked else None,
            )
            for encoded, k in rows
        ]
        made = [_Made(encoded.prompt, stream) for (encoded, _), stream in zip(rows, streams, strict=True)]

        def progress(done: Sequence[bool], queue: int = 0) -> Progress:
            parts = tuple(self._continuation(each, over, params) for each, over in zip(made, done, strict=True))
            return Progress(continuations=parts, done=tuple(done), queue=queue)

        if self.shared is not None:
            done: tuple[bool, ...] = (False,) * len(streams)
            with self.shared.submit(streams, params) as request:
                while not all(done):
                    new, done = request.take(every_tokens)
                    for each, some in zip(made, new, strict=True):
                        each.ids.extend(some)
                    yield progress(done, request.queue)
            return
        for count, step in enumerate(self.sampler.stream(streams, params), start=1):
            for each, token in zip(made, step, strict=True):
                if token is not None:
                    each.ids.append(token)
            if count % every_tokens == 0:
                yield progress([token is None for token in step])
        yield progress([True] * len(streams))

    def _kept(self, made: "_Made", done: bool, params: SamplingParams) -> list[int]:
        """What of a row's ids will stay: where an end is looked for, none past the length is before all are there."""
        prompt, ids = made.stream.prompt, made.ids
        if params.ending is None or params.seconds is None or not self.tokenizer.ends:
            return ids
        if not done:
            until = self.tokenizer.seconds(prompt) + params.seconds
            return self.tokenizer.head([*prompt, *ids], until)[len(prompt) :]
        if made.end is None:
            cut = self.tokenizer.to_ending(prompt, ids, params.seconds)
            made.end = cut if params.max_tokens is None or len(cut) <= params.max_tokens else ids
        return made.end

    def _continuation(self, made: "_Made", done: bool, params: SamplingParams) -> Continuation:
        ids, stream = self._kept(made, done, params), made.stream
        depth = None
        if stream.depth is not None:  # how an end rings out was not drawn
            pairs = enumerate(zip(ids, made.ids, strict=False))
            depth = stream.depth.depth(len(ids), next((k for k, (kept, drawn) in pairs if kept != drawn), len(ids)))
        return Continuation(
            prompt=made.prompt,
            prompt_ids=stream.prompt,
            ids=tuple(ids),
            seed=stream.seed,
            variation=stream.variation,
            params=params,
            tokenizer=self.tokenizer,
            depth=depth,
        )


@dataclass
class _Made:
    """A row of a batch as it stands."""

    prompt: Prompt
    stream: Stream
    ids: list[int] = field(default_factory=list)
    """What the model drew."""
    end: list[int] | None = None
    """What of it stays, with how it rings out, once that is known."""
