"""Trials beyond the paper: changes to the model that may lose, and so are no options of the library's.

A `TrialLM` trains and scores whole windows and has no decode cache. The arms in `training.experiment.arms` name the
trials; one that wins moves into the library.
"""

import dataclasses
from dataclasses import dataclass, field, fields
from typing import Any, Literal, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from shortcut_gen.errors import ConfigError
from shortcut_gen.network.attention import prefix_attention
from shortcut_gen.network.cache import KVCache
from shortcut_gen.network.config import ModelConfig
from shortcut_gen.network.model import INIT_STD, Attention, Block, FeatureMaps, LayerShortcut, ShortcutLM, Step

KEY = "trial"
"""Of a config's plain values, where a trial's are."""
HEAD_WIDTH = 16
"""Of the extra heads."""
LAST = 2
"""Blocks at the end of the stack that get extra heads, or an input from all depths."""


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

    def __post_init__(self) -> None:
        object.__setattr__(self, "extra_taps", tuple(self.extra_taps))
        if self.depth not in ("none", "stream", "qkv"):
            raise ConfigError(f"trial depth is {self.depth!r}; one of none, stream, qkv is needed")
        if self.extra_heads < 0 or bool(self.extra_heads) != bool(self.extra_taps):
            raise ConfigError(
                f"trial extra_heads is {self.extra_heads} and extra_taps {self.extra_taps}; both or neither are needed"
            )

    @property
    def of_the_stack(self) -> bool:
        """Whether it changes ordinary blocks, not the shortcut block."""
        return self.depth != "none" or bool(self.extra_heads)

    def to_dict(self) -> dict[str, Any]:
        """Plain values of what is not at its default."""
        changed = {name: value for name, value in dataclasses.asdict(self).items() if value != getattr(PLAIN, name)}
        return changed | ({"extra_taps": list(self.extra_taps)} if self.extra_taps else {})

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
                "trial depth and extra_heads are of the baseline's blocks; no taps, no residual_mlps and residual "
                "prenorm are needed"
            )
        if any(tap not in range(1, self.layers) for tap in trial.extra_taps):
            raise ConfigError(f"trial extra_taps are {trial.extra_taps}; valid values are 1 to {self.layers - 1}")

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


def build(config: ModelConfig) -> ShortcutLM:
    """The model of a config with or without a trial."""
    return TrialLM(config) if isinstance(config, TrialConfig) and config.trial != PLAIN else ShortcutLM(config)


class TrialLM(ShortcutLM):
    """A model with a trial. It begins as the library's with the same random weights, and then draws its own."""

    config: TrialConfig

    def __init__(self, config: TrialConfig) -> None:
        super().__init__(config)
        trial, layers = config.trial, config.layers
        end = range(max(layers - LAST, 0), layers)  # the last blocks; number n has the outputs 0 to n below it
        summed = {"stream": [*end, layers], "qkv": [layers - 1], "none": []}[trial.depth]  # `layers`: the final norm
        streams = 3 if trial.depth == "qkv" else 1
        self.depths = nn.ModuleDict({str(n): DepthSum(config.width, n + 1, streams) for n in summed})
        below = {n: [tap for tap in trial.extra_taps if tap <= n] for n in end}
        self.extra = nn.ModuleDict({str(n): ExtraHeads(config, taps) for n, taps in below.items() if taps})
        added: list[nn.Module] = [self.depths, self.extra]
        if trial.source_norms or trial.shared_features:
            self.shortcut = TrialShortcut(config)
            added.append(self.shortcut)
        for module in added:
            _initialise(module, layers)

    def compute(self, tokens: Tensor, step: Step) -> Tensor:
        """As the library's, (B, T) to (B, T, V). Raises ConfigError where the step has caches."""
        if step.cache is not None:
            raise ConfigError("a trial reads whole windows; it has no decode cache, so nothing can be sampled from it")
        if not self.config.trial.of_the_stack:
            return super().compute(tokens, step)
        x = self.embedding(tokens)  # (B, T, D)
        if self.positions is not None:
            x = x + self.positions(step.positions)
        outputs = [self.drop(x)]
        for number, block in enumerate(self.blocks):
            assert isinstance(block, Block)
            outputs.append(self._block(number, block, outputs, step))
        (x,) = self._sums(len(self.blocks), outputs)
        return F.linear(self.norm(x), self.embedding.weight)  # (B, T, V)

    def _sums(self, number: int, outputs: list[Tensor]) -> list[Tensor]:
        """What is handed to block `number`, or to the final norm: the newest output, or one or three sums of all."""
        return self.depths[str(number)](outputs) if str(number) in self.depths else outputs[-1:]

    def _block(self, number: int, block: Block, outputs: list[Tensor], step: Step) -> Tensor:
        """A block's output from the outputs below it, (B, T, D) each."""
        name, sums = str(number), self._sums(number, outputs)
        x = sums[0] if len(sums) == 1 else outputs[-1]
        inputs = [block.attention_norm(value) for value in sums]  # one for all, or the queries', keys' and values'
        query, keys, values = _heads(block.attention, inputs, step)  # (B, T, H, E) each
        attended = block.attention.out(_attend(query, keys.unsqueeze(2), values.unsqueeze(2), block.attention, step))
        if name in self.extra:
            attended = attended + self.extra[name](inputs[0], outputs, step)
        x = x + block.drop(attended)
        return x + block.drop(block.mlp(block.mlp_norm(x)))

    def flops_per_token(self, length: int | None = None) -> int:
        """As the library's; and 6 for each source and entry of a weighted sum, and for a matrix used again."""
        config, length = self.config, length or self.config.context
        sums = [module for module in self.modules() if isinstance(module, DepthSum)]
        again = sum(depth.sources * depth.streams for depth in sums) * config.width
        for heads in self.extra.values():
            assert isinstance(heads, ExtraHeads)
            again += (len(heads.taps) - 1) * heads.keys_values.weight.numel()
            again += len(heads.taps) * heads.query.out_features * length
        if config.trial.shared_features:
            assert self.shortcut is not None and self.shortcut.features is not None
            again += (len(config.taps) - 1) * sum(weight.numel() for weight in self.shortcut.features.weights)
        return super().flops_per_token(length) + 6 * again


class TrialShortcut(LayerShortcut):
    """The shortcut block with norms of its sources' own, or with one feature map for all taps."""

    def __init__(self, config: TrialConfig) -> None:
        super().__init__(config)
        trial, sources = config.trial, config.sources
        if trial.shared_features:
            self.features = FeatureMaps(dataclasses.replace(config, taps=config.taps[:1]))
        # A list under this name takes no weight decay and no Muon, as the feature maps' own biases.
        vectors = sources if trial.shared_features else 0
        self.biases = nn.ParameterList([nn.Parameter(torch.zeros(config.width)) for _ in range(vectors)])
        norms = sources if trial.source_norms else 1
        self.features_norms = nn.ModuleList([nn.LayerNorm(config.width) for _ in range(norms)])
        del self.features_norm

    def forward(self, x: Tensor, tapped: list[Tensor], step: Step, cache: KVCache | None) -> Tensor:
        """x: (B, T, D); tapped: L values of (B, T, D). Returns (B, T, D)."""
        sources = tapped
        if self.features is not None and len(self.features.weights[0]) == 1:
            mapped = self.features([torch.cat(tapped)])  # (L*B, T, 1, D)
            sources = list(mapped.squeeze(2).chunk(len(tapped)))  # L of (B, T, D)
        elif self.features is not None:
            sources = list(self.features(tapped).unbind(2))
        if self.attend_current:
            sources = [*sources, x.to(sources[0].dtype)]
        norms = list(self.features_norms) * (len(sources) if len(self.features_norms) == 1 else 1)
        sources = [norm(source) for norm, source in zip(norms, sources, strict=True)]
        if len(self.biases):
            sources = [source + bias for source, bias in zip(sources, self.biases, strict=True)]
        return self.block(x, step, cache, sources=torch.stack(sources, dim=2))  # (B, T, L, D)


class DepthSum(nn.Module):
    """Sums over the outputs of all depths so far, with weights made from the newest; at first the newest alone."""

    def __init__(self, width: int, sources: int, streams: int) -> None:
        super().__init__()
        self.sources = sources
        self.streams = streams
        self.dynamic = nn.Linear(width, streams * sources, bias=False)
        self.static = nn.Parameter(torch.zeros(streams * sources))

    def forward(self, outputs: list[Tensor]) -> list[Tensor]:
        """Outputs of `sources` depths, (B, T, D) each. Returns `streams` sums of them, (B, T, D) each."""
        newest = outputs[-1]
        dynamic = self.dynamic(F.layer_norm(newest, newest.shape[-1:]))
        # Not under bf16: near 1 its steps are as large as the weights' changes.
        weights = (self.static + dynamic).to(newest.dtype).unsqueeze(-1).chunk(self.streams, dim=2)
        sums = []
        for stream in weights:  # (B, T, sources, 1)
            parts = list(zip(outputs, stream.unbind(2), strict=True))
            total = parts[0][0] * parts[0][1]
            for output, weight in parts[1:]:  # eight times as fast on a CPU as one product over a stack of them
                total = torch.addcmul(total, output, weight)
            sums.append(total)
        return sums


class ExtraHeads(nn.Module):
    """Heads besides a block's own, with keys and values from taps. They say nothing at first."""

    def __init__(self, config: TrialConfig, taps: list[int]) -> None:
        super().__init__()
        self.taps = taps
        self.heads = config.trial.extra_heads
        self.rotary = config.position == "rotary"
        width = self.heads * HEAD_WIDTH
        self.norms = nn.ModuleList([nn.LayerNorm(config.width) for _ in taps])
        self.query = nn.Linear(config.width, width)
        self.keys_values = nn.Linear(config.width, 2 * width)
        self.out = nn.Linear(width, config.width)

    def forward(self, x: Tensor, outputs: list[Tensor], step: Step) -> Tensor:
        """x: what the block's own queries are made from, (B, T, D); outputs: of every depth. Returns (B, T, D)."""
        sources = [norm(outputs[tap]) for norm, tap in zip(self.norms, self.taps, strict=True)]
        query = self.query(x).unflatten(-1, (self.heads, -1))  # (B, T, H, E)
        keys, values = self.keys_values(torch.stack(sources, dim=2)).unflatten(-1, (2, self.heads, -1)).unbind(3)
        return self.out(_attend(query, keys, values, self, step))


def _heads(attention: Attention, inputs: list[Tensor], step: Step) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values of a block's own heads, (B, T, H, E) each, from one input, (B, T, D), or from three."""
    query = attention.query(inputs[0])
    if len(inputs) == 1:
        keys, values = attention.keys_values(inputs[0]).chunk(2, dim=-1)
    else:
        weights, biases = attention.keys_values.weight.chunk(2), attention.keys_values.bias.chunk(2)
        keys, values = (F.linear(x, w, b) for x, w, b in zip(inputs[1:], weights, biases, strict=True))
    values = attention.mixed(values, step)
    query, keys, values = (x.unflatten(-1, (attention.heads, -1)) for x in (query, keys, values))
    return query, keys, values


def _attend(query: Tensor, keys: Tensor, values: Tensor, heads: "Attention | ExtraHeads", step: Step) -> Tensor:
    """query: (B, T, H, E); keys, values: (B, T, L, H, E). Returns (B, T, H*E)."""
    query = query.transpose(1, 2)  # (B, H, T, E)
    keys, values = keys.permute(0, 3, 1, 2, 4), values.permute(0, 3, 1, 2, 4)  # (B, H, T, L, E)
    if heads.rotary:
        query, keys = step.rotate(query), step.rotate(keys)
    return prefix_attention(query, keys, values).transpose(1, 2).flatten(2)


@torch.no_grad()
def _initialise(module: nn.Module, layers: int) -> None:
    """What a trial adds, as the library's modules; but sums over depth begin at the newest, extra heads at nothing."""
    std = INIT_STD / (2 * layers) ** 0.5
    for name, parameter in module.named_parameters():
        if name.endswith("bias") or "biases." in name:
            parameter.zero_()
        elif parameter.dim() > 1:
            parameter.normal_(std=std if name.endswith(("out.weight", "down.weight")) else INIT_STD)
    for part in module.modules():
        if isinstance(part, ExtraHeads):
            part.out.weight.zero_()
        elif isinstance(part, DepthSum):
            part.dynamic.weight.zero_()
            part.static.view(part.streams, part.sources)[:, -1] = 1.0
