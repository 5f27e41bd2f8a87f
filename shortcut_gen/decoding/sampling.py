"""Sampling settings and the pure functions that turn logits into the next id."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from shortcut_gen.errors import SettingsError

LARGEST_LOGIT = 1e30
"""A logit of that size or more, or one that is no number, comes from damaged weights: nothing is drawn from it."""
COLDEST = 1e-6
"""Below this temperature the likeliest id takes all, as at 0: a logit divided by less may pass what float32 holds."""
UNUSABLE = -1
"""What is drawn from a row of unusable logits."""
MOST_GAIN = 4
"""A tap counts at most so many times as much as it was trained to."""
MOST_GUIDANCE = 10
LIKELIEST = 256
"""Ids that top-p sorts at first; only where they hold too little of the mass are all of them sorted."""


@dataclass(frozen=True, kw_only=True)
class SamplingParams:
    """How ids are drawn and when to stop. Stops at whichever of the two lengths comes first."""

    temperature: float = 1.0
    """Divides the logits; 0 takes the likeliest id, and so does less than a millionth, which is taken as 0."""
    top_k: int = 0
    """Keep only the k likeliest ids; 0 keeps all."""
    top_p: float = 1.0
    """Keep the fewest ids whose probabilities reach p (arXiv 1904.09751); 1 keeps all."""
    min_p: float = 0.0
    """Keep ids at least this share as likely as the likeliest (arXiv 2407.01082); 0 keeps all."""
    seed: int = 0
    """Seed of the randomness; with a variation's number it fixes that variation."""
    max_tokens: int | None = None
    """Most new ids; None for no limit in tokens."""
    seconds: float | None = None
    """Length of the continuation in seconds of music or speech; None for no limit in seconds."""
    tap_gains: tuple[float, ...] = ()
    """How many times as much each tap's keys count in the last block's attention: a number from 0, which removes the
    tap, to 4 for each; empty, or all 1, as trained."""
    guidance: float = 0.0
    """How much further than by itself the model holds to the prompt, from 0 to 10 (guidance.py): logits move by so many
    times what the prompt but for its last moments changes about them."""
    ending: float | None = None
    """Go on past `seconds` by so many, then take back what follows the place in them that sounds most like an end
    (`Tokenizer.to_ending`); None breaks off at once, as speech does in any case."""

    def __post_init__(self) -> None:
        def check(name: str, ok: bool, need: str) -> None:
            if not ok:
                raise SettingsError(f"{name} is {getattr(self, name)}; {need} is needed")

        def number(value: object) -> bool:
            return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)

        def whole(value: object) -> bool:
            return isinstance(value, int) and not isinstance(value, bool)

        check("temperature", number(self.temperature) and 0 <= self.temperature <= 10, "a number from 0 to 10")
        if self.temperature < COLDEST:
            object.__setattr__(self, "temperature", 0.0)
        check("top_k", whole(self.top_k) and self.top_k >= 0, "a whole number of at least 0 (0 keeps all)")
        check("top_p", number(self.top_p) and 0 < self.top_p <= 1, "a number above 0 and at most 1")
        check("min_p", number(self.min_p) and 0 <= self.min_p < 1, "a number from 0 up to, not including, 1")
        check("seed", whole(self.seed) and 0 <= self.seed < 2**63, "a whole number from 0 to 2^63 - 1")
        if self.max_tokens is not None:
            check("max_tokens", whole(self.max_tokens) and self.max_tokens >= 1, "a whole number of at least 1")
        if self.seconds is not None:
            check("seconds", number(self.seconds) and 0 < self.seconds <= 86_400, "a number above 0, at most 86400")
        check("guidance", number(self.guidance) and 0 <= self.guidance <= MOST_GUIDANCE, "a number from 0 to 10")
        self._check_gains(number)
        if self.ending is not None:
            check("ending", number(self.ending) and 0 < self.ending <= 600, "a number above 0, at most 600")
        if self.max_tokens is None and self.seconds is None:
            raise SettingsError("neither max_tokens nor seconds is given; at least one length is needed")

    def _check_gains(self, number: Callable[[object], bool]) -> None:
        gains = self.tap_gains
        fine = isinstance(gains, list | tuple) and all(number(gain) and 0 <= gain <= MOST_GAIN for gain in gains)
        if not fine or (gains and not any(gains)):
            need = f"numbers from 0 to {MOST_GAIN}, one for each tap and not all 0, are needed"
            raise SettingsError(f"tap_gains is {gains}; {need}")
        object.__setattr__(self, "tap_gains", () if all(gain == 1 for gain in gains) else tuple(map(float, gains)))


Settings = SamplingParams | Sequence[SamplingParams]
"""Of all rows, or of each."""


def of_each(params: Settings, rows: int) -> Sequence[SamplingParams]:
    """The settings of each of so many rows. Raises ValueError where there are more or fewer."""
    if isinstance(params, SamplingParams):
        return [params] * rows
    if len(params) != rows:
        raise ValueError(f"{len(params)} settings are given; {rows} rows need as many")
    return params


def filter_logits(logits: Tensor, params: SamplingParams) -> Tensor:
    """Temperature, then top-k, top-p and min-p: what is cut becomes -inf.

    logits: (B, V) with forbidden ids already at -inf. Each filter sees what the one before it left.
    """
    logits = logits / params.temperature
    if 0 < params.top_k < logits.shape[-1]:
        kth = torch.topk(logits, params.top_k, dim=-1).values[..., -1:]  # (B, 1)
        logits = logits.masked_fill(logits < kth, -torch.inf)
    if params.top_p < 1.0:
        logits = logits.masked_fill(_beyond(torch.softmax(logits, dim=-1), params.top_p), -torch.inf)
    if params.min_p > 0.0:
        floor = logits.amax(dim=-1, keepdim=True) + math.log(params.min_p)
        logits = logits.masked_fill(logits < floor, -torch.inf)
    return logits


def _beyond(probs: Tensor, top_p: float) -> Tensor:
    """(B, V) bool, True for the ids that top-p cuts from probabilities (B, V)."""
    # An id stays while the mass before it is short of p, so the likeliest always stays.
    likeliest, order = probs.topk(min(LIKELIEST, probs.shape[-1]), dim=-1)  # (B, 256), falling
    stays = likeliest.cumsum(dim=-1) - likeliest < top_p
    if order.shape[-1] < probs.shape[-1] and bool(stays[:, -1].any()):
        likeliest, order = probs.sort(dim=-1, descending=True)  # (B, V)
        stays = likeliest.cumsum(dim=-1) - likeliest < top_p
    return torch.ones_like(probs, dtype=torch.bool).scatter(-1, order, ~stays)


def choose(logits: Tensor, masks: Sequence[Tensor | None], params: Settings, uniforms: Sequence[float]) -> list[int]:
    """The next id of each row: the likeliest at temperature 0, else drawn from what the filters leave; UNUSABLE where
    a logit is no usable number.

    logits: (B, V) float32 on the CPU, changed in place; masks: (V,) bool for each row, True for what may come, or None
    where all may; uniforms: a number in [0, 1) for each row.
    """
    if not isinstance(params, SamplingParams):
        return _choose_apart(logits, masks, of_each(params, len(logits)), uniforms)
    fine = usable(logits)
    for row, mask in zip(logits, masks, strict=True):
        if mask is not None:
            row.masked_fill_(~mask, -torch.inf)
    if params.temperature == 0:
        drawn = logits.argmax(dim=-1)
    else:
        drawn = draw(filter_logits(logits, params), torch.tensor(uniforms, dtype=torch.float64))
    return [int(token) for token in drawn.masked_fill(~fine, UNUSABLE)]


def _choose_apart(
    logits: Tensor, masks: Sequence[Tensor | None], params: Sequence[SamplingParams], uniforms: Sequence[float]
) -> list[int]:
    """`choose` for rows of different settings: those of equal ones at once."""
    groups: dict[SamplingParams, list[int]] = {}
    for row, one in enumerate(params):
        groups.setdefault(one, []).append(row)
    if len(groups) == 1:
        return choose(logits, masks, params[0], uniforms)
    chosen = [UNUSABLE] * len(params)
    for one, rows in groups.items():
        some = choose(logits[rows], [masks[row] for row in rows], one, [uniforms[row] for row in rows])
        for row, token in zip(rows, some, strict=True):
            chosen[row] = token
    return chosen


def usable(logits: Tensor) -> Tensor:
    """Which rows of logits, (B, V), are numbers of a size that weights give: (B,) bool."""
    return (logits.abs() < LARGEST_LOGIT).all(dim=-1)  # no number is less than anything


class RowSettings(NamedTuple):
    """The settings of each row where `choose_there` finds them, (B,) each, on its device."""

    temperatures: Tensor
    """float64; 0 takes the likeliest."""
    top_k: Tensor
    """int64, from 1 to V, which keeps all."""
    top_p: Tensor
    """float64."""
    floors: Tensor
    """float64: logarithms of min-p, -inf where it is 0."""

    @staticmethod
    def of(params: SamplingParams, vocab: int) -> tuple[float, int, float, float]:
        """One row's numbers, in that order."""
        top_k = min(params.top_k, vocab) or vocab
        return params.temperature, top_k, params.top_p, math.log(params.min_p) if params.min_p else -math.inf


def choose_there(logits: Tensor, allowed: Tensor, settings: RowSettings, uniforms: Tensor) -> Tensor:
    """What `choose` does, without leaving the device and by the same operations whatever the numbers are, as a CUDA
    graph must.

    logits: (B, V); allowed: (B, V) bool; uniforms: (B,) float64; all on one device. Returns ids, (B,) int64.
    """
    temperatures, top_p, floors = (
        row.to(torch.float32).unsqueeze(1) for row in (settings.temperatures, settings.top_p, settings.floors)
    )
    fine = usable(logits)
    logits = logits.float().masked_fill(~allowed, -torch.inf)
    warm = logits / torch.where(temperatures == 0, 1.0, temperatures)
    falling, order = warm.sort(dim=-1, descending=True)  # (B, V)
    warm = warm.masked_fill(warm < falling.gather(-1, settings.top_k.unsqueeze(1) - 1), -torch.inf)
    likeliest = torch.softmax(warm, dim=-1).gather(-1, order)
    stays = (likeliest.cumsum(dim=-1) - likeliest < top_p) | (top_p >= 1.0)
    warm = warm.masked_fill(torch.ones_like(allowed).scatter(-1, order, ~stays), -torch.inf)
    warm = warm.masked_fill(warm < warm.amax(dim=-1, keepdim=True) + floors, -torch.inf)
    drawn = torch.where(settings.temperatures == 0, logits.argmax(dim=-1), draw(warm, uniforms))
    return drawn.masked_fill(~fine, UNUSABLE)


def draw(logits: Tensor, uniforms: Tensor) -> Tensor:
    """Inverse-CDF draw: the first id whose cumulative probability exceeds its row's uniform number.

    logits: (B, V); uniforms: (B,) float64 in [0, 1). Returns ids, (B,) int64. An id of probability 0 is never drawn.
    """
    cdf = torch.softmax(logits.double(), dim=-1).cumsum(dim=-1)  # (B, V)
    # Scaled by the total, so that rounding in the sum cannot put a uniform past the last possible id.
    target = uniforms.to(cdf.device).unsqueeze(-1) * cdf[..., -1:]
    return torch.searchsorted(cdf, target, right=True).clamp_(max=logits.shape[-1] - 1).squeeze(-1)
