"""The floor under decoding: the bytes a step must read over the bandwidth at which they can be read; and what fills the
rest of a step.
"""

import math
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from benchmarks.decoding.ours import FreeTokenizer, our_engine
from benchmarks.decoding.round import prompts_of, random_model
from shortcut_gen.decoding.engines import Engine
from shortcut_gen.decoding.native.engine import Precision, bytes_a_position, kept
from shortcut_gen.decoding.native.library import chosen_level
from shortcut_gen.decoding.sampler import Sampler, Stream
from shortcut_gen.decoding.sampling import SamplingParams
from shortcut_gen.modalities import get_tokenizer
from shortcut_gen.network.config import ModelConfig
from shortcut_gen.network.model import ShortcutLM

WEIGHT_BYTES: dict[Precision, int] = {"f32": 4, "bf16": 2, "int8": 1}
TOP_P = {"free": 1.0, "piano": 0.95}
"""With no grammar, as the peers; and with that of music, as the page plays it."""
CHUNK = 64
"""Steps that are timed together, to see how a step grows with what it attends to."""


def step_bytes(config: ModelConfig, precision: Precision, batch: int, positions: float) -> float:
    """Bytes that a step reads: every weight but the table of positions, of which it reads a row, and the keys and
    values of so many positions in each row of the batch.
    """
    with torch.device("meta"):
        shapes = {name: tuple(parameter.shape) for name, parameter in ShortcutLM(config).named_parameters()}
    weights = 0.0
    for name, shape in shapes.items():
        if name.startswith("positions"):
            continue
        count = math.prod(shape)
        matrix = len(shape) > 1 and ".biases." not in name
        weights += count * (WEIGHT_BYTES[precision] if matrix else 4)
        if matrix and precision == "int8":
            rows = shape[0] * shape[2] if len(shape) == 3 else shape[0]  # a scale for each row of the product
            weights += 4 * rows
    return weights + batch * positions * bytes_a_position(config, kept(precision, chosen_level()))


def reader(threads: int, device: str = "cpu") -> Callable[..., dict[str, Any]]:
    """A worker that reads a buffer over and over: torch's vectorised sum, the fastest reading of several tried."""
    torch.set_num_threads(threads)
    buffers: dict[int, Tensor] = {}
    graphs: dict[int, torch.cuda.CUDAGraph] = {}

    def read_there(size: int, times: int = 50) -> dict[str, Any]:
        """The same on a GPU: so many readings in one graph, so that launching them takes no time."""
        buffer = buffers.setdefault(size, torch.ones(max(size // 4, 1), device=device))
        if size not in graphs:
            buffer.sum()
            graphs[size] = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graphs[size]):
                for _ in range(times):
                    buffer.sum()
        torch.cuda.synchronize()
        began = time.perf_counter()
        graphs[size].replay()
        torch.cuda.synchronize()
        return {"seconds": (time.perf_counter() - began) / times}

    def read(size: int, times: int = 200) -> dict[str, Any]:
        """Seconds that one reading of `size` bytes takes: the median of so many."""
        buffer = buffers.setdefault(size, torch.ones(max(size // 4, 1)))
        taken = []
        for _ in range(times):
            began = time.perf_counter()
            buffer.sum()
            taken.append(time.perf_counter() - began)
        return {"seconds": statistics.median(taken)}

    return read if device == "cpu" else read_there


def parts(
    config: dict[str, Any], threads: int, engine: str, precision: str | None = None, device: str = "cpu"
) -> Callable[..., dict[str, Any]]:
    """A worker that takes an engine's decoding apart."""
    shape = ModelConfig.from_dict(config)
    torch.set_num_threads(threads)
    model = random_model(shape).to(device)
    made = our_engine(model, engine, precision)
    small = ModelConfig(
        vocab_size=16,
        context=shape.context,
        layers=1,
        width=16,
        heads=1,
        feedforward=16,
        taps=(),
        position=shape.position,
    )
    tiny = our_engine(random_model(small).to(device), engine, precision)
    piano = get_tokenizer("piano")
    tokenizers: dict[str, Any] = {"free": FreeTokenizer(shape.vocab_size)}
    if shape.vocab_size == piano.vocab_size:
        tokenizers["piano"] = piano

    def measure(batch: int, prompt: int, new: int, top_k: int, seed: int) -> dict[str, Any]:
        """Seconds of a step behind the prompt, and shares of it; all are medians of the steps."""
        prompts = prompts_of(shape.vocab_size, batch, prompt, seed)
        streams = [Stream(prompt=tuple(ids), seed=seed, variation=row) for row, ids in enumerate(prompts)]
        computing = list(_steps(made, prompts, new))
        whole = {}
        for name, tokenizer in tokenizers.items():
            params = SamplingParams(seed=seed, max_tokens=new, top_k=top_k, top_p=TOP_P[name])
            stream = Sampler(model, tokenizer, made).stream(streams, params)
            next(stream)  # the prompt is read, and the first id chosen
            whole[name] = statistics.median(_times(stream))
        step = whole["free"]
        result = {f"sampling_{name}": 1 - statistics.median(computing) / seconds for name, seconds in whole.items()}
        handed = statistics.median(_steps(tiny, [[0]] * batch, min(new, 200)))
        return {"step": step, **result, **_apart(computing, prompt, step), "handing_over": handed / step}

    return measure


def _steps(engine: Engine, prompts: list[list[int]], new: int) -> Iterator[float]:
    """How long each step behind the prompts takes where nothing is chosen: the first ids come again."""
    decoding = engine.decoding(len(prompts))
    for row, ids in enumerate(prompts):
        decoding.read(row, ids)
    tokens = [ids[0] for ids in prompts]
    for _ in range(new - 1):
        began = time.perf_counter()
        decoding.step(tokens)
        if torch.cuda.is_initialized():
            torch.cuda.synchronize()
        yield time.perf_counter() - began


def _times(stream: Iterator[Any]) -> Iterator[float]:
    """How long each item of a stream takes to come."""
    began = time.perf_counter()
    for _ in stream:
        yield time.perf_counter() - began
        began = time.perf_counter()


def _apart(taken: list[float], prompt: int, step: float) -> dict[str, float]:
    """What grows with the positions attended to, as a share of a step: a line through the medians of chunks."""
    starts = range(0, len(taken) - CHUNK + 1, CHUNK)
    if len(starts) < 2:
        return {}
    middles = [prompt + start + CHUNK / 2 for start in starts]
    line = statistics.linear_regression(middles, [statistics.median(taken[at : at + CHUNK]) for at in starts])
    return {"attention": line.slope * (prompt + len(taken) / 2) / step}
