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

REGISTER = 16
"""Numbers in the widest register: rows of `gated` are a multiple of it."""

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
    if not _pays(x):
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
        _call_flat("gelu", x, None, out, x.numel())
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        grad = grad.contiguous()
        out = torch.empty_like(x)
        _call_flat("gelu", x, grad, out, x.numel())
        return out


def gated(x: Tensor) -> Tensor:
    """SwiGLU's product, of x (..., 2F): silu of its first half times its second, (..., F). In C++ for training with
    large float32 and bfloat16 tensors on a CPU, else PyTorch's."""
    if not _trains(x) or x.shape[-1] % (2 * REGISTER):
        gate, up = x.chunk(2, dim=-1)
        return F.silu(gate) * up
    out = _NativeGated.apply(x)
    assert isinstance(out, Tensor)
    return out


class _NativeGated(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        x = x.contiguous()
        ctx.save_for_backward(x)
        out = x.new_empty(*x.shape[:-1], x.shape[-1] // 2)
        _call_flat("gated", x, None, out, *_rows(x))
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        grad, out = grad.contiguous(), torch.empty_like(x)
        _call_flat("gated", x, grad, out, *_rows(x))
        return out


def rotated(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor | None:
    """x, (B, H, T, E) or (B, H, T, L, E), turned by angles, (1, 1, T, E/2) cosines and sines in float32: in C++ for
    training with large float32 and bfloat16 tensors on a CPU, else None."""
    fits = x.stride(-1) == 1 and x.shape[-1] % 2 == 0 and len(cos) == 1 and cos.dtype == torch.float32
    if not _trains(x) or not fits:
        return None
    out = _NativeRotary.apply(x, cos.contiguous(), sin.contiguous())
    assert isinstance(out, Tensor)
    return out


class _NativeRotary(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, sin)
        return _turned(x, cos, sin, 1.0)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        cos, sin = ctx.saved_tensors
        return _turned(grad if grad.stride(-1) == 1 else grad.contiguous(), cos, sin, -1.0), None, None


def _turned(x: Tensor, cos: Tensor, sin: Tensor, turn: float) -> Tensor:
    """In memory in the order in which the projections have it, (B, T, L, H, E), whatever order x has."""
    five = x if x.dim() == 5 else x.unsqueeze(3)
    batch, heads, length, sources, width = five.shape
    out = x.new_empty(batch, length, sources, heads, width).permute(0, 3, 1, 2, 4)
    lib = _library()
    shape = (ctypes.c_int * 6)(batch, heads, length, sources, width, x.dtype == torch.bfloat16)
    strides = _longs((*five.stride()[:4], *out.stride()[:4]))
    tables = (x.data_ptr(), cos.data_ptr(), sin.data_ptr())
    lib.rotary(level(lib), torch.get_num_threads(), shape, strides, *tables, turn, out.data_ptr())
    return out if x.dim() == 5 else out.squeeze(3)


def _pays(x: Tensor) -> bool:
    """Whether x is large enough, and of a kind, for a call into C++ to pay."""
    large = x.device.type == "cpu" and x.numel() >= LEAST and x.dtype in _TYPES
    return large and not torch.compiler.is_compiling() and not isinstance(load(), str)


def _trains(x: Tensor) -> bool:
    """Whether a call pays that only training makes: others compute as PyTorch does, to the bit."""
    return x.requires_grad and torch.is_grad_enabled() and _pays(x)


def _rows(x: Tensor) -> tuple[int, int]:
    """How many rows `gated` makes of x, and how wide each is."""
    return x.numel() // x.shape[-1], x.shape[-1] // 2


def _library() -> ctypes.CDLL:
    """The library, where it was looked for before."""
    lib = load()
    assert isinstance(lib, ctypes.CDLL)
    return lib


def _call_flat(name: str, x: Tensor, grad: Tensor | None, out: Tensor, *sizes: int) -> None:
    """A function of contiguous x, or with `grad` its gradient times that."""
    lib = _library()
    upstream = None if grad is None else grad.data_ptr()
    how = (level(lib), torch.get_num_threads(), x.dtype == torch.bfloat16, *sizes)
    getattr(lib, name)(*how, x.data_ptr(), upstream, out.data_ptr())


def _call(name: str, tensors: tuple[Tensor, ...], *others: Any) -> None:
    """Queries, keys, values (and gradients like them) with their strides, then the function's other arguments."""
    lib = _library()
    batch, heads, length, sources, width = tensors[1].shape
    shape = (ctypes.c_int * 6)(batch, heads, length, sources, width, tensors[0].dtype == torch.bfloat16)
    strides = [s for x in tensors for s in ((*x.stride()[:3], 0) if x.dim() == 4 else x.stride()[:4])]
    pointers = (ctypes.c_void_p * len(tensors))(*(x.data_ptr() for x in tensors))
    if getattr(lib, name)(level(lib), torch.get_num_threads(), shape, pointers, _longs(strides), *others):
        raise MemoryError(f"{name} ran out of memory for heads of {length * sources} keys")


def _longs(values: Any) -> Any:
    return (ctypes.c_int64 * len(values))(*values)
