"""Trials beyond the paper: changes to the model that may lose, and so are no options of the library's.

A `TrialLM` trains and scores whole windows and has no decode cache. The arms in `training.experiment.arms` name the
trials; one that wins moves into the library.
"""

import dataclasses
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from shortcut_gen.errors import ConfigError
from shortcut_gen.network.cache import KVCache
from shortcut_gen.network.config import ModelConfig
from shortcut_gen.network.model import Block, FeatureMaps, LayerShortcut, ShortcutLM, Step
from training.run.trial import KEY, PLAIN, Trial, TrialConfig, read_config, with_trial
from training.run.trial_parts import (
    DepthSum,
    ExtraHeads,
    HeadGates,
    HeadShares,
    attend,
    heads_of,
    initialise,
    over_depth,
)

__all__ = ["KEY", "PLAIN", "Trial", "TrialConfig", "TrialLM", "build", "read_config", "with_trial"]

HEAD_WIDTH = 16
"""Of the extra heads."""
LAST = 2
"""Blocks at the end of the stack that get extra heads, or an input from all depths."""


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
        self.extra = nn.ModuleDict(
            {str(n): ExtraHeads(config, taps, trial.extra_heads, HEAD_WIDTH) for n, taps in below.items() if taps}
        )
        if trial.added_taps:
            width = config.width // config.heads
            self.extra["added"] = ExtraHeads(config, trial.added_taps, config.heads, width, added=True)
        every, above = range(layers), range(1, layers)
        self.gates = nn.ModuleDict({str(n): HeadGates(config) for n in every if trial.head_gates})
        self.token_shares = nn.ModuleDict({str(n): HeadShares(1) for n in every if trial.value_embeddings})
        self.first_shares = nn.ModuleDict({str(n): HeadShares(config.heads) for n in above if trial.head_shares})
        self.first_inputs = nn.ParameterList([nn.Parameter(torch.zeros(1)) for _ in above if trial.first_input])
        added: list[nn.Module] = [self.depths, self.extra, self.gates]
        self.embedding_values = nn.Embedding(config.vocab_size, config.width) if trial.value_embeddings else None
        if self.embedding_values is not None:
            added.append(self.embedding_values)
        if trial.source_norms or trial.shared_features:
            self.shortcut = TrialShortcut(config)
            added.append(self.shortcut)
        for module in added:
            initialise(module, layers)

    def states(self, tokens: Tensor, step: Step) -> Tensor:
        """As the library's, (B, T) to (B, T, D). Raises ConfigError where the step has caches."""
        if step.cache is not None:
            raise ConfigError("a trial reads whole windows; it has no decode cache, so nothing can be sampled from it")
        if not self.config.trial.of_the_stack:
            return super().states(tokens, step)
        x = self.embedding(tokens)  # (B, T, D)
        if self.positions is not None:
            x = x + self.positions(step.positions)
        below = _Below(outputs=[self.drop(x)])
        if self.embedding_values is not None:
            heads = (self.config.heads, -1)
            below.token_values = self.embedding_values(tokens).unflatten(-1, heads)  # (B, T, H, E)
        for number, block in enumerate(self.blocks):
            assert isinstance(block, Block)
            below.outputs.append(self._block(number, block, below, step))
        (x,) = self._sums(len(self.blocks), below.outputs)
        return self.norm(x)  # (B, T, D)

    def _sums(self, number: int, outputs: list[Tensor]) -> list[Tensor]:
        """What is handed to block `number`, or to the final norm: the newest output, or one or three sums of all."""
        return self.depths[str(number)](outputs) if str(number) in self.depths else outputs[-1:]

    def _block(self, number: int, block: Block, below: "_Below", step: Step) -> Tensor:
        """A block's output from what is below it, (B, T, D)."""
        name, sums = str(number), self._sums(number, below.outputs)
        x = sums[0] if len(sums) == 1 else below.outputs[-1]
        if number and len(self.first_inputs):
            x = x + self.first_inputs[number - 1] * below.outputs[0]
            sums = [x]
        inputs = [block.attention_norm(value) for value in sums]  # one for all, or the queries', keys' and values'
        query, keys, values = heads_of(block.attention, inputs, step)  # (B, T, H, E) each
        values = self._values(name, query, keys, values, below)
        attended = attend(query, keys.unsqueeze(2), values.unsqueeze(2), block.attention, step)
        if name in self.gates:
            attended = self.gates[name](inputs[0], attended)
        attended = block.attention.out(attended)
        if name in self.extra:
            attended = attended + self.extra[name](inputs[0], below.outputs, step)
        if number == len(self.blocks) - 1 and "added" in self.extra:
            attended = attended + self.extra["added"](inputs[0], below.outputs, step)
        x = x + block.drop(attended)
        return x + block.drop(block.mlp(block.mlp_norm(x)))

    def _values(self, name: str, query: Tensor, keys: Tensor, values: Tensor, below: "_Below") -> Tensor:
        """What a block attends to over time, (B, T, H, E): its own values, or a mix of them and others."""
        if below.token_values is not None:
            values = self.token_shares[name](below.token_values, values)
        if self.config.trial.head_shares:
            if not below.values:
                below.values.append(values)
                return values
            return self.first_shares[name](below.values[0], values)
        if self.config.trial.depth_attention:
            below.keys.append(keys)
            below.values.append(values)
            return over_depth(query, below.keys, below.values)
        return values

    def flops_per_token(self, length: int | None = None) -> int:
        """As the library's; and 6 for each source and entry of a weighted sum, and for a matrix used again."""
        config, length = self.config, length or self.config.context
        trial, width, layers = config.trial, config.width, config.layers
        sums = [module for module in self.modules() if isinstance(module, DepthSum)]
        again = sum(depth.sources * depth.streams for depth in sums) * width
        for heads in self.extra.values():
            assert isinstance(heads, ExtraHeads)
            again += (len(heads.taps) - 1) * heads.keys_values.weight.numel()
            again += len(heads.taps) * heads.query.out_features * length
        again += 2 * width * (len(self.token_shares) + len(self.first_shares))
        again += width * (len(self.gates) + len(self.first_inputs))
        if trial.depth_attention:  # a product with the key and one with the value of each depth
            again += 2 * width * (layers * (layers + 1) // 2)
        if self.embedding_values is not None:  # looked up, not multiplied with
            again -= self.embedding_values.weight.numel()
        if trial.shared_features:
            assert self.shortcut is not None and self.shortcut.features is not None
            again += (len(config.taps) - 1) * sum(weight.numel() for weight in self.shortcut.features.weights)
        return super().flops_per_token(length) + 6 * again


@dataclass(kw_only=True)
class _Below:
    """What a block of a trial may look at beside its input: of the blocks below it and of the token."""

    outputs: list[Tensor]
    """Of every depth, the embedding first, (B, T, D) each."""
    keys: list[Tensor] = field(default_factory=list)
    values: list[Tensor] = field(default_factory=list)
    """Of the blocks so far, as far as the trial needs them, (B, T, H, E) each, without rotary positions."""
    token_values: Tensor | None = None
    """(B, T, H, E)."""


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
