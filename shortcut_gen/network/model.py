"""The language model: a decoder-only Transformer whose last block attends to features of the blocks below it.

"Adaptive Large Language Models By Layerwise Attention Shortcuts", arXiv 2409.10870. Letters for shapes are those of
`shortcut_gen`: B batch, T tokens, D width, H heads, E head width, L sources (taps), V vocabulary, K cached positions.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from shortcut_gen.network.attention import cached_attention, prefix_attention
from shortcut_gen.network.cache import DecodeCache, KVCache
from shortcut_gen.network.config import ModelConfig
from shortcut_gen.network.cpu_kernels import gated, gelu, rotated
from shortcut_gen.network.look import Look

INIT_STD = 0.02
"""Standard deviation of GPT-2's initial weights."""

ROTARY_BASE = 10_000.0
"""Base of the rotary frequencies, arXiv 2104.09864, section 3.2."""

VALUE_SHARES = (0.5, 0.5)
"""Where the shares of the first block's values and of a block's own begin: Learnable-ResFormer, arXiv 2410.17897."""


class Step:
    """What every block of one forward pass shares: positions, rotation tables, the first block's values and, when
    decoding, the caches and how they are attended to."""

    def __init__(self, positions: Tensor, cache: DecodeCache | None, look: Look | None = None) -> None:
        self.positions = positions  # (B or 1, T)
        self.cache = cache
        self.look = look
        self.first_values: Tensor | None = None  # (B, T, 1, D), once the first block has made them
        self._tables: dict[tuple[int, torch.dtype], tuple[Tensor, Tensor]] = {}

    def rotate(self, x: Tensor) -> Tensor:
        """Rotary positions on x, (B, H, T, E) or (B, H, T, L, E): position is axis 2."""
        width, dtype = x.shape[-1], torch.promote_types(x.dtype, torch.float32)
        if (width, dtype) not in self._tables:
            frequencies = ROTARY_BASE ** (-torch.arange(0, width, 2, device=x.device, dtype=torch.float64) / width)
            angles = self.positions.unsqueeze(-1) * frequencies  # (B or 1, T, E/2)
            self._tables[width, dtype] = (angles.cos().unsqueeze(1).to(dtype), angles.sin().unsqueeze(1).to(dtype))
        cos, sin = self._tables[width, dtype]  # (B or 1, 1, T, E/2)
        if (done := rotated(x, cos, sin)) is not None:
            return done
        if x.dim() == 5:
            cos, sin = cos.unsqueeze(3), sin.unsqueeze(3)
        first, second = x.chunk(2, dim=-1)
        return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1).to(x.dtype)

    def attend(self, query: Tensor, keys: Tensor, values: Tensor, cache: KVCache, look: Look | None = None) -> Tensor:
        """Write new keys and values, (B, H, T, L, E), into a block's cache; its queries', (B, H, T, E), attention."""
        assert self.cache is not None
        if cache.keys.dim() == 4:  # a self-attention block's cache has no axis for taps
            keys, values = keys.squeeze(3), values.squeeze(3)
        cache.write(keys, values, self.cache.lengths)
        if keys.shape[2] > 1 and not any(self.cache.lengths):  # a prompt read into an empty cache needs no mask
            keys, values = (x if x.dim() == 5 else x.unsqueeze(3) for x in (keys, values))
            return self.attend_within(query, keys, values, look)
        end = max(self.cache.lengths) + keys.shape[2]
        stored = (cache.keys[:, :, :end], cache.values[:, :, :end])
        keys, values = (x if x.dim() == 5 else x.unsqueeze(3) for x in stored)
        if look:
            look.see(query, keys, self.positions if len(self.positions) > 1 else None)
        return cached_attention(query, keys, values, self.positions, look.bias if look else None)

    def attend_within(self, query: Tensor, keys: Tensor, values: Tensor, look: Look | None = None) -> Tensor:
        """Attention of queries, (B, H, T, E), to the keys of the same T positions, (B, H, T, L, E)."""
        if look:
            look.see(query, keys, None)
        return prefix_attention(query, keys, values, bias=look.bias if look else None)


class Attention(nn.Module):
    """Multi-head attention of x to one or more sources; the sources of a self-attention block are x alone."""

    def __init__(self, config: ModelConfig, heads: int, first: bool) -> None:
        super().__init__()
        self.heads = heads
        self.value_shares = nn.Parameter(torch.tensor(VALUE_SHARES)) if config.value_residual and not first else None
        self.rotary = config.position == "rotary"
        self.query = nn.Linear(config.width, config.width)
        self.keys_values = nn.Linear(config.width, 2 * config.width)
        self.out = nn.Linear(config.width, config.width)

    def forward(
        self, x: Tensor, sources: Tensor, step: Step, cache: KVCache | None, look: Look | None = None
    ) -> Tensor:
        """x: (B, T, D), sources: (B, T, L, D). Returns (B, T, D)."""
        query, keys, values = self.project(x, sources, step)
        if cache is None:
            out = step.attend_within(query, keys, values, look)
        else:
            out = step.attend(query, keys, values, cache, look)
        return self.out(out.transpose(1, 2).flatten(2))  # (B, T, D)

    def project(self, x: Tensor, sources: Tensor, step: Step) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, (B, H, T, E), and keys and values, (B, H, T, L, E) each, at the positions of a step."""
        query = self._split(self.query(x)).transpose(1, 2)  # (B, H, T, E)
        keys, values = self.keys_values(sources).chunk(2, dim=-1)  # (B, T, L, D) each
        keys, values = self._split(keys), self._split(self.mixed(values, step))  # (B, T, L, H, E) each
        keys, values = keys.permute(0, 3, 1, 2, 4), values.permute(0, 3, 1, 2, 4)  # (B, H, T, L, E)
        if self.rotary:
            query, keys = step.rotate(query), step.rotate(keys)
        return query, keys, values

    def mixed(self, values: Tensor, step: Step) -> Tensor:
        """Values, (B, T, L, D), mixed with the first block's of the same position; as given without value residual."""
        if step.first_values is None:
            step.first_values = values
        if self.value_shares is None:
            return values
        first, own = self.value_shares.unbind()  # as numbers in f32: bf16's steps are as large as their changes
        return first * step.first_values + own * values

    def _split(self, x: Tensor) -> Tensor:
        """(..., D) -> (..., H, E)."""
        return x.unflatten(-1, (self.heads, -1))


class FeedForward(nn.Module):
    """The block's MLP: D -> feedforward -> D with GELU."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.up = nn.Linear(config.width, config.feedforward)
        self.down = nn.Linear(config.feedforward, config.width)

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) -> (..., D)."""
        return self.down(gelu(self.up(x)))


class GatedFeedForward(nn.Module):
    """The block's MLP as SwiGLU (arXiv 2002.05202): D -> feedforward twice -> D; one half, through SiLU, is a gate."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.gate_up = nn.Linear(config.width, 2 * config.feedforward)
        self.down = nn.Linear(config.feedforward, config.width)

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) -> (..., D)."""
        return self.down(gated(self.gate_up(x)))


class Block(nn.Module):
    """A decoder block: attention to itself or, for the shortcut block, to `sources`; then its MLP."""

    def __init__(self, config: ModelConfig, heads: int, first: bool) -> None:
        super().__init__()
        self.literal = config.residual == "literal"
        self.attention_norm = nn.LayerNorm(config.width)
        self.attention = Attention(config, heads, first)
        self.mlp_norm = nn.LayerNorm(config.width)
        self.mlp = GatedFeedForward(config) if config.activation == "swiglu" else FeedForward(config)
        self.drop = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, step: Step, cache: KVCache | None, sources: Tensor | None = None) -> Tensor:
        """x: (B, T, D); sources: (B, T, L, D), already normalised, or None for self-attention. Returns (B, T, D)."""
        query = self.attention_norm(x)
        if sources is None:
            attended = self.attention(query, query.unsqueeze(2), step, cache)
        else:
            attended = self.attention(query, sources, step, cache, step.look)
        if self.literal:
            return x + self.drop(self.mlp(self.mlp_norm(x + self.drop(attended))))
        x = x + self.drop(attended)
        return x + self.drop(self.mlp(self.mlp_norm(x)))


class FeatureMaps(nn.Module):
    """One MLP per tap, D -> hidden -> hidden -> D with GELU, run as one batched matrix product a layer."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        shapes = [config.width, config.feature_hidden, config.feature_hidden, config.width]
        taps = len(config.taps)
        pairs = list(zip(shapes[:-1], shapes[1:], strict=True))
        self.weights = nn.ParameterList([nn.Parameter(torch.empty(taps, i, o)) for i, o in pairs])
        self.biases = nn.ParameterList([nn.Parameter(torch.zeros(taps, 1, o)) for _, o in pairs])

    def forward(self, tapped: list[Tensor]) -> Tensor:
        """L tapped values, (B, T, D) each. Returns the features, (B, T, L, D)."""
        shape = tapped[0].shape
        x = torch.stack([value.flatten(0, 1) for value in tapped])  # (L, B*T, D)
        for number, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            if number:
                x = gelu(x)
            x = torch.baddbmm(bias, x, weight)
        return x.unflatten(1, shape[:2]).permute(1, 2, 0, 3)  # (B, T, L, D)


class ResidualMLP(nn.Module):
    """An MLP of a feature map's shape, D -> hidden -> hidden -> D with GELU, as a residual layer of its own."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(config.width)
        self.up = nn.Linear(config.width, config.feature_hidden)
        self.middle = nn.Linear(config.feature_hidden, config.feature_hidden)
        self.down = nn.Linear(config.feature_hidden, config.width)
        self.drop = nn.Dropout(config.dropout)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        hidden = gelu(self.up(self.norm(x)))
        hidden = gelu(self.middle(hidden))
        return x + self.drop(self.down(hidden))


class LayerShortcut(nn.Module):
    """The last block: queries from below, keys and values from the features of the tapped blocks (section 3)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.attend_current = config.attend_current
        self.features = FeatureMaps(config) if config.features == "mlp" else None
        self.features_norm = nn.LayerNorm(config.width)
        self.block = Block(config, config.shortcut_heads, first=False)

    def forward(self, x: Tensor, tapped: list[Tensor], step: Step, cache: KVCache | None) -> Tensor:
        """x: (B, T, D); tapped: L values of (B, T, D). Returns (B, T, D)."""
        features = torch.stack(tapped, dim=2) if self.features is None else self.features(tapped)
        if self.attend_current:
            features = torch.cat((features, x.unsqueeze(2).to(features.dtype)), dim=2)
        return self.block(x, step, cache, sources=self.features_norm(features))


class ShortcutLM(nn.Module):
    """A causal language model over one vocabulary. `config.taps=()` makes it the plain Transformer baseline."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocab_size, config.width)
        self.positions = nn.Embedding(config.context, config.width) if config.position == "learned" else None
        self.drop = nn.Dropout(config.dropout)
        plain = config.layers - 1 if config.taps else config.layers
        self.blocks = nn.ModuleList([Block(config, config.heads, first=number == 0) for number in range(plain)])
        self.residual_mlps = nn.ModuleDict({str(block): ResidualMLP(config) for block in config.residual_mlps})
        self.shortcut = LayerShortcut(config) if config.taps else None
        self.norm = nn.LayerNorm(config.width)
        self._initialise()

    def _initialise(self) -> None:
        """As GPT-2: normal weights, zero biases, residual projections scaled by the number of residual branches."""
        residual_std = INIT_STD / math.sqrt(2 * self.config.layers + len(self.residual_mlps))
        for name, parameter in self.named_parameters():
            if parameter.dim() < 2 or ".biases." in name:
                continue  # norms start at 1 and 0; biases are zeroed below
            nn.init.normal_(parameter, std=residual_std if name.endswith(("out.weight", "down.weight")) else INIT_STD)
        for name, parameter in self.named_parameters():
            if name.endswith(".bias") or ".biases." in name:
                nn.init.zeros_(parameter)

    def forward(self, tokens: Tensor, cache: DecodeCache | None = None, look: Look | None = None) -> Tensor:
        """Logits of the id after each token.

        tokens: (B, T) int64, at most `context` of them, those already in the cache counted. With a cache, they are
        read behind what it holds, and it then holds them too. A look then holds what the last of them attended to.
        Returns (B, T, V).
        """
        length = tokens.shape[1]
        held = max(cache.lengths) if cache else 0
        if held + length > self.config.context:
            raise ValueError(f"{held + length} tokens do not fit the context of {self.config.context}")
        positions = cache.positions(length) if cache else torch.arange(length, device=tokens.device).unsqueeze(0)
        logits = self.compute(tokens, Step(positions, cache, look))
        if cache:
            cache.advance(length)
        return logits

    def compute(self, tokens: Tensor, step: Step) -> Tensor:
        """`forward` at the positions of a step, through its caches, which count nothing. (B, T) to (B, T, V)."""
        return self.logits(self.states(tokens, step))

    def states(self, tokens: Tensor, step: Step) -> Tensor:
        """`compute` up to the output matrix, (B, T) to (B, T, D): for who needs the logits of some positions alone."""
        return self._top(*self.below(tokens, step), step)

    def logits(self, states: Tensor) -> Tensor:
        """The logits of `states`, (..., D) to (..., V). The embedding is the output matrix too, as in GPT-2."""
        return F.linear(states, self.embedding.weight)

    def below(self, tokens: Tensor, step: Step) -> tuple[Tensor, list[Tensor]]:
        """`compute` up to the shortcut block: its input, (B, T, D), and the tapped values, L of (B, T, D)."""
        cache = step.cache
        x = self.embedding(tokens)  # (B, T, D)
        if self.positions is not None:
            x = x + self.positions(step.positions)
        x = self.drop(x)
        tapped = []
        for number, block in enumerate(self.blocks):
            x = self._handed_on(number + 1, block(x, step, cache.blocks[number] if cache else None))
            if number + 1 in self.config.taps:
                tapped.append(x)
        return x, tapped

    def above(self, x: Tensor, tapped: list[Tensor], step: Step) -> Tensor:
        """`compute` from what `below` gives on. Returns logits, (B, T, V)."""
        return self.logits(self._top(x, tapped, step))

    def _top(self, x: Tensor, tapped: list[Tensor], step: Step) -> Tensor:
        """From what `below` gives to the final norm's output, (B, T, D)."""
        if self.shortcut is not None:
            cache = step.cache
            x = self.shortcut(x, tapped, step, cache.blocks[-1] if cache else None)
            x = self._handed_on(self.config.layers, x)
        return self.norm(x)  # (B, T, D)

    def _handed_on(self, block: int, x: Tensor) -> Tensor:
        """What block number `block` hands on, (B, T, D): its output, through the residual MLP where it has one."""
        return self.residual_mlps[str(block)](x) if block in self.config.residual_mlps else x

    def num_parameters(self, embedding: bool = False) -> int:
        """Parameters, without those of the token and position embeddings unless `embedding`."""
        total = sum(parameter.numel() for parameter in self.parameters())
        if embedding:
            return total
        positions = self.positions.weight.numel() if self.positions is not None else 0
        return total - self.embedding.weight.numel() - positions

    def flops_per_token(self, length: int | None = None) -> int:
        """Floating-point operations to train on one token of a window of `length` (default: the context).

        6 per weight of a matrix product (2 forward, 4 backward; arXiv 2001.08361, section 2.1) and, for attention,
        6·D per visible key on average: half of the window from each source. The key and value projections of the
        shortcut block are counted once per source, and so is each share of a value residual.
        """
        config = self.config
        length = length or config.context
        others = ("positions", ".biases.")
        matrices = sum(
            p.numel() for name, p in self.named_parameters() if p.dim() > 1 and not any(o in name for o in others)
        )
        blocks = len(self.blocks)
        extra = 0
        sources = blocks
        if self.shortcut is not None:
            extra = (config.sources - 1) * 2 * config.width**2
            sources += config.sources
        if config.value_residual:
            extra += 2 * config.width * (sources - 1)
        return 6 * (matrices + extra) + sources * 6 * config.width * length
