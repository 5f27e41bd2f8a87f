"""The likelihood of a split under a model, by a sliding window that scores each token once.

The first window of a piece scores all its tokens, every later one those the windows before it have not reached, so that
each is predicted from at least window - stride tokens where the piece has them. The first token of a piece, which
nothing comes before, is not scored.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from shortcut_gen.checkpoint import CheckpointInfo
from shortcut_gen.errors import DataError, SettingsError
from shortcut_gen.network.model import ShortcutLM, Step
from shortcut_gen.places import Place
from training.corpus.joined import JoinedCorpus, describe_ids
from training.corpus.shards import IGNORED, Corpus, Split, spread

LOGITS_AT_ONCE = 2**22
"""Logits that are held at a time, 16 MiB in f32, whatever the vocabulary and the batch: a large vocabulary's of a whole
batch are gigabytes, which cost more to write and read again than to compute."""


@dataclass(frozen=True, kw_only=True)
class EvaluationSettings:
    """How a split is scored."""

    split: str = "test"
    """Split of the corpus."""
    window: int | None = None
    """Tokens the model reads at once; its whole context if not given."""
    stride: int | None = None
    """Tokens the window moves by; half the window if not given."""
    limit: int | None = None
    """Score only so many pieces, spread evenly over the split; the figures then say what share that is."""
    batch_size: int = 16
    """Windows scored together."""
    device: str = "auto"
    """Where the model runs: cpu, cuda, or auto."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Precision of the matrix products."""
    threads: int = 0
    """CPU threads of torch; 0 leaves its own choice."""
    write: bool = True
    """Write the figures into the checkpoint's config.json and card."""

    def __post_init__(self) -> None:
        for name in ("window", "stride", "limit", "batch_size"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise SettingsError(f"{name} is {value}; a whole number of at least 1 is needed")


def windows(ids: NDArray[np.uint16], window: int, stride: int) -> Iterator[tuple[NDArray[np.int64], int]]:
    """Windows of up to window + 1 ids, and how many of a window's first targets have been scored before.

    They begin at multiples of the stride.
    """
    end = 0  # targets scored so far, in the piece
    for start in range(0, len(ids) - 1, stride):
        if end >= len(ids) - 1:
            return
        part = ids[start : start + window + 1].astype(np.int64)
        yield part, end - start
        end = start + len(part) - 1


def usual_stride(window: int, frame: int) -> int:
    """Half the window, in whole frames."""
    return max(frame, window // 2 // frame * frame)


def score(
    model: ShortcutLM,
    pieces: Sequence[NDArray[np.uint16]],
    window: int,
    stride: int,
    batch_size: int,
    bf16: bool,
    frame: int = 1,
) -> dict[str, Any]:
    """Mean NLL in nats per token, accuracy and tokens scored, over all the pieces.

    With frames of several ids also the mean NLL at each place of a frame, coarsest codebook first. The stride must
    then be a multiple of the frame.
    """
    device = model.embedding.weight.device
    jobs = (job for ids in pieces for job in windows(ids, window, stride))
    autocast = torch.autocast(device.type, dtype=torch.bfloat16) if bf16 else nullcontext()
    levels = torch.zeros(2, frame, dtype=torch.float64)  # sums and counts
    total, hits, count = 0.0, 0, 0
    bar = tqdm(total=sum(max(len(ids) - 1, 0) for ids in pieces), unit=" tokens", unit_scale=True, disable=None)
    with bar, torch.inference_mode(), autocast:
        while batch := [job for _, job in zip(range(batch_size), jobs, strict=False)]:
            inputs, targets = (tensor.to(device) for tensor in _stack(batch))
            step = Step(torch.arange(inputs.shape[1], device=device).unsqueeze(0), None)
            places = targets != IGNORED  # (B, T): half of them, where windows overlap by half
            losses, hit = _judged(model, model.states(inputs, step)[places], targets[places])
            scored = len(losses)
            total += float(losses.double().sum())
            hits += hit
            count += scored
            if frame > 1:
                _add_levels(levels, losses, targets)
            bar.update(scored)
            bar.set_postfix(nll=f"{total / max(count, 1):.4f}", refresh=False)
    if not count:
        raise DataError("no token to score: every piece has fewer than two")
    result = {"nll": total / count, "accuracy": hits / count, "tokens": count}
    return result | ({"nll_by_level": (levels[0] / levels[1]).tolist()} if frame > 1 else {})


def _judged(model: ShortcutLM, states: Tensor, wanted: Tensor) -> tuple[Tensor, int]:
    """The loss of each wanted id, (S,), after states, (S, D), and how many of them are the likeliest id."""
    losses, hits = [], 0
    rows = max(LOGITS_AT_ONCE // model.config.vocab_size, 1)
    for part, targets in zip(states.split(rows), wanted.split(rows), strict=True):
        logits = model.logits(part).float()  # (rows, V)
        losses.append(F.cross_entropy(logits, targets, reduction="none"))
        # Finding the greatest takes far less than finding where it is: that is asked only where the id may be it.
        best = logits.gather(1, targets.unsqueeze(1)).squeeze(1) >= logits.amax(-1)
        hits += int((logits[best].argmax(-1) == targets[best]).sum())
    return (torch.cat(losses) if losses else wanted.new_zeros(0, dtype=torch.float32)), hits


def _add_levels(levels: Tensor, losses: Tensor, targets: Tensor) -> None:
    """Add the losses, (S,), of the targets, (B, T), that are scored to the sums and counts of their places in a frame,
    (2, Q)."""
    scored = (targets != IGNORED).cpu()
    places = (torch.arange(1, targets.shape[1] + 1) % levels.shape[1]).expand(targets.shape)[scored]
    values = losses.cpu().double()
    levels.index_add_(1, places, torch.stack((values, torch.ones_like(values))))


def _stack(batch: list[tuple[NDArray[np.int64], int]]) -> tuple[Tensor, Tensor]:
    """Inputs and targets, (B, T), padded on the right, where nothing that is scored can see it."""
    length = max(len(part) for part, _ in batch) - 1
    inputs = torch.zeros(len(batch), length, dtype=torch.int64)
    targets = torch.full((len(batch), length), IGNORED)
    for row, (part, skip) in enumerate(batch):
        ids = torch.from_numpy(part)
        inputs[row, : len(ids) - 1] = ids[:-1]
        targets[row, skip : len(ids) - 1] = ids[skip + 1 :]
    return inputs, targets


def figures(model: ShortcutLM, split: Split, settings: EvaluationSettings, frame: int = 1) -> dict[str, Any]:
    """The figures of a split whose ids stand in frames of `frame`. Raises SettingsError, DataError."""
    window = settings.window or model.config.context
    stride = settings.stride or usual_stride(window, frame)
    if stride % frame:
        raise SettingsError(f"the stride is {stride}; a multiple of {frame}, the ids of a frame, is needed")
    if not stride <= window <= model.config.context:
        raise SettingsError(
            f"the window is {window} and the stride {stride}; a window of at most the model's context of "
            f"{model.config.context} and a stride of at most the window are needed"
        )
    chosen = spread(len(split), settings.limit)
    pieces = [split[index][1] for index in chosen]
    result = score(model, pieces, window, stride, settings.batch_size, settings.precision == "bf16", frame)
    notes = sum(split.pieces[index].notes for index in chosen)
    seconds = sum(split.pieces[index].seconds for index in chosen)
    if notes:
        result["bits_per_note"] = result["nll"] * result["tokens"] / math.log(2) / notes
        result["notes"] = notes
    elif seconds:
        result["bits_per_second"] = result["nll"] * result["tokens"] / math.log(2) / seconds
        result["seconds"] = round(seconds, 1)
        result["frames"] = sum(map(len, pieces)) // frame
    result |= {"pieces": len(pieces), "share": sum(map(len, pieces)) / split.tokens, "window": window}
    return result | {"stride": stride, "precision": settings.precision}


def check_ids(corpus: Corpus | JoinedCorpus, checkpoint: Place, info: CheckpointInfo) -> None:
    """Raises DataError where a corpus's ids are not those of a checkpoint."""
    codec = {key: value for key, value in (info.codec or {}).items() if key != "num_codebooks"}
    given = {key: value for key, value in (corpus.codec or {}).items() if key != "num_codebooks"}
    if (corpus.tokenizer, given) != (info.tokenizer, codec):
        needed = describe_ids(info.tokenizer, info.codec)
        held = describe_ids(corpus.tokenizer, corpus.codec)
        raise DataError(f"{corpus.folder} holds {held}; {needed} are needed for {checkpoint}")
