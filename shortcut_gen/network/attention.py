"""Attention where each query sees, of every source, the positions up to its own.

Self-attention has one source; the shortcut block has one per tap. Keys arrive interleaved in time: flattened, key
`L*k + l` is source l at position k, so that query t sees the prefix of length `L*(t + 1)`. Several forms compute the
same; `prefix_attention` hides which one runs.
"""

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from shortcut_gen.network.cpu_kernels import native_attention, takes

Form = Literal["auto", "dense", "blocks", "merged", "flex", "native"]

QUERY_BLOCK = 128
"""Queries that share one call in the `blocks` form: measured best of 64, 128 and 256 on a CPU."""


def prefix_attention(
    query: Tensor, keys: Tensor, values: Tensor, form: Form = "auto", bias: Tensor | None = None
) -> Tensor:
    """Scaled dot-product attention of T queries over L sources of T positions each, causal in every source.

    query: (B, H, T, E); keys, values: (B, H, T, L, E). Returns (B, H, T, E) in the query's dtype. On a CPU the sums run
    in float32 at least, also under bf16 autocast: measured faster there than bf16 attention, and more exact.

    `auto` is the C++ form where it was built and fits, the fastest of PyTorch's elsewhere. bias: (B, L), added to the
    scores of each source's keys, in one form for all devices; without gradients.
    """
    if bias is None and (form == "native" or (form == "auto" and takes(query, keys, values))):
        return native_attention(query, keys, values)
    dtype = query.dtype
    if query.device.type == "cpu" and dtype in (torch.bfloat16, torch.float16):
        query, keys, values = query.float(), keys.float(), values.float()
    with torch.autocast(query.device.type, enabled=False):
        if bias is not None:
            out = _blocks(query, keys, values, bias)
        elif keys.shape[3] == 1:
            out = F.scaled_dot_product_attention(query, keys.squeeze(3), values.squeeze(3), is_causal=True)
        else:
            out = _FORMS["blocks" if form == "auto" else form](query, keys, values)
    return out.to(dtype)


def cached_attention(
    query: Tensor, keys: Tensor, values: Tensor, positions: Tensor, bias: Tensor | None = None
) -> Tensor:
    """Attention of new queries over a cache that already holds their own keys.

    query: (B, H, T, E) at `positions`, (B or 1, T); keys, values: (B, H, K, L, E), of which query position p sees the
    first p + 1 positions. bias: (B, L), added to the scores of each source's keys. Returns (B, H, T, E).
    """
    sources = keys.shape[3]
    keys, values = keys.flatten(2, 3), values.flatten(2, 3)  # (B, H, K*L, E)
    mask = None
    if positions.shape != (1, 1):  # one token at one shared position sees all of the K positions handed in
        visible = (positions + 1) * sources  # (B or 1, T)
        mask = torch.arange(keys.shape[2], device=keys.device) < visible[:, None, :, None]  # (B or 1, 1, T, K*L)
    if bias is not None:
        mask = _biased(bias, keys.shape[2], mask, query.dtype)
    return F.scaled_dot_product_attention(query, keys, values, attn_mask=mask)


def _dense(query: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """One call with an L·T mask: the plain form, which the others are tested against."""
    length, sources = keys.shape[2], keys.shape[3]
    mask = _mask(0, length, sources, query.device)
    return F.scaled_dot_product_attention(query, keys.flatten(2, 3), values.flatten(2, 3), attn_mask=mask)


def _blocks(query: Tensor, keys: Tensor, values: Tensor, bias: Tensor | None = None) -> Tensor:
    """Blocks of queries, each with only the keys that its last query may see."""
    length, sources = keys.shape[2], keys.shape[3]
    keys, values = keys.flatten(2, 3), values.flatten(2, 3)  # (B, H, T*L, E)
    parts = []
    for start in range(0, length, QUERY_BLOCK):
        end = min(start + QUERY_BLOCK, length)
        mask = _mask(start, end, sources, query.device)
        if bias is not None:
            mask = _biased(bias, end * sources, mask, query.dtype)
        seen = slice(0, end * sources)
        parts.append(
            F.scaled_dot_product_attention(query[:, :, start:end], keys[:, :, seen], values[:, :, seen], attn_mask=mask)
        )
    return torch.cat(parts, dim=2)  # (B, H, T, E)


def _mask(start: int, end: int, sources: int, device: torch.device) -> Tensor:
    """(end - start, end * L) bool: query t sees key j where j // L <= t."""
    position = torch.arange(end * sources, device=device) // sources
    return position <= torch.arange(start, end, device=device).unsqueeze(1)


def _biased(bias: Tensor, keys: int, mask: Tensor | None, dtype: torch.dtype) -> Tensor:
    """(B, 1, T or 1, keys): what is added to scores, of a bias, (B, L), and, where a mask is given, -inf elsewhere."""
    added = bias.to(dtype).repeat(1, keys // bias.shape[1])[:, None, None]  # (B, 1, 1, K*L)
    return added if mask is None else torch.where(mask, added, -torch.inf)


class _MergedCausal(torch.autograd.Function):
    """L causal flash calls, one per source, merged by their log-sum-exp.

    With the merged output O and log-sum-exp S, a source's probabilities are exp(qk - S) and its softmax gradient needs
    only rowsum(dO·O): so flash's own backward, handed O and S in place of the source's, returns the exact gradients.
    """

    @staticmethod
    def forward(ctx: Any, query: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        calls = [_flash(query, keys[:, :, :, i], values[:, :, :, i]) for i in range(keys.shape[3])]
        lse = torch.stack([call[1] for call in calls]).float()  # (L, B, H, T)
        total = lse.logsumexp(dim=0)  # (B, H, T)
        weights = (lse - total).exp().unsqueeze(-1)  # (L, B, H, T, 1)
        merged = sum(call[0] * weight.to(query.dtype) for call, weight in zip(calls, weights, strict=True))
        ctx.save_for_backward(query, keys, values, merged, total)
        ctx.extras = [call[2:] for call in calls]
        return merged

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        query, keys, values, merged, total = ctx.saved_tensors
        grad_query = torch.zeros_like(query)
        grad_keys, grad_values = torch.empty_like(keys), torch.empty_like(values)
        for i, extra in enumerate(ctx.extras):
            k, v = keys[:, :, :, i], values[:, :, :, i]
            q_part, k_part, v_part = _flash_backward(grad.contiguous(), query, k, v, merged, total, extra)
            grad_query += q_part
            grad_keys[:, :, :, i], grad_values[:, :, :, i] = k_part, v_part
        return grad_query, grad_keys, grad_values


def _flash(query: Tensor, keys: Tensor, values: Tensor) -> tuple[Any, ...]:
    """Causal flash attention that also returns its log-sum-exp: (out, lse, what the backward needs besides)."""
    if query.device.type == "cpu":
        return tuple(torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(query, keys, values, 0.0, True))
    return tuple(torch.ops.aten._scaled_dot_product_flash_attention(query, keys, values, 0.0, True, False))


def _flash_backward(
    grad: Tensor, query: Tensor, keys: Tensor, values: Tensor, out: Tensor, lse: Tensor, extra: tuple[Any, ...]
) -> tuple[Tensor, Tensor, Tensor]:
    operands = (grad, query, keys, values, out, lse)
    if query.device.type == "cpu":
        return torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward(*operands, 0.0, True)
    cum_q, cum_k, max_q, max_k, seed, offset = extra[:6]
    return torch.ops.aten._scaled_dot_product_flash_attention_backward(
        *operands, cum_q, cum_k, max_q, max_k, 0.0, True, seed, offset
    )[:3]


def _merged(query: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    out = _MergedCausal.apply(query, keys, values)
    assert isinstance(out, Tensor)
    return out


def _flex(query: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """flex_attention with the block mask `j // L <= t`; compiled on a GPU, where heads narrower than 16 are padded."""
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    length, sources, width = keys.shape[2:]
    keys, values = keys.flatten(2, 3), values.flatten(2, 3)  # (B, H, T*L, E)
    block_mask = create_block_mask(
        lambda b, h, t, j: j // sources <= t, None, None, length, length * sources, device=query.device
    )
    pad = max(0, 16 - width)
    query, keys, values = (F.pad(x, (0, pad)) for x in (query, keys, values))
    attend = torch.compile(flex_attention) if query.device.type == "cuda" else flex_attention
    return attend(query, keys, values, block_mask=block_mask, scale=width**-0.5)[..., :width]


_FORMS = {"dense": _dense, "blocks": _blocks, "merged": _merged, "flex": _flex}
