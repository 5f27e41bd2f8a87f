"""EnCodec's networks run chunk by chunk, exactly: every layer keeps the little of the past that it needs.

Each layer of a causal SEANet (arXiv:2210.13438, section 3.1) looks back only: a convolution at its last inputs, a
transposed one at its last input, a recurrent one at its state. So a chunk costs what it would cost in the whole.
One thing looks ahead: the package pads a convolution's true start with a mirror image of what follows it. The first
chunk must be long enough for that, `least` frames.
"""

from collections.abc import Callable
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from shortcut_gen.codec import network as encodec_model  # noqa: F401 (first: see _torchaudio)

from encodec.modules import SConv1d, SConvTranspose1d, SLSTM  # isort: skip
from encodec.modules.seanet import SEANetResnetBlock  # isort: skip


class _Layer(Protocol):
    def __call__(self, x: Tensor) -> Tensor: ...

    def keep(self, rows: int) -> None: ...


class _Plain:
    """A layer without a memory."""

    def __init__(self, layer: Callable[[Tensor], Tensor]) -> None:
        self._layer = layer

    def __call__(self, x: Tensor) -> Tensor:
        return self._layer(x)

    def keep(self, rows: int) -> None:
        pass


class _Convolution:
    """A causal convolution; remembers its last inputs."""

    def __init__(self, layer: Any) -> None:
        convolution = layer.conv.conv
        kernel, stride, dilation = convolution.kernel_size[0], convolution.stride[0], convolution.dilation[0]
        self.context = (kernel - 1) * dilation - (stride - 1)
        self.stride = stride
        self._convolution = layer.conv
        self._mode = layer.pad_mode
        self._tail: Tensor | None = None

    def __call__(self, x: Tensor) -> Tensor:
        if self._tail is None:
            x = F.pad(x, (self.context, 0), mode=self._mode) if self.context else x
        else:
            x = torch.cat((self._tail, x), dim=-1)
        self._tail = x[..., x.shape[-1] - self.context :].clone()
        return self._convolution(x)

    def keep(self, rows: int) -> None:
        if self._tail is not None:
            self._tail = self._tail[:rows]


class _Transposed:
    """A causal transposed convolution whose kernel spans two strides; remembers its last input."""

    def __init__(self, layer: Any) -> None:
        self.stride = layer.convtr.convtr.stride[0]
        self._convolution = layer.convtr
        self._last: Tensor | None = None

    def __call__(self, x: Tensor) -> Tensor:
        skip = 0 if self._last is None else self.stride
        length = x.shape[-1] * self.stride
        joined = x if self._last is None else torch.cat((self._last, x), dim=-1)
        self._last = x[..., -1:].clone()
        return self._convolution(joined)[..., skip : skip + length]

    def keep(self, rows: int) -> None:
        if self._last is not None:
            self._last = self._last[:rows]


class _Recurrent:
    """An LSTM over time, added to its input; remembers its state."""

    def __init__(self, layer: Any) -> None:
        self._lstm, self._skip = layer.lstm, layer.skip
        self._state: tuple[Tensor, Tensor] | None = None

    def __call__(self, x: Tensor) -> Tensor:
        x = x.permute(2, 0, 1)  # (F, B, C)
        y, self._state = self._lstm(x, self._state)
        return (y + x if self._skip else y).permute(1, 2, 0)  # (B, C, F)

    def keep(self, rows: int) -> None:
        if self._state is not None:
            hidden, cell = self._state
            self._state = hidden[:, :rows].contiguous(), cell[:, :rows].contiguous()


class _Residual:
    """Two branches, added."""

    def __init__(self, branches: list[list[_Layer]]) -> None:
        self._branches = branches

    def __call__(self, x: Tensor) -> Tensor:
        first, second = (_run(branch, x) for branch in self._branches)
        return first + second

    def keep(self, rows: int) -> None:
        for branch in self._branches:
            for layer in branch:
                layer.keep(rows)


def _run(layers: list[_Layer], x: Tensor) -> Tensor:
    for layer in layers:
        x = layer(x)
    return x


class Chunks:
    """One pass of a SEANet encoder or decoder over (B, C, T), a chunk of T at a time."""

    def __init__(self, net: nn.Module, rate: int) -> None:
        """rate: inputs a frame, 1 for a decoder and the samples of a frame for an encoder."""
        self.least = 1
        """Frames that the first chunk must have."""
        self._rate = rate
        self._layers = [self._wrap(layer) for layer in net.model]  # type: ignore[union-attr]

    def _wrap(self, layer: nn.Module) -> _Layer:
        if isinstance(layer, SConv1d):
            convolution = _Convolution(layer)
            self.least = max(self.least, convolution.context // self._rate + 1)
            self._rate //= convolution.stride
            return convolution
        if isinstance(layer, SConvTranspose1d):
            transposed = _Transposed(layer)
            self._rate *= transposed.stride
            return transposed
        if isinstance(layer, SLSTM):
            return _Recurrent(layer)
        if isinstance(layer, SEANetResnetBlock):
            return _Residual([[self._wrap(layer.shortcut)], [self._wrap(part) for part in layer.block]])
        return _Plain(layer)

    def __call__(self, x: Tensor) -> Tensor:
        """The next chunk of the output: whole frames in, whole frames out."""
        return _run(self._layers, x)

    def keep(self, rows: int) -> None:
        """Go on with the first rows of the batch alone."""
        for layer in self._layers:
            layer.keep(rows)
