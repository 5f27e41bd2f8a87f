"""The picture that the report opens with: of each study, how far every arm ends from the baseline."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from training.experiment.arms import is_control
from training.experiment.report.plots import save
from training.experiment.report.statistics import summarise
from training.experiment.report.studies import Study
from training.experiment.report.tables import label

SHORTCUT, PLAIN = "#d55e00", "#0072b2"
ACROSS = 2
"""Panels beside each other."""


def compared(groups: Sequence[Study]) -> list[int]:
    """Places of the studies that the picture has: those of a baseline and another arm."""
    return [place for place, study in enumerate(groups) if len(differences(study)) > 0]


def differences(study: Study) -> dict[str, list[float]]:
    """Test NLL of every arm minus the baseline's, seed by seed, the lowest mean first."""
    found = {
        arm: [own - base for own, base in zip(study.values(arm, seeds), study.values("baseline", seeds), strict=True)]
        for arm in study.runs
        if arm != "baseline" and (seeds := study.seeds(arm, "baseline"))
    }
    return dict(sorted(found.items(), key=lambda item: summarise(item[1]).mean))


def draw_overview(groups: Sequence[Study], words: Mapping[int, str], path: Path) -> None:
    """A PNG of the studies in `words`, by their places, each with its verdict. Raises DataError where it cannot be
    written."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    across = min(len(words), ACROSS)
    down = -(-len(words) // across)
    rows = max(len(differences(groups[place])) for place in words)
    size = (5.4 * across, 0.4 + down * (1.3 + 0.24 * rows))
    figure, axes = plt.subplots(down, across, figsize=size, layout="constrained", squeeze=False)
    for panel in axes.flat[len(words) :]:
        panel.set_axis_off()
    for panel, (place, word) in zip(axes.flat, words.items(), strict=False):
        _panel(panel, groups[place], word)
    figure.suptitle("orange: with a shortcut; blue: a plain model; hollow: one seed", fontsize=9)
    save(figure, path)


def _panel(panel: Any, study: Study, word: str) -> None:
    found = differences(study)
    for row, (arm, values) in enumerate(found.items()):
        total, colour = summarise(values), PLAIN if is_control(arm) else SHORTCUT
        if total.sd is not None:
            panel.plot([total.mean - total.sd, total.mean + total.sd], [row, row], color=colour, linewidth=2)
        hollow = {} if total.sd is not None else {"markerfacecolor": "white"}
        panel.plot([total.mean], [row], "s" if is_control(arm) else "o", color=colour, markersize=6, **hollow)
    panel.axvline(0, color="black", linewidth=1)
    panel.set_yticks(range(len(found)), list(found), fontsize=8)
    for tick, arm in zip(panel.get_yticklabels(), found, strict=True):
        tick.set_color(PLAIN if is_control(arm) else SHORTCUT)
        tick.set_fontweight("bold" if arm == "shortcut" else "normal")
    panel.set_ylim(len(found) - 0.5, -0.5)
    panel.set_xlabel("← better      test NLL minus baseline's, nats a token", fontsize=8)
    panel.locator_params(axis="x", nbins=6)
    panel.tick_params(axis="x", labelsize=8)
    panel.grid(alpha=0.25, axis="x")
    panel.set_title(f"{label(study)}\nshortcut below baseline: {word}", fontsize=9)
