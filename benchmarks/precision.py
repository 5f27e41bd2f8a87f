"""What narrow weights lose: `python -m benchmarks.precision --checkpoints '[checkpoints/NAME]' --data '[data/NAME]'`.

Mean test NLL of the same tokens by PyTorch and by the native engine in each precision, as `training.evaluate` scores
them: windows of the model's context moved by half of it. A loss is the difference of the means, and its range over
`parts` equal parts of the pieces says how far chance reaches.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from benchmarks.measuring.timing import Figure, about, command, describe, progress, table
from shortcut_gen.checkpoint import load_checkpoint
from shortcut_gen.decoding.native import NativeEngine, Precision, default_precision
from shortcut_gen.errors import SettingsError
from shortcut_gen.network.model import ShortcutLM
from training.corpus.joined import open_corpus
from training.corpus.shards import spread, write_json
from training.scoring.likelihood import check_ids, usual_stride, windows

PRECISIONS: tuple[Precision, ...] = get_args(Precision)
AIMS = {"bf16": 0.002, "int8": 0.01}
"""Nats a token that a precision may lose at most."""
SPLIT = "test"

Reader = Callable[[list[int]], torch.Tensor]


def losses(read: Reader, pieces: Sequence[NDArray[np.uint16]], context: int, frame: int) -> Iterator[tuple[float, int]]:
    """The summed NLL of each piece and how many tokens it is of; `read` gives logits, (T, V), of a window's T ids."""
    stride = usual_stride(context, frame)
    for ids in pieces:
        total, count = 0.0, 0
        for part, skip in windows(ids, context, stride):
            with torch.inference_mode():
                logits = read(part[:-1].tolist())[skip:]
                total += float(F.cross_entropy(logits, torch.from_numpy(part[1 + skip :]), reduction="sum").double())
            count += len(logits)
        yield total, count


def readers(model: ShortcutLM) -> dict[str, Reader]:
    """PyTorch, and the native engine in every precision."""
    found: dict[str, Reader] = {"torch": lambda ids: model(torch.tensor([ids]))[0]}
    for precision in PRECISIONS:
        decoding = NativeEngine(model, precision=precision).decoding(1)
        found[precision] = lambda ids, decoding=decoding: decoding.read(0, ids, every=True)  # type: ignore[misc]
    return found


def lost(scored: Sequence[tuple[float, int]], by_torch: Sequence[tuple[float, int]], parts: int) -> dict[str, Any]:
    """How much higher a mean is than PyTorch's, over all pieces; with the least and the most of the parts'."""

    def gap(chosen: slice) -> float:
        tokens = max(sum(count for _, count in by_torch[chosen]), 1)  # a part may hold pieces of one token alone
        return (sum(total for total, _ in scored[chosen]) - sum(total for total, _ in by_torch[chosen])) / tokens

    figure = Figure.of([gap(slice(part, None, parts)) for part in range(parts)])
    return {"lost": round(gap(slice(None)), 5), "range": [round(figure.low, 5), round(figure.high, 5)]}


def main(
    checkpoints: tuple[Path, ...],
    data: tuple[Path, ...],
    limit: int | None = 12,
    parts: int = 4,
    json: Path | None = None,
) -> None:
    """Measure, print and write.

    Args:
        checkpoints: Folders of checkpoints for the corpus's ids.
        data: Folders of the corpus.
        limit: Pieces of the test split that are scored, spread evenly over it.
        parts: Parts of the pieces that a range is over.
        json: File to write.
    """
    if not checkpoints or parts < 1 or (limit is not None and limit < parts):
        raise SettingsError(f"{len(checkpoints)} checkpoints, {limit} pieces in {parts} parts: one or more are needed")
    machine = about()
    print(describe(machine), flush=True)
    corpus = open_corpus(data)
    split = corpus.split(SPLIT)
    pieces = [split[index][1] for index in spread(len(split), limit)]
    rows: list[dict[str, Any]] = []
    for folder in checkpoints:
        loaded = load_checkpoint(folder)
        check_ids(corpus, folder, loaded.info)
        scored = {}
        for name, read in readers(loaded.model.eval()).items():
            progress(f"{folder.name}, {name}")
            scored[name] = list(losses(read, pieces, loaded.model.config.context, loaded.tokenizer.frame))
        tokens = sum(count for _, count in scored["torch"])
        nll = sum(total for total, _ in scored["torch"]) / tokens
        for name in PRECISIONS:
            about_it = {"checkpoint": folder.name, "precision": name, "tokens": tokens, "nll_by_torch": round(nll, 4)}
            rows.append(about_it | lost(scored[name], scored["torch"], parts) | {"at_most": AIMS.get(name)})
    print("\n" + table([_HEAD, *map(_row, rows)]))
    print(f"\nthe default here: {default_precision()}")
    if json:
        write_json(json, {"machine": machine, "corpus": corpus.name, "pieces": len(pieces), "rows": rows})


_HEAD = ["checkpoint", "weights", "tokens", "NLL by PyTorch", "NLL lost", "range", "aim"]


def _row(row: dict[str, Any]) -> list[str]:
    low, high = row["range"]
    return [
        *(row["checkpoint"], row["precision"], f"{row['tokens']:,}", f"{row['nll_by_torch']:.4f}"),
        *(f"{row['lost']:+.5f}", f"{low:+.5f} to {high:+.5f}", "" if row["at_most"] is None else str(row["at_most"])),
    ]


if __name__ == "__main__":
    sys.exit(command(main))
