"""How the report begins: a picture, a line for each study, the verdicts and what they rest on."""

from collections.abc import Sequence
from pathlib import Path

from training.experiment.report.claims import Claim, ends_lower
from training.experiment.report.overview import differences
from training.experiment.report.paper import REFERENCE
from training.experiment.report.studies import Study
from training.experiment.report.tables import label, mean_sd, verdicts

IMAGES = "images"
OVERVIEW = "reproduction.png"
BEFORE = "reproduction-2026-11-22.md"
"""The report before records were kept."""


def opening(groups: Sequence[Study], judged: Sequence[Claim], shown: Sequence[int], folder: Path) -> list[str]:
    """The page's beginning: the picture of the studies at the places `shown`, and the verdicts with their reasons."""
    before = (
        f"The records of runs before 2026-11-30 were not kept: [their report]({BEFORE}) stands as it was, and a re-run "
        "gives them."
    )
    return [
        "# The paper, tested",
        *_picture_first(groups, judged, shown),
        f"{REFERENCE}. `python -m training.reproduce report` wrote this page from the runs that "
        "`python -m training.reproduce run` finished and `keep` added to reproduction.jsonl: what is here ran, with "
        "the budget named, and nothing else did. "
        "NLL and losses are in nats per token; ± is the sample standard deviation over seeds.",
        before if (folder / BEFORE).exists() else "",
        "## Verdicts",
        verdicts(judged, groups),
        "\n".join(_reasons(number, claim, groups) for number, claim in enumerate(judged, 1)),
        *_strong(groups),
        "The rules behind the verdicts are [below](#how-it-was-judged).",
    ]


def _picture_first(groups: Sequence[Study], judged: Sequence[Claim], shown: Sequence[int]) -> list[str]:
    """What is understood at a glance: the differences from the baseline, and a verdict in a line for each study."""
    if not shown:
        return []
    lines = []
    for place in shown:
        best, values = next(iter(differences(groups[place]).items()))
        lines.append(
            f"- {label(groups[place])}: shortcut below the baseline: {judged[0].by_study[place]}. Lowest of all is "
            f"`{best}`, at {mean_sd(values)} from the baseline.".replace("at -", "at −")
        )
    return [
        f"![How far each arm ends from the baseline, corpus by corpus]({IMAGES}/{OVERVIEW})",
        "Left of the line is better than the baseline. A dot is an arm with a shortcut, a square a plain model; a line "
        "is ± one standard deviation over seeds, hollow is one seed.",
        "\n".join(lines),
    ]


def _strong(groups: Sequence[Study]) -> list[str]:
    """Claim 1 once more, on a baseline with rotary positions and SwiGLU."""
    judged = [(study, ends_lower(study, "strong", "strong-shortcut")) for study in groups if "strong" in study.runs]
    if not judged:
        return []
    lines = [f"- {label(study)}: {verdict}; {verdict.why}." for study, verdict in judged]
    return ["Claim 1 on a strong baseline, with rotary positions and SwiGLU of equal size:", "\n".join(lines)]


def _reasons(number: int, claim: Claim, groups: Sequence[Study]) -> str:
    """A claim's verdict with the figures behind it, corpus by corpus where it was judged so."""
    if not claim.by_study:
        return f"{number}. {claim.text}: {claim.verdict}; {claim.verdict.why}."
    each = (
        f"   - {label(study)}: {verdict}; {verdict.why}." for study, verdict in zip(groups, claim.by_study, strict=True)
    )
    return "\n".join([f"{number}. {claim.text}: {claim.verdict}.", *each])
