"""What a round of exact speculation costs the native engine: drafting with the first blocks, verifying in one pass."""

import dataclasses
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

from shortcut_gen.model import ShortcutLM
from shortcut_gen.native import NativeEngine, Precision

PRECISIONS: tuple[Precision, ...] = ("f32", "bf16", "int8")


def measure(model: ShortcutLM, blocks: Sequence[int], most: int, threads: int, rounds: int) -> list[dict[str, Any]]:
    """Of each precision: seconds of a step in the middle of the context, and what else costs, in steps of its own.

    `drafts[b]` is a step of the first b blocks and the output matrix (a head's own layers are left out, to its
    advantage); `verify[k]` is a pass over k + 1 tokens with all their logits. Medians of rounds, all in turn.
    """
    return [_measure(model, blocks, most, threads, rounds, precision) for precision in PRECISIONS]


def _measure(
    model: ShortcutLM, blocks: Sequence[int], most: int, threads: int, rounds: int, precision: Precision
) -> dict[str, Any]:
    config = model.config
    engines = {0: NativeEngine(model, precision=precision, threads=threads)}
    for block in blocks:
        shape = dataclasses.replace(config, layers=block, taps=(), attend_current=False, residual_mlps=())
        engines[block] = NativeEngine(ShortcutLM(shape), precision=precision, threads=threads)
    middle = config.context // 2
    text = [token % config.vocab_size for token in range(middle + most + 1)]
    decodings = {block: engine.decoding(1) for block, engine in engines.items()}
    for decoding in decodings.values():
        decoding.read(0, text[:middle])

    def reader(count: int) -> Callable[[], object]:
        return lambda: decodings[0].read(0, text[middle : middle + count], start=middle, every=True)

    def stepper(block: int) -> Callable[[], object]:
        return lambda: decodings[block].step(text[middle : middle + 1])

    work = {f"read {count}": reader(count) for count in range(1, most + 2)}
    work |= {f"step {block}": stepper(block) for block in decodings}
    taken: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(rounds):
        for name, do in work.items():
            if name.startswith("step"):  # from the middle again
                decoding = decodings[int(name.split()[1])]
                decoding.read(0, text[middle - 1 : middle], start=middle - 1)
            began = time.perf_counter()
            do()
            taken[name].append(time.perf_counter() - began)
    seconds = {name: statistics.median(times) for name, times in taken.items()}
    step = seconds["step 0"]
    handing = seconds["read 1"] - step  # what `read` costs beside the pass, as it makes its arrays anew
    return {
        "precision": precision,
        "step": step,
        "drafts": {block: seconds[f"step {block}"] / step for block in blocks},
        "verify": {k: (seconds[f"read {k + 1}"] - handing) / step for k in range(1, most + 1)},
    }
