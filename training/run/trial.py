"""What a trial beyond the paper changes about a model, as a config. `training.run.trials` has the models."""

import dataclasses
from dataclasses import dataclass, field, fields
from typing import Any, Literal, Self

from shortcut_gen.errors import ConfigError
from shortcut_gen.network.config import ModelConfig

KEY = "trial"
"""Of a config's plain values, where a trial's are."""
SWITCHES = ("depth_attention", "value_embeddings", "head_shares", "head_gates", "first_input")
"""Options of a trial that are on or off."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What a trial changes about a model. The defaults change nothing."""

    source_norms: bool = False
    """Each source of the shortcut block has its own norm, and with it a scale and a shift, in place of one for all."""
    shared_features: bool = False
    """One feature map for all taps. A vector for each source, added behind the norm, tells them apart."""
    depth: Literal["none", "stream", "qkv"] = "none"
    """Sums over all depths with a weight for each token and depth. `stream` (arXiv 2402.02622, the weights made
    dynamic as in 2502.12170): the inputs of the last two blocks and of the final norm are such sums. `qkv`
    (2502.12170): the inputs of the last block's queries, keys and values are three; its residual stays."""
    extra_heads: int = 0
    """Heads of width 16 that the last two blocks have besides their own, and that attend to `extra_taps`."""
    extra_taps: tuple[int, ...] = ()
    """Blocks (1-based) whose outputs, through a norm of each one's own, are the extra heads' keys and values."""
    added_taps: tuple[int, ...] = ()
    """Blocks (1-based) of which the last block attends to what they added to the stream, through a norm of each one's
    own, besides its self-attention: the paper's block as an addition, without MLPs, that says nothing at first."""
    depth_attention: bool = False
    """Before a block attends over time its queries attend over the keys of all blocks so far at their own position,
    its own among them; the mix of those blocks' values is what is attended to over time (arXiv 2606.05014)."""
    value_embeddings: bool = False
    """The values of every block are mixed, in learned shares, with an embedding of the token (arXiv 2606.02780)."""
    head_shares: bool = False
    """The first block's values are mixed into those above as by `value_residual`, in shares of each head's own."""
    head_gates: bool = False
    """Each head's output is multiplied by 2σ of a linear map of the block's input, 1 at first."""
    first_input: bool = False
    """The token's embedding is added to the input of every block above the first, in learned shares, 0 at first."""

    def __post_init__(self) -> None:
        for name in ("extra_taps", "added_taps"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        for name in SWITCHES:
            if not isinstance(getattr(self, name), bool):
                raise ConfigError(f"trial {name} is {getattr(self, name)!r}; true or false is needed")
        if self.depth not in ("none", "stream", "qkv"):
            raise ConfigError(f"trial depth is {self.depth!r}; one of none, stream, qkv is needed")
        if self.extra_heads < 0 or bool(self.extra_heads) != bool(self.extra_taps):
            raise ConfigError(
                f"trial extra_heads is {self.extra_heads} and extra_taps {self.extra_taps}; both or neither are needed"
            )

    @property
    def of_the_stack(self) -> bool:
        """Whether it changes ordinary blocks, not the shortcut block."""
        return self.depth != "none" or any(getattr(self, part) for part in ("extra_heads", "added_taps", *SWITCHES))

    def to_dict(self) -> dict[str, Any]:
        """Plain values of what is not at its default."""
        changed = {name: value for name, value in dataclasses.asdict(self).items() if value != getattr(PLAIN, name)}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in changed.items()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """The trial written by `to_dict`. Raises ConfigError."""
        known = [each.name for each in fields(cls)]
        if unknown := sorted(set(values) - set(known)):
            raise ConfigError(f"trial has the unknown key {unknown[0]!r}; known are {', '.join(known)}")
        try:
            return cls(**values)
        except TypeError as error:
            raise ConfigError(f"trial holds a value of the wrong type: {error}") from error


PLAIN = Trial()


@dataclass(frozen=True, kw_only=True)
class TrialConfig(ModelConfig):
    """A model's config with a trial. Where the trial changes nothing its plain values are a `ModelConfig`'s."""

    trial: Trial = field(default_factory=Trial)

    def __post_init__(self) -> None:
        super().__post_init__()
        trial = self.trial
        if (trial.source_norms or trial.shared_features) and not self.taps:
            raise ConfigError("trial source_norms and shared_features are of the shortcut block; taps are needed")
        if trial.shared_features and self.features != "mlp":
            raise ConfigError(f"trial shared_features needs features mlp, not {self.features}")
        if trial.of_the_stack and (self.taps or self.residual_mlps or self.residual != "prenorm"):
            raise ConfigError(
                "a trial of the stack, such as depth and extra_heads, is of the baseline's blocks; no taps, no "
                "residual_mlps and residual prenorm are needed"
            )
        if trial.head_shares and self.value_residual:
            raise ConfigError("trial head_shares takes the place of value_residual; one of the two is needed")
        for name in ("extra_taps", "added_taps"):
            if any(tap not in range(1, self.layers) for tap in getattr(trial, name)):
                raise ConfigError(f"trial {name} are {getattr(trial, name)}; valid values are 1 to {self.layers - 1}")

    def to_dict(self) -> dict[str, Any]:
        """Plain values, the trial's where it changes something."""
        values = super().to_dict()
        del values[KEY]
        return values | ({KEY: self.trial.to_dict()} if self.trial != PLAIN else {})

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """The config written by `to_dict`. Raises ConfigError."""
        return super().from_dict(values | {KEY: Trial.from_dict(dict(values.get(KEY) or {}))})


def with_trial(config: ModelConfig, trial: Trial | None) -> ModelConfig:
    """The config with a trial; unchanged where there is none or it changes nothing. Raises ConfigError."""
    if trial is None or trial == PLAIN:
        return config
    return TrialConfig(**{each.name: getattr(config, each.name) for each in fields(ModelConfig)}, trial=trial)


def read_config(values: dict[str, Any]) -> ModelConfig:
    """The config of a run from its plain values, a trial's or the library's. Raises ConfigError."""
    return TrialConfig.from_dict(values) if values.get(KEY) else ModelConfig.from_dict(values)
