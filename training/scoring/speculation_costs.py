"""What a round of exact speculation costs the native engine: drafting with the first blocks, verifying in one pass."""

import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from typing import Any

from shortcut_gen.decoding.native import NativeEngine, Precision
from shortcut_gen.decoding.sampling import SamplingParams
from shortcut_gen.network.config import ModelConfig
from shortcut_gen.network.model import ShortcutLM

PRECISIONS: tuple[Precision, ...] = ("f32", "bf16", "int8")


def measure(
    model: ShortcutLM, blocks: Sequence[int], hidden: int, most: int, threads: int, rounds: int
) -> list[dict[str, Any]]:
    """Of each precision: seconds of a step in the middle of the context, and what else costs, in steps of its own.

    `drafts[b]` is a step of the first b blocks and a head with an MLP so wide; `verify[k]` is a pass over k + 1 tokens,
    an id drawn from each. All with the draw at temperature 1 and what Python does, in turn, round by round; of the
    rounds a tenth was faster than what is said, as other processes lengthen many.
    """
    return [_measure(model, blocks, hidden, most, threads, rounds, precision) for precision in PRECISIONS]


def _measure(
    model: ShortcutLM, blocks: Sequence[int], hidden: int, most: int, threads: int, rounds: int, precision: Precision
) -> dict[str, Any]:
    config, params = model.config, SamplingParams(max_tokens=1)
    engines = {0: NativeEngine(model, precision=precision, threads=threads)}
    for block in blocks:
        engines[block] = NativeEngine(_first(config, block, hidden), precision=precision, threads=threads)
    middle = config.context // 2
    text = [token % config.vocab_size for token in range(middle + most + 1)]
    decodings = {block: engine.decoding(1) for block, engine in engines.items()}
    for decoding in decodings.values():
        decoding.read(0, text[:middle])

    def reader(count: int) -> Callable[[], object]:
        tokens = text[middle : middle + count]

        def do() -> None:
            logits = decodings[0].read(0, tokens, start=middle, every=True)
            engines[0].choose(logits, [None] * count, params, [0.5] * count)

        return do

    def stepper(block: int) -> Callable[[], object]:
        return lambda: decodings[block].draw(text[middle : middle + 1], [None], params, [0.5])

    work = {f"read {count}": reader(count) for count in range(1, most + 2)}
    work |= {f"step {block}": stepper(block) for block in decodings}
    taken: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(rounds):
        for name, do in work.items():
            kind, number = name.split()
            # From the middle again, and with the weights where this model's last pass would have left them.
            decodings[int(number) if kind == "step" else 0].read(0, text[middle - 1 : middle], start=middle - 1)
            began = time.perf_counter()
            do()
            taken[name].append(time.perf_counter() - began)
    seconds = {name: sorted(times)[len(times) // 10] for name, times in taken.items()}
    step = seconds["step 0"]
    handing = seconds["read 1"] - step  # what `read` costs beside a step, as it makes its arrays anew
    return {
        "precision": precision,
        "step": step,
        "drafts": {block: seconds[f"step {block}"] / step for block in blocks},
        "verify": {k: (seconds[f"read {k + 1}"] - handing) / step for k in range(1, most + 1)},
    }


def _first(config: ModelConfig, block: int, hidden: int) -> ShortcutLM:
    """A model that costs what the first blocks and a head do: its residual MLP has as many weights as the head's."""
    width = config.width
    alike = round(math.sqrt(width**2 + 2 * width * hidden) - width)  # D·h + h·h + h·D = 2·D·hidden
    shape = dataclasses.replace(
        config,
        layers=block,
        taps=(),
        attend_current=False,
        feature_hidden=max(alike, 1),
        residual_mlps=(block,) if hidden else (),
    )
    return ShortcutLM(shape)
