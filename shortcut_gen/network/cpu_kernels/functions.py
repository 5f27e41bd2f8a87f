"""The kernels as functions that PyTorch can differentiate."""

import ctypes
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from shortcut_gen.network.cpu_kernels.library import level, load, problem

WIDTHS = (8, 16, 32, 64)
"""Head widths that the kernels are made for."""

LEAST = 1 << 15
"""Tensors of at least so many numbers go through the GELU in C++: below, the call costs more than it saves."""

_TYPES = (torch.float32, torch.bfloat16)


def takes(query: Tensor, keys: Tensor, values: Tensor) -> bool:
    """Whether `native_attention` can do it: built, on a CPU, of float32 or bfloat16, a head width of WIDTHS, eager."""
    return (
        query.device.type == "cpu"
        and query.dtype in _TYPES
        and query.dtype == keys.dtype == values.dtype
        and query.shape[-1] in WIDTHS
        and query.shape[2] == keys.shape[2]
        and query.numel() > 0
        and not torch.compiler.is_compiling()
        and not isinstance(load(), str)
    )


def native_attention(query: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """`prefix_attention` in C++, for what `takes` accepts; its sums are in float32 also for bfloat16.

    Where the processor has AMX, weights of bfloat16 operands are rounded to bfloat16 too, as on a GPU.

    query: (B, H, T, E); keys, values: (B, H, T, L, E). Returns (B, H, T, E) in the query's dtype. Raises ValueError for
    what `takes` refuses.
    """
    if not takes(query, keys, values):
        raise ValueError(
            f"the native attention got {query.dtype} of shape {tuple(query.shape)} on {query.device}; "
            f"{problem() or f'float32 or bfloat16 heads of {WIDTHS} on a CPU are needed'}"
        )
    out = _NativeAttention.apply(query, keys, values)
    assert isinstance(out, Tensor)
    return out


class _NativeAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, query: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        query, keys, values = (x if x.stride(-1) == 1 else x.contiguous() for x in (query, keys, values))
        out = torch.empty(query.shape, dtype=torch.float32)
        log_sum = torch.empty(query.shape[:3], dtype=torch.float32)
        _call("attention_forward", (query, keys, values), out.data_ptr(), log_sum.data_ptr())
        ctx.save_for_backward(query, keys, values, out, log_sum)
        return out.to(query.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        query, keys, values, out, log_sum = ctx.saved_tensors
        grad = grad.float()
        grad = grad if grad.stride(-1) == 1 else grad.contiguous()
        batch, heads, length, sources, width = keys.shape
        # In the order in which the projections have them, so that no gradient is copied into another order later.
        of_query = query.new_empty(batch, length, heads, width).transpose(1, 2)
        both = keys.new_empty(batch, length, sources, 2 * heads, width).permute(0, 3, 1, 2, 4)
        of_keys, of_values = both.chunk(2, dim=1)
        _call(
            "attention_backward",
            (query, keys, values, of_query, of_keys, of_values),
            *(out.data_ptr(), log_sum.data_ptr(), grad.data_ptr(), _longs((*grad.stride()[:3], 0))),
        )
        return of_query, of_keys, of_values


def gelu(x: Tensor) -> Tensor:
    """GELU by tanh of any shape: in C++ for large float32 and bfloat16 tensors on a CPU, else PyTorch's."""
    small = x.device.type != "cpu" or x.numel() < LEAST or x.dtype not in _TYPES
    if small or torch.compiler.is_compiling() or isinstance(load(), str):
        return F.gelu(x, approximate="tanh")
    out = _NativeGelu.apply(x)
    assert isinstance(out, Tensor)
    return out


class _NativeGelu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        x = x.contiguous()
        ctx.save_for_backward(x)
        out = torch.empty_like(x)
        _call_gelu(x, None, out)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        grad = grad.contiguous()
        out = torch.empty_like(x)
        _call_gelu(x, grad, out)
        return out


def _call_gelu(x: Tensor, grad: Tensor | None, out: Tensor) -> None:
    lib = load()
    assert isinstance(lib, ctypes.CDLL)
    upstream = None if grad is None else grad.data_ptr()
    half = x.dtype == torch.bfloat16
    lib.gelu(level(lib), torch.get_num_threads(), half, x.numel(), x.data_ptr(), upstream, out.data_ptr())


def _call(name: str, tensors: tuple[Tensor, ...], *others: Any) -> None:
    """Queries, keys, values (and gradients like them) with their strides, then the function's other arguments."""
    lib = load()
    assert isinstance(lib, ctypes.CDLL)
    batch, heads, length, sources, width = tensors[1].shape
    shape = (ctypes.c_int * 6)(batch, heads, length, sources, width, tensors[0].dtype == torch.bfloat16)
    strides = [s for x in tensors for s in ((*x.stride()[:3], 0) if x.dim() == 4 else x.stride()[:4])]
    pointers = (ctypes.c_void_p * len(tensors))(*(x.data_ptr() for x in tensors))
    if getattr(lib, name)(level(lib), torch.get_num_threads(), shape, pointers, _longs(strides), *others):
        raise MemoryError(f"{name} ran out of memory for heads of {length * sources} keys")


def _longs(values: Any) -> Any:
    return (ctypes.c_int64 * len(values))(*values)
