"""Does a lead last: a power law through each arm's curve, and where two arms would meet."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from training.experiment.report.compare import AXES, Axis
from training.experiment.report.statistics import Points, loss_at
from training.experiment.report.studies import Run, Speeds, Study

BEGIN = 0.2
"""Share of a run after which its curve is fitted."""
LEAST = 6
"""Points that a fit needs."""
POWERS = np.geomspace(0.05, 3.0, 200)
ROUGH = 0.05
"""Error of a fit, in shares of what the loss falls by, from which on it describes nothing."""
FARTHEST = 100.0
"""How many times as far as the runs went a meeting is looked for; beyond that an extrapolation says nothing."""


@dataclass(frozen=True, kw_only=True)
class Fit:
    """loss = a + b·tokens^-c, tokens in millions, through a stretch of a curve."""

    a: float
    b: float
    c: float
    error: float
    """Root of the mean squared error, in nats."""

    def at(self, tokens: float) -> float:
        """The loss at so many tokens."""
        return self.a + self.b * (tokens / 1e6) ** -self.c


def stretch(study: Study, points: Points) -> Points:
    """What is fitted of a curve: behind its first part, and before the learning rate's final decay under `wsd`."""
    if not points:
        return []
    optimizer, whole = study.settings["optimizer"], points[-1][0]
    end = 1 - optimizer.get("decay_share", 0.0) if optimizer.get("schedule") == "wsd" else 1.0
    return [point for point in points if BEGIN * whole <= point[0] <= end * whole * (1 + 1e-9)]


def fitted(points: Points) -> Fit | None:
    """The best fit in least squares; None where points are too few or no falling power law describes them."""
    if len(points) < LEAST:
        return None
    tokens, losses = np.array(points).T  # (N,) each
    best: tuple[float, int, float, float] | None = None
    for place, power in enumerate(POWERS):
        design = np.stack([np.ones_like(tokens), (tokens / 1e6) ** -power], axis=1)
        (a, b), *_ = np.linalg.lstsq(design, losses, rcond=None)
        error = float(np.sqrt(np.mean((design @ [a, b] - losses) ** 2)))
        if a >= 0 and b > 0 and (best is None or error < best[0]):
            best = (error, place, float(a), float(b))
    if best is None or best[1] in (0, len(POWERS) - 1):  # at an end of the range: the curve does not say which power
        return None
    if best[0] > ROUGH * float(losses.max() - losses.min()):
        return None
    return Fit(a=best[2], b=best[3], c=float(POWERS[best[1]]), error=best[0])


def fits(study: Study) -> dict[str, Fit]:
    """The fit of every arm that has one, through the mean over the seeds it shares with the baseline."""
    found = {}
    for arm in study.runs:
        curves = [study.runs[arm][seed].curve for seed in study.seeds(arm, "baseline")]
        if made := fitted(stretch(study, _mean(curves))):
            found[arm] = made
    return found


def meeting(one: Fit, other: Fit, costs: tuple[float, float], begin: float) -> float | None:
    """Where one arm's lead over another ends or begins, behind `begin`; None within FARTHEST times that.

    costs: what a token costs each of them on the axis, in whose unit begin and the answer are.
    """
    places = np.geomspace(begin, begin * FARTHEST, 2000)
    gaps = [one.at(place / costs[0]) - other.at(place / costs[1]) for place in places]
    for place, before, gap in zip(places[1:], gaps, gaps[1:], strict=False):
        if before == 0 or math.copysign(1, before) != math.copysign(1, gap):
            return float(place)
    return None


def cost(run: Run, axis: Axis, speeds: Speeds) -> float | None:
    """What a token costs an arm on an axis; None where its speed was not measured."""
    if axis == "seconds":
        speed = speeds.of(run)
        return None if speed is None else 1 / speed
    return float(run.flops_per_token) if axis == "FLOPs" else 1.0


def lasting(study: Study, speeds: Speeds) -> list[list[str]]:
    """Rows of a table: an arm, its fit, its distance from the baseline in the middle of the stretch, at its end and at
    ten times as many tokens by the fits, and where the two would meet on each axis."""
    found, rows = fits(study), []
    if "baseline" not in found:
        return []
    base = study.one("baseline")
    end = stretch(study, base.curve)[-1][0]
    for arm, fit in found.items():
        law = f"{fit.a:.3f} + {fit.b:.3f}·t^−{fit.c:.2f} (± {fit.error:.4f})"
        if arm == "baseline":
            rows.append([f"`{arm}`", law, *["–"] * 6])
            continue
        gaps = [fit.at(place) - found["baseline"].at(place) for place in (end / 2, end, 10 * end)]
        meets = []
        for axis in AXES:
            costs = cost(study.one(arm), axis, speeds), cost(base, axis, speeds)
            if costs[0] is None or costs[1] is None:
                meets.append("not measured")
                continue
            begin = end * max(costs[0], costs[1])  # where the dearer arm's stretch ends: both are known up to there
            place = meeting(fit, found["baseline"], (costs[0], costs[1]), begin)
            meets.append("no" if place is None else f"at {place / begin:.1f} times")
        rows.append([f"`{arm}`", law, *(f"{gap:+.3f}".replace("-", "−") for gap in gaps), *meets])
    return rows


def _mean(curves: Sequence[Points]) -> list[tuple[float, float]]:
    """The mean curve at the first one's places, where all have a loss."""
    if not curves:
        return []
    made = []
    for place, _ in curves[0]:
        losses = [loss_at(points, place) for points in curves]
        if all(loss is not None for loss in losses):
            made.append((place, math.fsum(loss for loss in losses if loss is not None) / len(losses)))
    return made
