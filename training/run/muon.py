"""Muon for stacks of weight matrices, AdamW for the rest, as one optimiser with one step and one state.

torch.optim.Muon takes 2-D parameters alone, and Lightning's automatic optimisation one optimiser; the feature MLPs keep
a matrix per tap in one 3-D parameter.
"""

import functools
import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
"""Quintic coefficients of https://kellerjordan.github.io/posts/muon/."""

NEWTON_SCHULZ_STEPS = 5
RMS_OF_ADAMW = 0.2
"""Root mean square of a typical AdamW update, to which Muon's is scaled: arXiv 2502.16982, section 2.2."""


def orthogonalise(updates: Tensor) -> Tensor:
    """Nearly orthogonal matrices with the row and column spaces of `updates`, (N, rows, columns), one by one."""
    a, b, c = NEWTON_SCHULZ
    x = updates.bfloat16() if updates.is_cuda or _pays_on_cpu(updates) else updates.float()
    tall = x.shape[-2] > x.shape[-1]
    x = x.mT if tall else x
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-7)
    for _ in range(NEWTON_SCHULZ_STEPS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x.mT if tall else x).to(updates.dtype)


def _pays_on_cpu(updates: Tensor) -> bool:
    """Whether a CPU orthogonalises such a stack faster in bf16: with AMX, where it is not small.

    With AVX-512's bf16 alone it took twice as long as f32. With AMX, f32 took 3.8 times as long as bf16 on
    (4, 512, 512), 1.7 times on (4, 64, 512) and (1, 256, 256), 1.5 times on (1, 1024, 256); but 0.7 times on
    (1, 128, 128) and (1, 512, 128) and 0.4 times on (1, 64, 64) and (1, 256, 64) (PyTorch 2.13, one thread, processor
    time).
    """
    large = min(updates.shape[-2:]) >= 256 or updates.numel() >= 2**17
    return large and updates.device.type == "cpu" and _has_amx()


@functools.cache
def _has_amx() -> bool:
    """Whether the processor multiplies tiles of bf16; no where this PyTorch cannot tell."""
    probe = getattr(torch.cpu, "_is_amx_tile_supported", None)
    return probe is not None and bool(probe())


class MuonAdamW(torch.optim.Optimizer):
    """Groups with `matrices: N` take Muon, each parameter seen as N-fold or more stacked matrices; others AdamW.

    `matrices` splits the rows of a 2-D parameter in N (keys and values in one matrix are two); a 3-D parameter is
    already a stack. With `kernels: True` a convolution's (channels, channels, width) is one matrix of so many rows.
    """

    def __init__(
        self,
        groups: Iterable[dict[str, Any]],
        lr: float,
        betas: tuple[float, float],
        momentum: float,
        eps: float = 1e-8,
    ) -> None:
        super().__init__(
            groups, dict(lr=lr, betas=betas, momentum=momentum, eps=eps, weight_decay=0.0, matrices=0, kernels=False)
        )

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One update of every parameter that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
            if not parameters:
                continue
            torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
            if group["matrices"]:
                self._muon(parameters, group)
            else:
                self._adam(parameters, group)
        return loss

    def _muon(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        for parameter in parameters:
            assert parameter.grad is not None
            state = self.state[parameter]
            momentum = state.setdefault("momentum", torch.zeros_like(parameter))
            momentum.lerp_(parameter.grad, 1 - group["momentum"])
            update = parameter.grad.lerp(momentum, group["momentum"])  # Nesterov
            flat = update.flatten(1) if group["kernels"] else update
            stack = flat if flat.dim() == 3 else flat.unflatten(0, (group["matrices"], -1))  # (N, rows, columns)
            scale = RMS_OF_ADAMW * math.sqrt(max(stack.shape[-2:]))
            parameter.add_(orthogonalise(stack).view_as(parameter), alpha=-group["lr"] * scale)

    def _adam(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        first_decay, second_decay = group["betas"]
        for parameter in parameters:
            assert parameter.grad is not None
            state = self.state[parameter]
            if not state:
                state.update(step=0, first=torch.zeros_like(parameter), second=torch.zeros_like(parameter))
            state["step"] += 1
            state["first"].lerp_(parameter.grad, 1 - first_decay)
            state["second"].lerp_(parameter.grad.square(), 1 - second_decay)
            second = (state["second"] / (1 - second_decay ** state["step"])).sqrt_().add_(group["eps"])
            parameter.addcdiv_(state["first"], second, value=-group["lr"] / (1 - first_decay ** state["step"]))
