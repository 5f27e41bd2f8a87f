"""What trials add to the baseline's blocks: sums and attention over depth, heads, gates, shares of other values."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from shortcut_gen.network.attention import prefix_attention
from shortcut_gen.network.config import ModelConfig
from shortcut_gen.network.model import INIT_STD, VALUE_SHARES, Attention, Step


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
    """Heads besides a block's own, with keys and values from taps. They say nothing at first.

    Args:
        config: The model's.
        taps: Blocks that are attended to, 1-based.
        heads: How many, and `width` of each.
        added: What a block added to the stream is attended to, not the stream behind it.
    """

    def __init__(self, config: ModelConfig, taps: Sequence[int], heads: int, width: int, added: bool = False) -> None:
        super().__init__()
        self.taps = tuple(taps)
        self.heads = heads
        self.added = added
        self.rotary = config.position == "rotary"
        width *= heads
        self.norms = nn.ModuleList([nn.LayerNorm(config.width) for _ in taps])
        self.query = nn.Linear(config.width, width)
        self.keys_values = nn.Linear(config.width, 2 * width)
        self.out = nn.Linear(width, config.width)

    def forward(self, x: Tensor, outputs: list[Tensor], step: Step) -> Tensor:
        """x: what the block's own queries are made from, (B, T, D); outputs: of every depth. Returns (B, T, D)."""
        tapped = [outputs[tap] - outputs[tap - 1] if self.added else outputs[tap] for tap in self.taps]
        sources = [norm(source) for norm, source in zip(self.norms, tapped, strict=True)]
        query = self.query(x).unflatten(-1, (self.heads, -1))  # (B, T, H, E)
        keys, values = self.keys_values(torch.stack(sources, dim=2)).unflatten(-1, (2, self.heads, -1)).unbind(3)
        return self.out(attend(query, keys, values, self, step))


class HeadGates(nn.Module):
    """A factor for each head and token, made from the block's input; 1 at first."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.gates = nn.Linear(config.width, config.heads)

    def forward(self, x: Tensor, attended: Tensor) -> Tensor:
        """x: what the queries are made from, (B, T, D); attended: the heads' outputs, (B, T, D). Returns (B, T, D)."""
        factors = 2 * torch.sigmoid(self.gates(x)).unsqueeze(-1)  # (B, T, H, 1)
        return (attended.unflatten(-1, (factors.shape[2], -1)) * factors).flatten(2)


class HeadShares(nn.Module):
    """Shares of other values and of a block's own, for each group of heads; both begin at a half."""

    def __init__(self, groups: int) -> None:
        super().__init__()
        # One axis, so that the optimizer takes it for no matrix.
        self.shares = nn.Parameter(torch.tensor(VALUE_SHARES).repeat_interleave(groups))

    def forward(self, others: Tensor, own: Tensor) -> Tensor:
        """Values, (B, T, H, E) each. Returns their mix."""
        other_share, own_share = self.shares.view(2, -1, 1).unbind()  # (groups, 1) each
        return other_share * others + own_share * own


def over_depth(query: Tensor, keys: Sequence[Tensor], values: Sequence[Tensor]) -> Tensor:
    """Values of several depths mixed by attention over depth, at each position by itself: (B, T, H, E), as each input.

    Rotary positions would change nothing: query and keys are at the same position.
    """
    scores = torch.stack([(query * key).sum(-1, dtype=torch.float32) for key in keys])  # (L, B, T, H)
    weights = (scores * query.shape[-1] ** -0.5).softmax(0).to(query.dtype).unsqueeze(-1).unbind()
    mixed = values[0] * weights[0]
    for value, weight in zip(values[1:], weights[1:], strict=True):  # as in DepthSum: no stack of all values
        mixed = torch.addcmul(mixed, value, weight)
    return mixed


def heads_of(attention: Attention, inputs: list[Tensor], step: Step) -> tuple[Tensor, Tensor, Tensor]:
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


def attend(query: Tensor, keys: Tensor, values: Tensor, heads: Attention | ExtraHeads, step: Step) -> Tensor:
    """query: (B, T, H, E); keys, values: (B, T, L, H, E). Returns (B, T, H*E)."""
    query = query.transpose(1, 2)  # (B, H, T, E)
    keys, values = keys.permute(0, 3, 1, 2, 4), values.permute(0, 3, 1, 2, 4)  # (B, H, T, L, E)
    if heads.rotary:
        query, keys = step.rotate(query), step.rotate(keys)
    return prefix_attention(query, keys, values).transpose(1, 2).flatten(2)


@torch.no_grad()
def initialise(module: nn.Module, layers: int) -> None:
    """What a trial adds, as the library's modules; but sums over depth begin at the newest, and the rest at nothing."""
    std = INIT_STD / (2 * layers) ** 0.5
    for name, parameter in module.named_parameters():
        if name.endswith("bias") or "biases." in name:
            parameter.zero_()
        elif parameter.dim() > 1:
            parameter.normal_(std=std if name.endswith(("out.weight", "down.weight")) else INIT_STD)
    for part in module.modules():
        if isinstance(part, ExtraHeads):
            part.out.weight.zero_()
        elif isinstance(part, HeadGates):
            part.gates.weight.zero_()
        elif isinstance(part, DepthSum):
            part.dynamic.weight.zero_()
            part.static.view(part.streams, part.sources)[:, -1] = 1.0
