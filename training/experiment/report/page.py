"""The report on the paper's claims, docs/reproduction.md, from what `python -m training.reproduce run` has finished."""

import math
import re
import textwrap
from collections.abc import Sequence
from pathlib import Path

from shortcut_gen.errors import DataError
from shortcut_gen.files import reason, write_whole
from training.experiment.arms import ARMS, CONTROLS, KNOWN, MATCHED, described, is_control
from training.experiment.report.claims import RULES, claims
from training.experiment.report.compare import DEVIATIONS, ENOUGH, TOLERANCE
from training.experiment.report.depth import kept_readings, read_readings
from training.experiment.report.lasting import FARTHEST, lasting
from training.experiment.report.opening import IMAGES, OVERVIEW, opening
from training.experiment.report.overview import compared, draw_overview
from training.experiment.report.paper import (
    CONTRADICTIONS,
    CORPORA,
    SOURCE,
    title,
)
from training.experiment.report.plots import draw
from training.experiment.report.studies import Speeds, Study, read_results, read_speeds, studies
from training.experiment.report.tables import (
    duration,
    equal_cost,
    label,
    lasts,
    losses,
    paper_losses,
    paper_speed_ups,
    settings,
    speed_ups,
    standings,
    what_ran,
)

WIDTH = 120
ABLATIONS = ("shortcut", "shortcut-identity", "shortcut-middle", "shortcut-current", "shortcut-literal")


def write(results: Path, speeds: Path, out: Path, attention: Sequence[Path] = (), kept: Path | None = None) -> None:
    """Write the report of a results.jsonl and a speed.json to `out`, its pictures into `images` beside it.

    Without a speed.json there is no axis of seconds. attention: files of `training.attention_maps --json`. kept: a file
    with any of these that the repository keeps. Raises DataError where a file is missing, broken or holds no run, and
    where `out` cannot be written.
    """
    runs = read_results(results, KNOWN, kept)
    measured = read_speeds(speeds, kept)
    readings = {(each.checkpoint, each.corpus): each for each in kept_readings(kept)} if kept else {}
    readings |= {(each.checkpoint, each.corpus): each for each in read_readings(attention)}
    groups = studies(runs, list(CORPORA), KNOWN)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{out.parent} cannot be made: {reason(error)}") from error
    for study in groups:
        draw(study, measured, out.parent / IMAGES / _picture(study))
    judged = claims(groups, measured, out.parent, list(readings.values()))
    words = {place: str(judged[0].by_study[place].word) for place in compared(groups)}
    if words:
        draw_overview(groups, words, out.parent / IMAGES / OVERVIEW)
    parts = [
        *opening(groups, judged, list(words), out.parent),
        *_ran(groups, measured),
        *_tables_of_the_paper(groups, measured),
        *(part for study in groups for part in _study(study, measured)),
        *_beyond(groups),
        *_rules(groups),
        *_not_run(groups),
    ]
    write_whole(out, ("\n\n".join(_wrapped(part) for part in parts if part) + "\n").encode(), DataError)
    print(f"{out}: {len(runs)} runs")


def _wrapped(part: str) -> str:
    """Prose in lines of the repository's length, code unbroken; tables, headings and pictures as they are."""
    lines = []
    part = re.sub(r"`[^`]*`", lambda code: code[0].replace(" ", "\0"), part)
    for line in part.splitlines():
        mark = re.match(r" *(- |\d+\. )?", line)
        hang = " " * (mark.end() if mark else 0)
        whole = line.startswith(("|", "#", "!"))
        kept = textwrap.wrap(line, WIDTH, subsequent_indent=hang, break_long_words=False, break_on_hyphens=False)
        lines += [line] if whole else kept
    return "\n".join(lines).replace("\0", " ")


def _picture(study: Study) -> str:
    """The name of a study's picture: the corpus's, numbered from its second setting on."""
    name = re.sub(r"[^\w-]", "-", study.corpus)
    return f"reproduction-{name}{f'-{study.number}' if study.number > 1 else ''}.png"


def _ran(groups: Sequence[Study], speeds: Speeds) -> list[str]:
    machines = sorted({settings(run.machine) for study in groups for run in study.all_runs()})
    lines = [f"- Trained on: {machine}." for machine in machines]
    if speeds.measured:
        timed = sorted({settings(speed.machine) for speed in speeds.measured})
        lines += [f"- Speeds measured apart, arms in turn, on: {machine}." for machine in timed]
    else:
        lines.append("- Speeds were not measured, so nothing is said about seconds.")
    lines += [
        f"- {label(study)}: {title(study.corpus)}; "
        f"{settings({key: value for key, value in study.settings.items() if key != 'budget'})}, "
        f"{max((run.scored_tokens for run in study.all_runs()), default=0):,} tokens scored; "
        f"{duration(math.fsum(run.seconds for run in study.all_runs()))} of training in all."
        for study in groups
    ]
    kept = [f"`{arm}` ({described(arm)})" for arm in KNOWN if any(arm in study.runs for study in groups)]
    return [
        "## What ran",
        what_ran(groups, speeds),
        "Parameters are those without embeddings. Arms of one seed saw the same crops in the same order. The arms: "
        + ", ".join(kept)
        + ".",
        "\n".join(lines),
    ]


def _tables_of_the_paper(groups: Sequence[Study], speeds: Speeds) -> list[str]:
    nothing = "Nothing that ran belongs here."
    return [
        "## The paper's tables, with ours beside",
        SOURCE,
        "### Losses of the two models",
        paper_losses(groups, ("baseline", "shortcut"), missing=True) or nothing,
        "### How much sooner the shortcut model reaches the baseline's loss (Figure 2, Table 1)",
        paper_speed_ups(groups, speeds) or nothing,
        "### Ablations (Table 2)",
        paper_losses([study for study in groups if study.runs.keys() & set(ABLATIONS[1:])], ABLATIONS) or nothing,
        "### Where the paper contradicts itself",
        "\n".join(f"- {line}" for line in CONTRADICTIONS),
    ]


def _study(study: Study, speeds: Speeds) -> list[str]:
    heading = label(study)
    return [
        f"## {heading[:1].upper()}{heading[1:]}",
        f"![Validation loss against tokens, FLOPs and seconds, and test NLL by seed]({IMAGES}/{_picture(study)})",
        "Lines are means over seeds, bands run from the lowest seed to the highest. Dashed: no shortcut. Dotted: fits, "
        "drawn on to twice the tokens.",
        losses(study),
        "Differences are paired by seed: mean ± standard deviation, and p of a two-sided paired t-test, not corrected "
        "for their number.",
        *_savings(study, speeds),
        *_equal_cost(study, speeds),
        *_lasting(study, speeds),
    ]


def _lasting(study: Study, speeds: Speeds) -> list[str]:
    if "baseline" not in study.runs or len(study.runs) < 2:
        return []
    rows = lasting(study, speeds)
    if not rows:
        return ["Does it last? The curves are too short, or too far from a power law, for a fit."]
    return [
        "Does it last? Fits of a + b·t^−c, t in millions of tokens (± root mean squared error), through the mean "
        "curves behind the first fifth and, where the learning rate decays at the end, before that; distances from the "
        "baseline by the fits, and where the two would meet, in multiples of what the dearer one spent on that "
        f"stretch (looked for up to {FARTHEST:.0f} times). An extrapolation from one rate and one size: a sign, no "
        "measurement.",
        lasts(rows),
    ]


def _savings(study: Study, speeds: Speeds) -> list[str]:
    if "baseline" not in study.runs or len(study.runs) < 2:
        return []
    return [
        "Share saved on the way to the baseline's last validation loss (in brackets each seed), by interpolation "
        "between validations; below 0 where more was needed. With one batch size for all, tokens are steps:",
        speed_ups(study, speeds),
    ]


def _equal_cost(study: Study, speeds: Speeds) -> list[str]:
    if "baseline" not in study.runs or len(study.runs) < 2:
        return []
    return [
        "Validation loss where an arm has spent what a whole run of the baseline spends (none where its own run ends "
        "before). An arm stopped on its way has not had the end of its learning rate's decay, which favours the "
        "baseline:",
        equal_cost(study, speeds),
    ]


def _beyond(groups: Sequence[Study]) -> list[str]:
    arms = [arm for arm in KNOWN if not is_control(arm) and any(arm in study.runs for study in groups)]
    if not arms:
        return []
    return [
        "## Does any shortcut beat a plain model of equal cost?",
        f"An arm *wins* where its test NLL is lower by more than {DEVIATIONS:g} pooled standard deviations, over "
        f"{ENOUGH} seeds or more, than that of every model without a shortcut that costs as much or less "
        f"({', '.join(CONTROLS)} and {MATCHED}NAME; within {TOLERANCE:.0%}), and one of those costs as much. "
        "Figures: against the one that comes closest.",
        standings(groups, arms),
    ]


def _rules(groups: Sequence[Study]) -> list[str]:
    numbers = {len(study.seeds(arm)) for study in groups for arm in study.runs}
    cautions = [
        "The learning rate follows one schedule over each run. Where it decays, the loss falls fastest at the end, so "
        "that a small gain at the end is a small share of the way.",
        "The baseline's way ends where its curve first comes down to its own last loss: if it rose again by "
        "overfitting, that is before the end.",
    ]
    if any(study.settings["budget"].get("seconds") for study in groups):
        cautions.append(
            "Runs with a budget of seconds saw different numbers of tokens: their final figures compare arms at equal "
            "seconds of the machine as it was then, validation and the other jobs on it included."
        )
    if 1 in numbers:
        cautions.append("From one seed nothing can be concluded: there is no deviation and no test.")
    if 2 in numbers:
        cautions.append(
            "From two seeds hardly anything can: the paired test has one degree of freedom and needs t = 12.7 for "
            "p = 0.05, and the deviation itself may be less than half of the true one or many times as large."
        )
    return ["## How it was judged", "\n".join(f"- {line}" for line in [*RULES, *cautions])]


def _not_run(groups: Sequence[Study]) -> list[str]:
    corpora = {study.corpus for study in groups}
    lines = [f"- {name}: {CORPORA[name].title}" for name in CORPORA if name not in corpora]
    for study in groups:
        if missing := [arm for arm in ARMS if arm not in study.runs]:
            lines.append(f"- {label(study)}: {', '.join(missing)}")
    if not lines:
        return []
    return [
        "## What did not run",
        "`python -m training.reproduce run --corpora ... --arms ... --seeds ...` adds it to what is there:",
        "\n".join(lines),
    ]
