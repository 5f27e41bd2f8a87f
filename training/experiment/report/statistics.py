"""What the report computes: spreads over seeds, the paired test, and where a curve crosses a loss."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

Points = Sequence[tuple[float, float]]
"""(x, loss), rising in x."""


@dataclass(frozen=True)
class Summary:
    """Mean and sample standard deviation of `count` values; one value has no deviation."""

    mean: float
    sd: float | None
    count: int


@dataclass(frozen=True)
class Paired:
    """Differences by seed: mean, standard deviation, Student's t and its two-sided p. None with fewer than two."""

    mean: float
    sd: float | None
    t: float | None
    p: float | None
    count: int


def summarise(values: Sequence[float]) -> Summary:
    """Mean ± sample standard deviation (n - 1) of one value or more."""
    mean = math.fsum(values) / len(values)
    if len(values) < 2:
        return Summary(mean, None, len(values))
    variance = math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1)
    return Summary(mean, math.sqrt(variance), len(values))


def pooled_sd(one: Sequence[float], other: Sequence[float]) -> float:
    """Root of the mean of two samples' variances; both of the same size, two or more."""
    first, second = summarise(one).sd, summarise(other).sd
    return math.sqrt(((first or 0.0) ** 2 + (second or 0.0) ** 2) / 2)


def paired_test(one: Sequence[float], other: Sequence[float]) -> Paired:
    """Paired t-test of one minus other, seed by seed, for one pair or more."""
    differences = summarise([a - b for a, b in zip(one, other, strict=True)])
    if differences.sd is None:
        return Paired(differences.mean, None, None, None, 1)
    error = differences.sd / math.sqrt(differences.count)
    # Differences that are all alike leave nothing to chance, as far as the seeds can tell.
    t = differences.mean / error if error else math.copysign(math.inf, differences.mean) if differences.mean else 0.0
    return Paired(differences.mean, differences.sd, t, two_sided_p(t, differences.count - 1), differences.count)


def two_sided_p(t: float, freedom: int) -> float:
    """P(|T| ≥ |t|) of Student's distribution with a whole number of degrees of freedom.

    The finite series of Abramowitz & Stegun, "Handbook of Mathematical Functions", 26.7.3 and 26.7.4.
    """
    angle = math.atan(abs(t) / math.sqrt(freedom))
    sine, cosine = math.sin(angle), math.cos(angle)
    odd = freedom % 2
    term = cosine if odd else 1.0
    total = term if freedom > 1 else 0.0
    for k in range(2 + odd, freedom - 1, 2):
        term *= cosine**2 * (k - 1) / k
        total += term
    within = 2 / math.pi * (angle + sine * total) if odd else sine * total
    return min(max(1.0 - within, 0.0), 1.0)


def first_reached(points: Points, loss: float) -> float | None:
    """Where a curve first comes down to a loss, between its points by interpolation; None if it never does.

    A curve that is there at its first point has reached it at that point or before: the point's own place.
    """
    before: tuple[float, float] | None = None
    for x, value in points:
        if value <= loss:
            if before is None:
                return x
            return before[0] + (x - before[0]) * (before[1] - loss) / (before[1] - value)
        before = (x, value)
    return None


def loss_at(points: Points, x: float) -> float | None:
    """A curve's loss at a place, by interpolation; None outside its points."""
    before: tuple[float, float] | None = None
    for place, value in points:
        if place == x:
            return value
        if place > x:
            return None if before is None else before[1] + (value - before[1]) * (x - before[0]) / (place - before[0])
        before = (place, value)
    return None


def saved(arm: Points, baseline: Points) -> float | None:
    """Share of the baseline's way to its own last loss that an arm saves; below 0 where it needs more.

    The baseline's way is to where its curve first comes down to that loss, which is before its end if it rose again.
    None where the arm never gets there or a curve is empty.
    """
    if not arm or not baseline:
        return None
    target = baseline[-1][1]
    needed, whole = first_reached(arm, target), first_reached(baseline, target)
    return None if needed is None or not whole else 1 - needed / whole
