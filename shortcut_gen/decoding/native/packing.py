"""A model's weights in the order and the shape in which the native engine reads them (model.h)."""

import ctypes

import torch
from torch import Tensor, nn

from shortcut_gen.decoding.native.library import Shape
from shortcut_gen.network.config import ModelConfig
from shortcut_gen.network.model import ROTARY_BASE, Block, FeedForward, GatedFeedForward, ShortcutLM


def padded(size: int) -> int:
    """The next multiple of sixteen."""
    return (size + 15) // 16 * 16


def shape(config: ModelConfig) -> Shape:
    """A model's sizes and options, as the engine wants them."""
    flags = [(block in config.taps) + 2 * (block in config.residual_mlps) for block in range(1, config.layers + 1)]
    return Shape(
        vocab=config.vocab_size,
        context=config.context,
        layers=config.layers,
        width=config.width,
        heads=config.heads,
        feedforward=config.feedforward,
        feature_hidden=config.feature_hidden,
        shortcut_heads=config.shortcut_heads if config.taps else 1,
        feature_mlps=config.features == "mlp",
        attend_current=config.attend_current,
        literal=config.residual == "literal",
        rotary=config.position == "rotary",
        value_residual=config.value_residual,
        swiglu=config.activation == "swiglu",
        blocks=(ctypes.c_int32 * len(flags))(*flags),
    )


def tensors(model: ShortcutLM) -> list[Tensor]:
    """A model's weights in the order in which model.h reads them: f32, each dimension padded to sixteens."""
    config = model.config
    state = {name: value.detach().to("cpu", torch.float32) for name, value in model.state_dict().items()}
    out: list[Tensor] = [_pad(state["embedding.weight"], config.vocab_size)]
    if model.positions is not None:
        out.append(_pad(state["positions.weight"], config.context))
    else:
        out += [_rotation(config, heads) for heads in _head_counts(config)]
    for block in model.blocks:
        out += _block(block, config, config.heads, shortcut=False)
    for number in config.residual_mlps:
        name = f"residual_mlps.{number}."
        out += [state[f"{name}norm.weight"], state[f"{name}norm.bias"]]
        for layer in ("up", "middle", "down"):
            out += [_pad(state[f"{name}{layer}.weight"]), _pad_vector(state[f"{name}{layer}.bias"])]
    if model.shortcut is not None:
        if model.shortcut.features is not None:
            for tap in range(len(config.taps)):
                for depth in range(3):
                    out.append(_pad(state[f"shortcut.features.weights.{depth}"][tap].T))
                    out.append(_pad_vector(state[f"shortcut.features.biases.{depth}"][tap, 0]))
        out += [state["shortcut.features_norm.weight"], state["shortcut.features_norm.bias"]]
        out += _block(model.shortcut.block, config, config.shortcut_heads, shortcut=True)
    out += [state["norm.weight"], state["norm.bias"], _pad(state["embedding.weight"])]
    return [tensor.contiguous() for tensor in out]


def _head_counts(config: ModelConfig) -> list[int]:
    return [config.heads, config.shortcut_heads] if config.taps else [config.heads]


def _block(block: nn.Module, config: ModelConfig, heads: int, shortcut: bool) -> list[Tensor]:
    """A block's tensors. The rows of queries, keys and values stand by groups of heads, as `Heads` in model.h."""
    assert isinstance(block, Block)
    attention = block.attention
    kinds = [(attention.query, 0), (attention.keys_values, 0), (attention.keys_values, config.width)]
    layers = [(linear, _places(config, heads) + first, _places(config, heads) >= 0) for linear, first in kinds]
    matrices = [torch.where(there[..., None], linear.weight[rows], 0.0) for linear, rows, there in layers]
    biases = [torch.where(there, linear.bias[rows], 0.0) for linear, rows, there in layers]

    def joined(first: int, last: int) -> list[Tensor]:
        """Some of queries, keys and values as one matrix, group by group."""
        rows = torch.cat(matrices[first:last], dim=1).flatten(0, 1)
        return [_pad(rows.detach().float().cpu()), torch.cat(biases[first:last], 1).flatten().detach().float().cpu()]

    columns = _places(config, heads).flatten()
    out = torch.where(columns >= 0, attention.out.weight[:, columns], 0.0)
    vectors = [block.attention_norm.weight, block.attention_norm.bias]
    parts = [joined(0, 1), joined(1, 3)] if shortcut else [joined(0, 3)]
    tail = [out, attention.out.bias, block.mlp_norm.weight, block.mlp_norm.bias]
    out, out_bias, *norm = (value.detach().float().cpu() for value in tail)
    return [
        *(value.detach().float().cpu() for value in vectors),
        *(tensor for part in parts for tensor in part),
        *(_pad(out), _pad_vector(out_bias), *norm),
        *_mlp(block.mlp),
        *([] if attention.value_shares is None else [attention.value_shares.detach().float().cpu()]),
    ]


def _mlp(mlp: FeedForward | GatedFeedForward) -> list[Tensor]:
    """A block's MLP; with SwiGLU, sixteen rows of the gate alternate with sixteen of the map that it multiplies."""
    down = [_pad(mlp.down.weight.detach().float().cpu()), _pad_vector(mlp.down.bias.detach().float().cpu())]
    if isinstance(mlp, FeedForward):
        return [_pad(mlp.up.weight.detach().float().cpu()), _pad_vector(mlp.up.bias.detach().float().cpu()), *down]
    gate, up = (_pad(half) for half in mlp.gate_up.weight.detach().float().cpu().chunk(2))
    matrix = torch.stack((gate.unflatten(0, (-1, 16)), up.unflatten(0, (-1, 16))), dim=1).flatten(0, 2)
    gate, up = (_pad_vector(half) for half in mlp.gate_up.bias.detach().float().cpu().chunk(2))
    bias = torch.stack((gate.unflatten(0, (-1, 16)), up.unflatten(0, (-1, 16))), dim=1).flatten()
    return [matrix, bias, *down]


def _places(config: ModelConfig, heads: int) -> Tensor:
    """(groups, columns): which of D columns stands where, -1 where nothing does."""
    width = config.width // heads
    together = max(1, 16 // width)
    groups = -(-heads // together)
    places = torch.full((groups, padded(together * width)), -1)
    for head in range(heads):
        first = head % together * width
        places[head // together, first : first + width] = torch.arange(head * width, (head + 1) * width)
    return places


def _pad(matrix: Tensor, rows: int | None = None) -> Tensor:
    """(N, K) with zeros to multiples of sixteen; N to `rows` if given."""
    height, width = matrix.shape
    return nn.functional.pad(matrix, (0, padded(width) - width, 0, (rows or padded(height)) - height))


def _pad_vector(vector: Tensor) -> Tensor:
    return nn.functional.pad(vector, (0, padded(len(vector)) - len(vector)))


def _rotation(config: ModelConfig, heads: int) -> Tensor:
    """(C, 2, E/2): cosines and sines of the rotary positions, as `Step.rotate` of the model has them."""
    width = config.width // heads
    frequencies = ROTARY_BASE ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)
    angles = torch.arange(config.context, dtype=torch.float64).unsqueeze(1) * frequencies
    return torch.stack((angles.cos(), angles.sin()), dim=1).float()
