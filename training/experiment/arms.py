"""The arms of an experiment: one base model, the shortcut model, turned into each model it is compared with.

`TABLE` has them all: the paper's comparison, and the trials beyond it. One more is a line there with a function from
the base's config to its own. `matched:NAME` is the baseline made large enough to be compared with the arm NAME.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch

from shortcut_gen.errors import ConfigError, SettingsError
from shortcut_gen.network.config import ModelConfig
from training.run.trials import Trial, build, with_trial


@dataclass(frozen=True, kw_only=True)
class Arm:
    """A model that is trained and scored under the same settings as the others."""

    make: Callable[[ModelConfig], ModelConfig]
    """Its config, from the base's."""
    about: str
    """What it is, in words."""
    control: bool = False
    """It is without any shortcut."""
    equal_size: bool = False
    """It is made as large as the shortcut model."""
    trial: bool = False
    """It is no part of the paper's comparison."""
    family: str = ""
    """Of arms on another baseline than the paper's: which. An arm's rivals are the controls of its own family."""


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


def _current(base: ModelConfig, trial: Trial | None = None, **changes: Any) -> ModelConfig:
    """The last block attends to its own input too, which is self-attention with the taps added."""
    return with_trial(replace(base, attend_current=True, **changes), trial)


def _plain(base: ModelConfig, **changes: Any) -> ModelConfig:
    """The baseline with a trial."""
    return with_trial(baseline(base), Trial(**changes))


def _half(heads: int) -> int:
    return max(heads // 2, 1)


def _value_residual(base: ModelConfig) -> ModelConfig:
    """The baseline with the first block's values mixed into those above."""
    return replace(baseline(base), value_residual=True)


def _gated(base: ModelConfig) -> ModelConfig:
    """SwiGLU in place of GELU, with as many weights: three matrices of two thirds of the size."""
    size = FEEDFORWARD_STEP * max(round(2 * base.feedforward / 3 / FEEDFORWARD_STEP), 1)
    return replace(base, activation="swiglu", feedforward=size)


def _strong(base: ModelConfig) -> ModelConfig:
    """The shortcut model with what later Transformers have: rotary positions and SwiGLU."""
    return replace(_gated(base), position="rotary")


TABLE: dict[str, Arm] = {
    "baseline": Arm(make=baseline, about="the ordinary Transformer", control=True),
    "shortcut": Arm(make=lambda base: base, about="the paper's model: the last block attends to taps"),
    "shortcut-identity": Arm(make=lambda base: replace(base, features="identity"), about="taps without MLPs"),
    "shortcut-middle": Arm(make=middle, about="one tap, of the block at half depth"),
    "shortcut-current": Arm(
        make=lambda base: replace(base, attend_current=True), about="the last block attends to its own input too"
    ),
    "shortcut-literal": Arm(
        make=lambda base: replace(base, residual="literal"), about="the residual as the paper prints it"
    ),
    "wide": Arm(make=wide, about="baseline, as large as shortcut by width", control=True, equal_size=True),
    "deep": Arm(make=deep, about="baseline, as large as shortcut by depth", control=True, equal_size=True),
    "feedforward": Arm(
        make=feedforward, about="baseline, as large as shortcut by its blocks' MLPs", control=True, equal_size=True
    ),
    "mlps": Arm(make=mlps, about="shortcut's MLPs as residual layers, no shortcut", control=True, equal_size=True),
    "current-small": Arm(
        make=lambda base: _current(base, feature_hidden=128),
        about="the last block attends to its own input and to taps through MLPs of 128",
        trial=True,
    ),
    "current-identity": Arm(
        make=lambda base: _current(base, Trial(source_norms=True), features="identity"),
        about="the last block attends to its own input and to taps as they are, each through its own norm",
        trial=True,
    ),
    "identity-value": Arm(
        make=lambda base: _current(base, Trial(source_norms=True), features="identity", value_residual=True),
        about="current-identity and value-residual together",
        trial=True,
    ),
    "shared-256": Arm(
        make=lambda base: _current(base, Trial(shared_features=True), features="mlp", feature_hidden=256),
        about="the last block attends to its own input and to taps through one MLP of 256 for all",
        trial=True,
    ),
    "depth": Arm(
        make=lambda base: _plain(base, depth="stream"),
        about="baseline, but the last two blocks and the final norm read sums over all depths, weighted token by token",
        trial=True,
    ),
    "value-residual": Arm(
        make=_value_residual,
        about="baseline, but the values of every block above the first are mixed with the first's",
        trial=True,
    ),
    "shortcut-value": Arm(
        make=lambda base: replace(base, value_residual=True), about="shortcut and value-residual together", trial=True
    ),
    "extra-heads": Arm(
        make=lambda base: _plain(base, extra_heads=_half(base.heads), extra_taps=base.taps),
        about="baseline with half as many heads more in the last two blocks, which attend to taps",
        trial=True,
    ),
    "extra-heads-value": Arm(
        make=lambda base: with_trial(_value_residual(base), Trial(extra_heads=_half(base.heads), extra_taps=base.taps)),
        about="extra-heads and value-residual together",
        trial=True,
    ),
    "depth-value": Arm(
        make=lambda base: with_trial(_value_residual(base), Trial(depth="stream")),
        about="depth and value-residual together",
        trial=True,
    ),
    "muddformer-kv": Arm(
        make=lambda base: _plain(base, depth="qkv"),
        about="baseline, but the last block's queries, keys and values read three such sums over all depths",
        trial=True,
    ),
    "depth-attention": Arm(
        make=lambda base: _plain(base, depth_attention=True),
        about="baseline, but each block's values are mixed with those of all blocks below by attention over depth",
        trial=True,
    ),
    "depth-attention-value": Arm(
        make=lambda base: with_trial(_value_residual(base), Trial(depth_attention=True)),
        about="depth-attention and value-residual together",
        trial=True,
    ),
    "additive-taps": Arm(
        make=lambda base: _plain(base, added_taps=base.taps),
        about="baseline, but the last block attends to what tapped blocks added as well, without MLPs",
        trial=True,
    ),
    "additive-taps-value": Arm(
        make=lambda base: with_trial(_value_residual(base), Trial(added_taps=base.taps)),
        about="additive-taps and value-residual together",
        trial=True,
    ),
    "value-embeddings": Arm(
        make=lambda base: _plain(base, value_embeddings=True),
        about="baseline, but the values of every block are mixed with an embedding of the token",
        trial=True,
    ),
    "value-residual-heads": Arm(
        make=lambda base: _plain(base, head_shares=True),
        about="value-residual with shares of each head's own",
        trial=True,
    ),
    "head-gates": Arm(
        make=lambda base: _plain(base, head_gates=True),
        about="baseline with a gate on each head, made from the block's input",
        control=True,
        trial=True,
        family="head-gates",
    ),
    "x0": Arm(
        make=lambda base: _plain(base, first_input=True),
        about="baseline with the embedding added to every block's input in learned shares",
        trial=True,
    ),
    "swiglu": Arm(
        make=lambda base: _gated(baseline(base)),
        about="baseline with SwiGLU of equal size",
        control=True,
        trial=True,
        family="swiglu",
    ),
    "strong": Arm(
        make=lambda base: baseline(_strong(base)),
        about="baseline with rotary positions and SwiGLU of equal size",
        control=True,
        trial=True,
        family="strong",
    ),
    "strong-shortcut": Arm(
        make=_strong, about="shortcut with rotary positions and SwiGLU", trial=True, family="strong"
    ),
    "strong-wide": Arm(
        make=lambda base: wide(_strong(base)),
        about="strong, as large as strong-shortcut by width",
        control=True,
        trial=True,
        family="strong",
    ),
    "strong-value": Arm(
        make=lambda base: _value_residual(_strong(base)),
        about="strong and value-residual together",
        trial=True,
        family="strong",
    ),
}
"""Every arm by its name, in the order of tables, first the paper's two. training/run/trials.py says what trials are."""
ARMS = tuple(name for name, arm in TABLE.items() if not arm.trial)
"""The paper's comparison."""
TRIALS = tuple(name for name, arm in TABLE.items() if arm.trial)
"""What was tried beyond it."""
EQUAL_SIZE = tuple(name for name, arm in TABLE.items() if arm.equal_size)
"""Arms made as large as the shortcut model, without its shortcut."""
CONTROLS = tuple(name for name, arm in TABLE.items() if arm.control and not arm.trial)
"""Arms of the paper's comparison without any shortcut."""
MATCHED = "matched:"
"""How the names of other controls begin: `matched:NAME` is a baseline no smaller than NAME."""
KNOWN = (*TABLE, *(f"{MATCHED}{name}" for name in (*TRIALS, *ARMS)))
"""The names of all arms, in the order of tables."""


def model_of(name: str, base: ModelConfig) -> ModelConfig:
    """The model of an arm. Raises SettingsError for an unknown one, ConfigError where the base has no shortcut."""
    if name not in KNOWN:
        raise SettingsError(f"unknown arm {name!r}; known are {', '.join(TABLE)} and {MATCHED}NAME of each")
    if not base.taps:
        raise ConfigError("the base model has no taps; arms are made from a model with the shortcut")
    if name.startswith(MATCHED):
        return _no_smaller(model_of(name.removeprefix(MATCHED), base), base)
    return TABLE[name].make(base)


def is_control(name: str) -> bool:
    """Whether an arm is without any shortcut."""
    return name.startswith(MATCHED) or (name in TABLE and TABLE[name].control)


def family(name: str) -> str:
    """The baseline that an arm stands on: empty for the paper's."""
    return TABLE[name].family if name in TABLE else ""


def described(name: str) -> str:
    """What an arm is, in words. Raises SettingsError for an unknown one."""
    if name.startswith(MATCHED):
        return f"baseline with feed-forward layers that make it no smaller than {name.removeprefix(MATCHED)}"
    if name not in TABLE:
        raise SettingsError(f"unknown arm {name!r}; known are {', '.join(TABLE)}")
    return TABLE[name].about


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
