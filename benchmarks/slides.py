"""What a slide of the window costs: `python -m benchmarks.slides --checkpoint checkpoints/NAME --data '[data/NAME]'`.

When the window is full its oldest ids go and the rest are read again; the ids right behind that are drawn with less
behind them. In test pieces that are long enough one place each is made the place of a slide: the NLL of the real ids
behind it, with what a slide leaves, less the NLL of the same ids with (all but 64 of) a whole window before each. And
what reading again costs: tokens a second of the sampler over a whole window of ids, the choices taking turns.
"""

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from tqdm import tqdm

from benchmarks.measuring.timing import about, alternate, command, describe, ratio, table
from shortcut_gen.checkpoint import load_checkpoint
from shortcut_gen.decoding.engines import make_engine
from shortcut_gen.decoding.sampler import Sampler, Stream
from shortcut_gen.decoding.sampling import SamplingParams
from shortcut_gen.errors import DataError, SettingsError
from shortcut_gen.network.model import ShortcutLM
from training.corpus.joined import open_corpus
from training.corpus.shards import spread, write_json
from training.scoring.likelihood import check_ids

SPLIT = "test"
STEP = 64
"""Ids that are scored together with a whole window behind them."""
DEPTHS = (16, 64, 256)
"""Behind how many ids of a slide the cost is said; and behind all up to the next slide."""

Ids = NDArray[np.int64]
Losses = NDArray[np.float64]


def losses(model: ShortcutLM, before: Sequence[int], ids: Ids) -> Losses:
    """NLL in nats of each of ids behind what is before, (N,)."""
    read = torch.tensor([[*before, *ids[:-1].tolist()]])
    with torch.inference_mode():
        logits = model(read)[0, len(before) - 1 :].float()
        return F.cross_entropy(logits, torch.from_numpy(ids), reduction="none").double().numpy()


def whole(model: ShortcutLM, ids: Ids, at: int, count: int) -> Losses:
    """NLL of ids[at : at + count], each with at least the context less STEP ids before it."""
    parts = []
    for start in range(at, at + count, STEP):
        size = min(STEP, at + count - start)
        first = start + STEP - model.config.context
        parts.append(losses(model, ids[first:start].tolist(), ids[start : start + size]))
    return np.concatenate(parts)


def costs(sampler: Sampler, ids: Ids, at: int, full: Losses) -> dict[str, float]:
    """Nats a token more than `full` has, behind a slide at `at`, by how many ids behind it."""
    count = min(sampler.model.config.context - sampler.kept, len(full))
    behind = losses(sampler.model, sampler.tokenizer.clip(ids[:at].tolist(), sampler.kept), ids[at : at + count])
    more = behind - full[:count]
    return {**{str(n): float(more[:n].mean()) for n in DEPTHS if n <= count}, "all": float(more.mean())}


def speed(sampler: Sampler, prompts: Sequence[Sequence[int]], processor: bool) -> Callable[[], float]:
    """Times the sampler over a whole window of ids behind prompts that fill it: tokens a second, of the clock or of
    the processor."""
    context = sampler.model.config.context
    now = time.process_time if processor else time.perf_counter

    def timed() -> float:
        streams = [Stream(prompt=tuple(prompt), variation=k) for k, prompt in enumerate(prompts)]
        steps = sampler.stream(streams, SamplingParams(max_tokens=context + 1, top_p=0.98))
        next(steps)  # the prompts are read
        began = now()
        for _ in steps:
            pass
        return context * len(prompts) / (now() - began)

    return timed


def mean(values: Sequence[float]) -> str:
    """Mean and the half width of its 95% interval."""
    return f"{np.mean(values):+.4f} ± {1.96 * np.std(values) / len(values) ** 0.5:.4f}"


def main(
    checkpoint: str,
    data: Sequence[str],
    dropped: Sequence[float] = (0.5, 0.75, 0.25, 0.125),
    pieces: int = 100,
    rounds: int = 5,
    rows: int = 1,
    processor: bool = False,
    json: Path | None = None,
) -> None:
    """Measure and print.

    Args:
        checkpoint: Checkpoint folder.
        data: Folder of the corpus; of several, to take pieces of all.
        dropped: Shares of the window that a slide drops; times are ratios to the first's.
        pieces: Pieces of the test split to slide in, one place in each.
        rounds: Rounds of the timing; 0 leaves it out.
        rows: Streams that are timed side by side.
        processor: Take the processor's time, for one thread beside other work.
        json: File to write.
    """
    for name, value, least in (("pieces", pieces, 2), ("rounds", rounds, 0), ("rows", rows, 1)):
        if value < least:
            raise SettingsError(f"{name} is {value}; a whole number of at least {least} is needed")
    if not dropped:
        raise SettingsError("dropped is empty; at least one share is needed")
    machine = about()
    loaded = load_checkpoint(checkpoint)
    corpus = open_corpus(data)
    check_ids(corpus, Path(checkpoint), loaded.info)
    model, tokenizer = loaded.model.eval(), loaded.tokenizer
    engine = make_engine(model, "auto", None)
    samplers = {share: Sampler(model, tokenizer, engine, share) for share in dropped}
    context = model.config.context
    behind = context - min(sampler.kept for sampler in samplers.values())
    split = corpus.split(SPLIT)
    chosen = [place for place, piece in enumerate(split.pieces) if piece.tokens >= context + behind + STEP]
    chosen = [chosen[place] for place in spread(len(chosen), pieces)]
    if len(chosen) < max(2, rows):
        raise DataError(
            f"{corpus.folder}: its {SPLIT} split has {len(chosen)} pieces of {context + behind + STEP} tokens or more; "
            f"{max(2, rows)} are needed"
        )
    found: dict[float, list[dict[str, float]]] = {share: [] for share in dropped}
    prompts = []
    for place in tqdm(chosen, desc="sliding", disable=None):
        ids = split[place][1].astype(np.int64)
        at = (len(ids) - behind + context) // 2 // tokenizer.frame * tokenizer.frame
        prompts.append(tokenizer.clip(ids[:at].tolist(), context - 1))
        full = whole(model, ids, at, behind)
        for share, sampler in samplers.items():
            found[share].append(costs(sampler, ids, at, full))
    timed = {share: speed(sampler, prompts[:rows], processor) for share, sampler in samplers.items()}
    taken = alternate(timed, rounds) if rounds else {share: [] for share in dropped}
    print(f"{describe(machine)}; engine {engine.name}, {engine.precision}\n")
    print(f"nats a token more than with a whole window, {len(chosen)} pieces of {corpus.name}, mean and 95% interval\n")
    lines = [["dropped", *(f"first {n}" for n in DEPTHS), "to the next slide", "tokens/s, of the first's"]]
    told = []
    for share, each in found.items():
        columns = {key: [one[key] for one in each] for key in each[0]}
        times = ratio(taken[share], taken[dropped[0]]) if rounds else None
        cells = [mean(columns[str(n)]) if str(n) in columns else "" for n in DEPTHS]
        lines.append([f"{share:g}", *cells, mean(columns["all"]), times.text(".3f") if times else ""])
        row: dict[str, Any] = {"dropped": share, "more": {key: float(np.mean(v)) for key, v in columns.items()}}
        told.append(row | ({"speed": times.to_dict(), "tokens_per_second": max(taken[share])} if times else {}))
    print(table(lines))
    if json:
        shape = {"checkpoint": Path(checkpoint).name, "corpus": corpus.name, "pieces": len(chosen), "rows": rows}
        write_json(json, {"machine": machine, **shape, "choices": told})


if __name__ == "__main__":
    sys.exit(command(main))
