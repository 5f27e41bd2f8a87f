"""Score a checkpoint on a split: `python -m training.evaluate checkpoints/NAME --data data/NAME --split test`.

A sliding window scores each token once: the first window of a piece all its tokens, every later one those the windows
before it have not reached, so that each is predicted from at least window - stride tokens where the piece has them.
The first token of a piece, which nothing comes before, is not scored.
"""

import dataclasses
import math
import sys
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from jsonargparse import ArgumentError, ArgumentParser, set_parsing_settings
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from shortcut_gen.checkpoint import load_checkpoint, write_info
from shortcut_gen.errors import DataError, SettingsError, ShortcutGenError
from shortcut_gen.model import ShortcutLM
from training.card import write_card
from training.shards import IGNORED, Corpus, Split


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
    """Windows of up to window + 1 ids, and how many of a window's first targets have been scored before."""
    end = 0  # targets scored so far, in the piece
    for start in range(0, len(ids) - 1, stride):
        if end >= len(ids) - 1:
            return
        part = ids[start : start + window + 1].astype(np.int64)
        yield part, end - start
        end = start + len(part) - 1


def score(
    model: ShortcutLM, pieces: Sequence[NDArray[np.uint16]], window: int, stride: int, batch_size: int, bf16: bool
) -> dict[str, Any]:
    """Mean NLL in nats per token, accuracy and tokens scored, over all the pieces."""
    device = model.embedding.weight.device
    jobs = (job for ids in pieces for job in windows(ids, window, stride))
    autocast = torch.autocast(device.type, dtype=torch.bfloat16) if bf16 else nullcontext()
    total, hits, count = 0.0, 0, 0
    bar = tqdm(total=sum(max(len(ids) - 1, 0) for ids in pieces), unit=" tokens", unit_scale=True, disable=None)
    with bar, torch.inference_mode(), autocast:
        while batch := [job for _, job in zip(range(batch_size), jobs, strict=False)]:
            inputs, targets = (tensor.to(device) for tensor in _stack(batch))
            logits = model(inputs).flatten(0, 1).float()  # (B*T, V)
            wanted = targets.flatten()
            losses = F.cross_entropy(logits, wanted, ignore_index=IGNORED, reduction="none")
            scored = int((wanted != IGNORED).sum())
            total += float(losses.double().sum())
            hits += int((logits.argmax(-1) == wanted).sum())
            count += scored
            bar.update(scored)
            bar.set_postfix(nll=f"{total / max(count, 1):.4f}", refresh=False)
    if not count:
        raise DataError("no token to score: every piece has fewer than two")
    return {"nll": total / count, "accuracy": hits / count, "tokens": count}


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


def figures(model: ShortcutLM, split: Split, settings: EvaluationSettings) -> dict[str, Any]:
    """The figures of a split. Raises SettingsError, DataError."""
    window = settings.window or model.config.context
    stride = settings.stride or max(1, window // 2)
    if not stride <= window <= model.config.context:
        raise SettingsError(
            f"the window is {window} and the stride {stride}; a window of at most the model's context of "
            f"{model.config.context} and a stride of at most the window are needed"
        )
    chosen = _spread(len(split), settings.limit)
    pieces = [split[index][1] for index in chosen]
    result = score(model, pieces, window, stride, settings.batch_size, settings.precision == "bf16")
    notes = sum(split.pieces[index].notes for index in chosen)
    if notes:
        result["bits_per_note"] = result["nll"] * result["tokens"] / math.log(2) / notes
        result["notes"] = notes
    result |= {"pieces": len(pieces), "share": sum(map(len, pieces)) / split.tokens, "window": window}
    return result | {"stride": stride, "precision": settings.precision}


def _spread(count: int, limit: int | None) -> list[int]:
    """Up to `limit` of `count` places, at even distances."""
    if limit is None or limit >= count:
        return list(range(count))
    return [(2 * k + 1) * count // (2 * limit) for k in range(limit)]


def evaluate(checkpoint: Path, data: Path, settings: EvaluationSettings) -> None:
    """Score a checkpoint on a split of a corpus, print the figures and write them into the checkpoint."""
    if settings.threads:
        torch.set_num_threads(settings.threads)
    device = settings.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    loaded = load_checkpoint(checkpoint, device)
    corpus = Corpus.open(data)
    if corpus.tokenizer != loaded.info.tokenizer:
        raise DataError(f"{data} holds {corpus.tokenizer} ids; {loaded.info.tokenizer} ids are needed for {checkpoint}")
    result = figures(loaded.model, corpus.split(settings.split), settings) | {"corpus": corpus.name}
    for key, value in result.items():
        print(f"{key:14} {value:.4f}" if isinstance(value, float) else f"{key:14} {value}")
    if settings.write:
        info = dataclasses.replace(loaded.info, figures=loaded.info.figures | {settings.split: result})
        write_info(checkpoint, info)
        write_card(checkpoint, info)


def _parser() -> ArgumentParser:
    parser = ArgumentParser(prog="python -m training.evaluate", description=__doc__, exit_on_error=False)
    parser.add_argument("checkpoint", type=Path, help="Checkpoint folder, such as checkpoints/piano.")
    parser.add_argument("--data", type=Path, required=True, help="Folder of the corpus, such as data/maestro.")
    parser.add_class_arguments(EvaluationSettings)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    set_parsing_settings(docstring_parse_attribute_docstrings=True)
    try:
        values = _parser().parse_args(None if arguments is None else list(arguments)).as_dict()
        checkpoint, data = values.pop("checkpoint"), values.pop("data")
        evaluate(checkpoint, data, EvaluationSettings(**values))
    except (ShortcutGenError, ArgumentError) as error:
        print("error:", " ".join(str(error).split()), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; nothing was written", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
