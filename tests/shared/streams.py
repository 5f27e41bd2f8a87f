"""A small model with weights that matter, a sampler of it on any engine, and the ids that it draws."""

from collections.abc import Iterator

import torch

from shortcut_gen.decoding.engines import Engine, TorchEngine
from shortcut_gen.decoding.native import NativeEngine
from shortcut_gen.decoding.sampler import Sampler
from shortcut_gen.modalities.piano import PianoTokenizer
from shortcut_gen.network.config import ModelConfig
from shortcut_gen.network.model import ShortcutLM


def model(context: int = 48) -> ShortcutLM:
    torch.manual_seed(3)
    config = ModelConfig(
        context=context, layers=4, width=16, heads=2, feedforward=32, taps=(1, 2), feature_hidden=16, shortcut_heads=4
    )
    lm = ShortcutLM(config)
    with torch.no_grad():
        for parameter in lm.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return lm.eval()


def sampler(engine: str = "torch", context: int = 48) -> Sampler:
    lm = model(context)
    made: Engine = TorchEngine(lm, graphs=engine == "static")
    if engine in ("f32", "bf16", "int8"):
        made = NativeEngine(lm, precision=engine, threads=1)  # type: ignore[arg-type]
    return Sampler(lm, PianoTokenizer(), made)


def ids_of(steps: Iterator[tuple[int | None, ...]], streams: int = 1) -> list[list[int]]:
    made: list[list[int]] = [[] for _ in range(streams)]
    for step in steps:
        for ids, token in zip(made, step, strict=True):
            if token is not None:
                ids.append(token)
    return made
