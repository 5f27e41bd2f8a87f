"""The arms of an experiment: one base model, the shortcut model, turned into each model it is compared with.

`ARMS` are the paper's comparison, `TRIALS` what was tried beyond it; one more is a function from the base's config to
its own. `matched:NAME` is the baseline made large enough to be compared with the arm NAME.
"""

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from shortcut_gen.errors import ConfigError, SettingsError
from shortcut_gen.network.config import ModelConfig
from training.run.trials import Trial, build, with_trial

Arm = Callable[[ModelConfig], ModelConfig]

FEEDFORWARD_STEP = 8
"""Sizes of feed-forward layers tried for a match: matrix products in bf16 run best at multiples of 8."""


@functools.cache
def sizes(config: ModelConfig, length: int) -> tuple[int, int, int]:
    """Parameters without embeddings, with them, and FLOPs per token in windows of that length; no weight is made."""
    with torch.device("meta"):
        model = build(config)
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
"""The arms of the paper's comparison by their names, first the paper's two."""


def _current(base: ModelConfig, trial: Trial | None = None, **changes: Any) -> ModelConfig:
    """The last block attends to its own input too, which is self-attention with the taps added."""
    return with_trial(replace(base, attend_current=True, **changes), trial)


def _plain(base: ModelConfig, **changes: Any) -> ModelConfig:
    """The baseline with a trial."""
    return with_trial(baseline(base), Trial(**changes))


def _value_residual(base: ModelConfig) -> ModelConfig:
    """The baseline with the first block's values mixed into those above."""
    return replace(baseline(base), value_residual=True)


TRIALS: dict[str, Arm] = {
    "current-small": lambda base: _current(base, feature_hidden=128),
    "current-identity": lambda base: _current(base, Trial(source_norms=True), features="identity"),
    "identity-value": lambda base: _current(base, Trial(source_norms=True), features="identity", value_residual=True),
    "shared-256": lambda base: _current(base, Trial(shared_features=True), features="mlp", feature_hidden=256),
    "depth": lambda base: _plain(base, depth="stream"),
    "value-residual": _value_residual,
    "shortcut-value": lambda base: replace(base, value_residual=True),
    "extra-heads": lambda base: _plain(base, extra_heads=4, extra_taps=base.taps),
    "depth-value": lambda base: with_trial(_value_residual(base), Trial(depth="stream")),
    "muddformer-kv": lambda base: _plain(base, depth="qkv"),
}
"""Trials beyond the paper by their names; training/run/trials.py says what each changes."""
MATCHED = "matched:"
KNOWN = (*ARMS, *TRIALS, *(f"{MATCHED}{name}" for name in (*TRIALS, *ARMS)))
"""The names of all arms, in the order of tables."""


def model_of(name: str, base: ModelConfig) -> ModelConfig:
    """The model of an arm. Raises SettingsError for an unknown one, ConfigError where the base has no shortcut."""
    if name not in KNOWN:
        raise SettingsError(f"unknown arm {name!r}; known are {', '.join((*ARMS, *TRIALS))} and {MATCHED}NAME of each")
    if not base.taps:
        raise ConfigError("the base model has no taps; arms are made from a model with the shortcut")
    if name.startswith(MATCHED):
        return _no_smaller(model_of(name.removeprefix(MATCHED), base), base)
    return (ARMS | TRIALS)[name](base)


def _no_smaller(model: ModelConfig, base: ModelConfig) -> ModelConfig:
    """The baseline with the smallest feed-forward layers that leave it no smaller and no cheaper than a model.

    It has at least the model's parameters without embeddings and its FLOPs per token in a window of the whole context;
    of one of the two it may so have more.
    """

    def of_size(size: int) -> ModelConfig:
        return replace(baseline(base), feedforward=FEEDFORWARD_STEP * size)

    parameters, _, flops = sizes(model, base.context)

    def enough(size: int) -> bool:
        own = sizes(of_size(size), base.context)
        return own[0] >= parameters and own[2] >= flops

    return of_size(_smallest(enough))


def _as_large(base: ModelConfig, of_size: Callable[[int], ModelConfig]) -> ModelConfig:
    """Of the models of size 1, 2, 3 and so on, the one whose parameters without embeddings are nearest the base's."""

    def count(size: int) -> int:
        return sizes(of_size(size), base.context)[0]

    goal = sizes(base, base.context)[0]
    above = _smallest(lambda size: count(size) >= goal)
    below = max(above - 1, 1)
    return of_size(below if goal - count(below) < count(above) - goal else above)


def _smallest(enough: Callable[[int], bool]) -> int:
    """The smallest of 1, 2, 3 and so on that is enough; all above it must be too."""
    high = 1
    while not enough(high):
        high *= 2
    low = high // 2 + 1  # the smallest lies from here to high
    while low < high:
        half = (low + high) // 2
        low, high = (low, half) if enough(half) else (half + 1, high)
    return high
