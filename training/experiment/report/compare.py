"""Arms against each other within one study: losses, ways to a loss, and what a plain model of equal cost does."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from training.experiment.arms import EQUAL_SIZE, TRIALS, family, is_control
from training.experiment.report.statistics import Paired, Summary, loss_at, paired_test, pooled_sd, saved, summarise
from training.experiment.report.studies import Run, Speeds, Study

DEVIATIONS = 2.0
"""A difference counts from this many pooled standard deviations on."""
TOLERANCE = 0.10
"""Two models are of one size, or of one cost, where they differ by no more than this share."""
ENOUGH = 3
"""Seeds that a win beyond the paper needs."""

Axis = Literal["tokens", "FLOPs", "seconds"]
AXES: tuple[Axis, ...] = ("tokens", "FLOPs", "seconds")


@dataclass(frozen=True)
class Comparison:
    """An arm against another in test NLL, over the seeds that both ran with, two or more."""

    test: Paired
    deviation: float
    """Pooled standard deviation."""

    @property
    def lower(self) -> bool:
        """Whether the arm is lower by more than `DEVIATIONS` pooled standard deviations."""
        return self.test.mean < -DEVIATIONS * self.deviation

    def __str__(self) -> str:
        size = f"{abs(self.test.mean) / self.deviation:.1f} pooled sd; " if self.deviation else ""
        direction = "lower" if self.test.mean < 0 else "higher"
        return (
            f"{abs(self.test.mean):.4f} {direction} ({size}paired t-test, n = {self.test.count}: {p_value(self.test)})"
        )


def p_value(test: Paired) -> str:
    """The test's p to three places."""
    return "no p from one seed" if test.p is None else "p < 0.001" if test.p < 0.001 else f"p = {test.p:.3f}"


def compare(study: Study, arm: str, other: str) -> Comparison | None:
    """An arm against another in test NLL; None where fewer than two seeds ran with both."""
    seeds = study.seeds(arm, other)
    if len(seeds) < 2:
        return None
    one, two = study.values(arm, seeds), study.values(other, seeds)
    return Comparison(paired_test(one, two), pooled_sd(one, two))


def of_equal_size(study: Study, own: str = "shortcut") -> list[str]:
    """Controls made as large as the shortcut model, or its like on another baseline, that ran and are as large."""
    if own not in study.runs:
        return []
    size = study.one(own).parameters
    made = EQUAL_SIZE if not family(own) else [arm for arm in TRIALS if is_control(arm) and family(arm) == family(own)]
    near = (arm for arm in made if arm in study.runs and abs(study.one(arm).parameters / size - 1) <= TOLERANCE)
    return list(near)


def curve(run: Run, axis: Axis, speeds: Speeds) -> list[tuple[float, float]] | None:
    """Validation losses of a run against tokens, training FLOPs or seconds; None where the speed was not measured.

    Seconds are tokens over the arm's speed measured apart, because runs may have shared a machine.
    """
    if axis == "seconds":
        speed = speeds.of(run)
        return None if speed is None else [(tokens / speed, loss) for tokens, loss in run.curve]
    unit = run.flops_per_token if axis == "FLOPs" else 1
    return [(tokens * unit, loss) for tokens, loss in run.curve]


def savings(study: Study, arm: str, axis: Axis, speeds: Speeds) -> dict[int, float | None]:
    """By seed, the share that an arm saves of the baseline's way to its last validation loss.

    A seed's None says that the arm never gets there. Empty where no seed can be compared: an arm did not run, a run
    has no curve, or the axis is seconds and a speed was not measured.
    """
    shares: dict[int, float | None] = {}
    for seed in study.seeds("baseline", arm):
        own = curve(study.runs[arm][seed], axis, speeds)
        base = curve(study.runs["baseline"][seed], axis, speeds)
        if own and base:
            shares[seed] = saved(own, base)
    return shares


def at_equal_cost(study: Study, arm: str, axis: Axis, speeds: Speeds) -> Summary | None:
    """An arm's validation loss where it has spent what a whole run of the baseline spends.

    None where a run ends before that, as a cheaper arm's does, or a curve or speed is missing.
    """
    losses = []
    for seed in study.seeds("baseline", arm):
        own = curve(study.runs[arm][seed], axis, speeds)
        base = curve(study.runs["baseline"][seed], axis, speeds)
        loss = loss_at(own, base[-1][0]) if own and base else None
        if loss is None:
            return None
        losses.append(loss)
    return summarise(losses) if losses else None


Cost = Callable[[Run], int]
COSTS: dict[str, Cost] = {
    "non-embedding parameters": lambda run: run.parameters,
    "FLOPs a token": lambda run: run.flops_per_token,
}


def standing(study: Study, arm: str, cost: Cost) -> tuple[str, str]:
    """How an arm stands among the models without a shortcut that cost as much or less: the word, and why.

    `wins`: it is lower than every one of them by more than `DEVIATIONS` pooled standard deviations over `ENOUGH` seeds
    or more, and one of them costs as much within `TOLERANCE`. A word starting with `open` says what is missing.
    """
    own = cost(study.one(arm))
    rivals = [
        control for control in study.runs if is_control(control) and family(control) == family(arm) and control != arm
    ]
    rivals = [rival for rival in rivals if cost(study.one(rival)) <= own * (1 + TOLERANCE)]
    if not any(cost(study.one(rival)) >= own * (1 - TOLERANCE) for rival in rivals):
        return "open", "no model without a shortcut of that cost ran"
    found = {rival: compare(study, arm, rival) for rival in rivals}
    if alone := [rival for rival, result in found.items() if result is None]:
        return "open", f"fewer than two seeds in common with {', '.join(alone)}"
    known = {rival: result for rival, result in found.items() if result is not None}
    hardest, closest = max(known.items(), key=lambda item: item[1].test.mean)
    why = f"{closest} than {hardest}"
    if not all(result.lower for result in known.values()):
        return "does not win", why
    seeds = min(result.test.count for result in known.values())
    return ("wins", why) if seeds >= ENOUGH else (f"open: {seeds} seeds, {ENOUGH} are needed", why)
