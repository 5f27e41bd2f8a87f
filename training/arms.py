"""The arms of an experiment: one base model, the shortcut model, turned into each model it is compared with.

A trial is one more entry of `ARMS`: a function from the base's config to the trial's.
"""

import functools
from collections.abc import Callable
from dataclasses import replace

import torch

from shortcut_gen.config import ModelConfig
from shortcut_gen.errors import ConfigError, SettingsError
from shortcut_gen.model import ShortcutLM

Arm = Callable[[ModelConfig], ModelConfig]

FEEDFORWARD_STEP = 8
"""Sizes of feed-forward layers tried for a match: matrix products in bf16 run best at multiples of 8."""


@functools.cache
def sizes(config: ModelConfig, length: int) -> tuple[int, int, int]:
    """Parameters without embeddings, with them, and FLOPs per token in windows of that length; no weight is made."""
    with torch.device("meta"):
        model = ShortcutLM(config)
    return model.num_parameters(), model.num_parameters(embedding=True), model.flops_per_token(length)


def baseline(base: ModelConfig) -> ModelConfig:
    """Ordinary self-attention in the last block."""
    return replace(base, taps=(), attend_current=False)


def middle(base: ModelConfig) -> ModelConfig:
    """One tap, at half depth."""
    return replace(base, taps=(max(base.layers // 2, 1),))


def wide(base: ModelConfig) -> ModelConfig:
    """The baseline with more heads of the same width, made as large as the shortcut model."""
    head = base.width // base.heads

    def with_heads(heads: int) -> ModelConfig:
        width = heads * head
        return replace(baseline(base), heads=heads, width=width, feedforward=width * base.feedforward // base.width)

    return _as_large(base, with_heads)


def deep(base: ModelConfig) -> ModelConfig:
    """The baseline with more blocks, made as large as the shortcut model."""
    return _as_large(base, lambda layers: replace(baseline(base), layers=layers))


def feedforward(base: ModelConfig) -> ModelConfig:
    """The baseline with larger feed-forward layers, made as large as the shortcut model."""
    return _as_large(base, lambda size: replace(baseline(base), feedforward=FEEDFORWARD_STEP * size))


def mlps(base: ModelConfig) -> ModelConfig:
    """The baseline with the feature MLPs as ordinary residual layers behind the blocks that are tapped."""
    return replace(baseline(base), residual_mlps=base.taps)


ARMS: dict[str, Arm] = {
    "baseline": baseline,
    "shortcut": lambda base: base,
    "shortcut-identity": lambda base: replace(base, features="identity"),
    "shortcut-middle": middle,
    "shortcut-current": lambda base: replace(base, attend_current=True),
    "shortcut-literal": lambda base: replace(base, residual="literal"),
    "wide": wide,
    "deep": deep,
    "feedforward": feedforward,
    "mlps": mlps,
}
"""Every arm by its name, first the paper's two."""


def model_of(name: str, base: ModelConfig) -> ModelConfig:
    """The model of an arm. Raises SettingsError for an unknown one, ConfigError where the base has no shortcut."""
    if name not in ARMS:
        raise SettingsError(f"unknown arm {name!r}; known are {', '.join(ARMS)}")
    if not base.taps:
        raise ConfigError("the base model has no taps; arms are made from a model with the shortcut")
    return ARMS[name](base)


def _as_large(base: ModelConfig, of_size: Callable[[int], ModelConfig]) -> ModelConfig:
    """Of the models of size 1, 2, 3 and so on, the one whose parameters without embeddings are nearest the base's."""

    def count(size: int) -> int:
        return sizes(of_size(size), base.context)[0]

    goal = sizes(base, base.context)[0]
    high = 1
    while count(high) < goal:
        high *= 2
    low = high // 2 + 1  # the smallest size not below the goal lies from here to high
    while low < high:
        half = (low + high) // 2
        low, high = (low, half) if count(half) >= goal else (half + 1, high)
    below = max(high - 1, 1)
    return of_size(below if goal - count(below) < count(high) - goal else high)
