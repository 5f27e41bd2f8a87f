"""The report's tables, in Markdown."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from training.experiment.report.claims import Claim, percent, spread
from training.experiment.report.compare import AXES, COSTS, at_equal_cost, p_value, savings, standing
from training.experiment.report.paper import CORPORA, LOSSES, SOONER, WIDTH, figures
from training.experiment.report.statistics import paired_test, summarise
from training.experiment.report.studies import Run, Speeds, Study

NONE = "–"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def count(number: float) -> str:
    """A count to three figures, in thousands or millions: 7.23 M, 100 M, 12 k."""
    size, unit = (1e6, " M") if number >= 1e5 else (1e3, " k") if number >= 1e3 else (1.0, "")
    value = number / size
    digits = 2 if value < 10 else 1 if value < 100 else 0
    text = f"{value:,.{digits}f}"
    return (text.rstrip("0").rstrip(".") if digits else text) + unit


def mean_sd(values: Sequence[float], digits: int = 4) -> str:
    """Mean ± standard deviation; of one value the value."""
    total = summarise(values)
    return f"{total.mean:.{digits}f}" + ("" if total.sd is None else f" ± {total.sd:.{digits}f}")


def signed(number: float) -> str:
    """A difference, always with its sign."""
    return f"{number:+.4f}".replace("-", "−")


def settings(values: Mapping[str, Any]) -> str:
    """Settings on one line; of a path that starts at the root of a machine the last name alone."""
    parts = []
    for key, value in values.items():
        if value is None or value == {}:
            continue
        if isinstance(value, Mapping):
            value = f"({settings(value)})"
        elif isinstance(value, str) and Path(value).is_absolute():
            value = Path(value).name
        elif isinstance(value, int) and not isinstance(value, bool):
            value = f"{value:,}"
        parts.append(f"{key} {value}")
    return ", ".join(parts)


def budget(study: Study) -> str:
    """What every run of a study was given."""
    given = {key: value for key, value in study.settings["budget"].items() if value is not None}
    known = {"tokens": lambda value: f"{count(value)} tokens", "steps": lambda value: f"{value:,} steps"}
    known["seconds"] = lambda value: f"{value:,g} s"
    return ", ".join(known[key](value) if key in known else f"{key} {value}" for key, value in given.items()) or NONE


def label(study: Study) -> str:
    """A study's corpus, budget, width and, where the corpus ran under several settings, which one it is."""
    width = f", {study.base['width']} wide" if "width" in study.base else ""
    return f"{study.corpus}, {budget(study)}{width}" + (f", setting {study.number}" if study.number > 1 else "")


def duration(seconds: float) -> str:
    """Hours, or minutes where it is less than one hour."""
    return f"{seconds / 3600:,.1f} hours" if seconds >= 3600 else f"{seconds / 60:.1f} minutes"


def seeds(study: Study, arm: str) -> str:
    """The seeds an arm ran with."""
    return ", ".join(str(seed) for seed in study.seeds(arm))


def what_ran(studies: Sequence[Study], speeds: Speeds) -> str:
    """Every arm of every study: seeds, budget, size, cost, tokens and speed."""
    rows = []
    for study in studies:
        size = study.one("shortcut").parameters if "shortcut" in study.runs else None
        for arm in study.runs:
            run = study.one(arm)
            rows.append(
                [
                    study.corpus,
                    f"`{arm}`",
                    seeds(study, arm),
                    budget(study),
                    count(run.parameters),
                    f"{run.parameters / size:.2f}" if size else NONE,
                    f"{run.flops_per_token / 1e6:,.1f}",
                    count(summarise(study.values(arm, study.seeds(arm), lambda run: run.tokens)).mean),
                    _speed(speeds, run),
                ]
            )
        rows += [
            [study.corpus, f"`{run.arm}`", f"{run.seed}: diverged", budget(study), count(run.parameters), *[NONE] * 4]
            for run in study.diverged
        ]
    head = ["corpus", "arm", "seeds", "budget", "parameters", "of shortcut's", "MFLOPs a token", "tokens"]
    return table([*head, "tokens a second"], rows)


def _speed(speeds: Speeds, run: Run) -> str:
    speed = speeds.of(run)
    return NONE if speed is None else f"{speed:,.0f} ± {speeds.spread(run):.0%}"


def losses(study: Study) -> str:
    """Final figures of a study's arms, each against baseline and against shortcut."""
    rows = []
    for arm in study.runs:
        own = study.seeds(arm)
        rows.append(
            [
                f"`{arm}`",
                str(len(own)),
                mean_sd(study.values(arm, own)),
                f"{summarise(study.values(arm, own, lambda run: run.accuracy)).mean:.1%}",
                _difference(study, arm, "baseline"),
                _difference(study, arm, "shortcut"),
            ]
        )
    return table(["arm", "seeds", "test NLL", "accuracy", "minus baseline", "minus shortcut"], rows)


def _difference(study: Study, arm: str, other: str) -> str:
    """An arm minus another over common seeds, with its deviation and p."""
    common = study.seeds(arm, other)
    if arm == other or not common:
        return NONE
    test = paired_test(study.values(arm, common), study.values(other, common))
    sd = "" if test.sd is None else f" ± {test.sd:.4f}, {p_value(test)}"
    return f"{signed(test.mean)}{sd}"


def speed_ups(study: Study, speeds: Speeds) -> str:
    """Shares of tokens, FLOPs and seconds that each arm saves to the baseline's last validation loss, seed by seed."""
    rows = []
    for arm in study.runs:
        if arm == "baseline":
            continue
        cells = []
        for axis in AXES:
            shares = savings(study, arm, axis, speeds)
            reached = [share for share in shares.values() if share is not None]
            each = ", ".join("never" if share is None else percent(share) for share in shares.values())
            mean = f"{spread(reached)} " if len(reached) > 1 else ""
            cells.append(f"{mean}({each})" if shares else NONE)
        rows.append([f"`{arm}`", *cells])
    return table(["arm", *(f"{axis} saved" for axis in AXES)], rows) if rows else ""


def equal_cost(study: Study, speeds: Speeds) -> str:
    """Validation loss of each arm where it has spent what a whole run of the baseline spends."""
    rows = []
    for arm in study.runs:
        found = [at_equal_cost(study, arm, axis, speeds) for axis in AXES]
        cells = [
            NONE if total is None else f"{total.mean:.4f}" + ("" if total.sd is None else f" ± {total.sd:.4f}")
            for total in found
        ]
        rows.append([f"`{arm}`", *cells])
    return table(["arm", *(f"at the baseline's {axis}" for axis in AXES)], rows)


def verdicts(claims: Sequence[Claim], studies: Sequence[Study]) -> str:
    """The claims with their verdicts over all and corpus by corpus."""
    tested = [place for place, _ in enumerate(studies)]
    head = ["", "claim", "verdict", *(label(studies[place]) for place in tested)]
    rows = []
    for number, claim in enumerate(claims, start=1):
        each = [str(claim.by_study[place]).replace("**", "") if claim.by_study else NONE for place in tested]
        rows.append([str(number), claim.text, str(claim.verdict), *each])
    return table(head, rows)


def paper_losses(studies: Sequence[Study], arms: Sequence[str], missing: bool = False) -> str:
    """The paper's NLL of some arms beside ours; with `missing` also of data sets that did not run here."""
    rows = []
    for study in studies:
        about = CORPORA.get(study.corpus)
        for arm in arms:
            if arm not in study.runs:
                continue
            theirs = figures(about.paper if about else None, arm, study.base.get("width", WIDTH))
            own = mean_sd(study.values(arm, study.seeds(arm)))
            rows.append(
                [
                    about.paper if about and about.paper else NONE,
                    f"`{arm}`",
                    theirs or "not in the text at hand",
                    label(study),
                    own,
                    about.apart if about else "not one of the paper's data sets",
                ]
            )
    ran = {CORPORA[study.corpus].paper for study in studies if study.corpus in CORPORA}
    rows += [
        [name, f"`{arm}`", f"{theirs[0]:.2f}, {theirs[1]:.2%}", f"did not run ({width} wide)", NONE, NONE]
        for (name, arm, width), theirs in LOSSES.items()
        if missing and name not in ran and arm in arms
    ]
    head = ["the paper's data", "arm", "the paper's NLL, accuracy", "ours", "our test NLL", "what keeps them apart"]
    return table(head, rows) if rows else ""


def paper_speed_ups(studies: Sequence[Study], speeds: Speeds) -> str:
    """The paper's speed-up, whose axis it does not state, beside ours on three."""
    theirs = f"{SOONER[0]:.0%} to {SOONER[1]:.0%}"
    rows = []
    for study in studies:
        cells = []
        for axis in AXES:
            shares = savings(study, "shortcut", axis, speeds)
            reached = [share for share in shares.values() if share is not None]
            share = spread(reached) if reached else "never"
            partly = f" (in {len(reached)} of {len(shares)} seeds)" if 0 < len(reached) < len(shares) else ""
            cells.append(share + partly if shares else NONE)
        if any(cell != NONE for cell in cells):
            rows.append([label(study), theirs, *cells])
    return table(["corpus", "the paper, over its data", *(f"ours, {axis}" for axis in AXES)], rows) if rows else ""


def lasts(rows: Sequence[Sequence[str]]) -> str:
    """The table of `lasting`."""
    head = ["arm", "fit", "gap at half of it", "at its end", "at ten times its tokens"]
    return table([*head, *(f"meet, by {axis}" for axis in AXES)], rows)


def standings(studies: Sequence[Study], arms: Sequence[str]) -> str:
    """How the arms with a shortcut stand among models without one of equal size, and of equal cost."""
    rows = []
    for study in studies:
        for arm in arms:
            if arm in study.runs:
                cells = [": ".join(standing(study, arm, cost)) for cost in COSTS.values()]
                rows.append([label(study), f"`{arm}`", *cells])
    return table(["corpus", "arm", *(f"at equal {name}" for name in COSTS)], rows) if rows else ""
