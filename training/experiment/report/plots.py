"""The report's pictures: losses along three axes, and the final losses of every seed."""

import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shortcut_gen.errors import DataError
from shortcut_gen.files import reason, write_whole
from training.experiment.arms import is_control
from training.experiment.report.compare import AXES, Axis, curve
from training.experiment.report.lasting import cost, fits
from training.experiment.report.paper import title
from training.experiment.report.statistics import loss_at
from training.experiment.report.studies import Speeds, Study

COLOURS = {
    "baseline": "#000000",
    "shortcut": "#d55e00",
    "shortcut-identity": "#cc79a7",
    "shortcut-middle": "#e69f00",
    "shortcut-current": "#882255",
    "shortcut-literal": "#b8860b",
    "wide": "#0072b2",
    "deep": "#56b4e9",
    "feedforward": "#009e73",
    "mlps": "#7570b3",
}
"""After Okabe and Ito's palette; models without a shortcut are dashed as well."""
OTHERS = (
    *("#1b9e77", "#a6761d", "#e7298a", "#66a61e", "#666666", "#332288"),
    *("#17becf", "#ff7f0e", "#f7a6d0", "#2ca02c", "#8b0000", "#9acd32"),
)
UNITS: dict[Axis, str] = {
    "tokens": "tokens seen, millions",
    "FLOPs": "training FLOPs, 10¹²",
    "seconds": "seconds at the speed measured apart",
}
SCALES: dict[Axis, float] = {"tokens": 1e6, "FLOPs": 1e12, "seconds": 1.0}
SHOWN_FROM = 0.15
"""Losses of the first part of a run, up to this share of its length, may lie above the picture."""


FITTED = ("baseline", "shortcut", "wide", "value-residual")
"""Arms whose fitted power laws are drawn too, dotted."""
AHEAD = (0.2, 2.0)
"""From where to where they are drawn, in lengths of a run."""


def draw(study: Study, speeds: Speeds, path: Path) -> None:
    """A PNG of a study: validation loss against tokens, FLOPs and seconds, and test NLL seed by seed.

    Raises DataError where the file cannot be written.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(2, 2, figsize=(11, 7.6), layout="constrained")
    colours = _colours(list(study.runs))
    for panel, axis in zip(axes.flat, AXES, strict=False):
        _curves(panel, study, axis, speeds, colours)
    _finals(axes.flat[3], study, colours)
    handles, labels = axes.flat[0].get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, loc="outside lower center", ncols=min(len(labels), 6), fontsize=8, frameon=False)
    figure.suptitle(title(study.corpus), fontsize=11)
    save(figure, path)


def save(figure: Any, path: Path) -> None:
    """Write a figure of pyplot's as a PNG, and let go of it. Raises DataError where the file cannot be written."""
    from matplotlib import pyplot as plt

    data = io.BytesIO()
    figure.savefig(data, format="png", dpi=100)
    plt.close(figure)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{path.parent} cannot be made: {reason(error)}") from error
    write_whole(path, data.getvalue(), DataError)


def _colours(arms: Sequence[str]) -> dict[str, str]:
    others = [arm for arm in arms if arm not in COLOURS]
    return {arm: COLOURS[arm] if arm in COLOURS else OTHERS[others.index(arm) % len(OTHERS)] for arm in arms}


def _mean_curve(
    study: Study, arm: str, axis: Axis, speeds: Speeds
) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Places, (N,), and the seeds' losses there, (seeds, N): the first seed's places that every seed's curve covers."""
    curves = [found for run in study.runs[arm].values() if (found := curve(run, axis, speeds))]
    if not curves:
        return None
    first, last = max(points[0][0] for points in curves), min(points[-1][0] for points in curves)
    places = [x for x, _ in curves[0] if first <= x <= last]
    losses = [[value for x in places if (value := loss_at(points, x)) is not None] for points in curves]
    return np.array(places), np.array(losses)


def _curves(panel: Any, study: Study, axis: Axis, speeds: Speeds, colours: dict[str, str]) -> None:
    tops, bottoms = [], []
    laws = fits(study)
    for arm in study.runs:
        found = _mean_curve(study, arm, axis, speeds)
        if found is None or not found[0].size:
            continue
        places, losses = found[0] / SCALES[axis], found[1]
        style = "--" if is_control(arm) else "-"
        width = 2.2 if arm in ("baseline", "shortcut") else 1.4
        panel.plot(places, losses.mean(0), style, color=colours[arm], linewidth=width, label=arm)
        if len(losses) > 1:
            panel.fill_between(places, losses.min(0), losses.max(0), color=colours[arm], alpha=0.15, linewidth=0)
        each = cost(study.one(arm), axis, speeds)
        if arm in laws and arm in FITTED and each is not None:
            beyond = np.geomspace(places[-1] * AHEAD[0], places[-1] * AHEAD[1], 60)
            tokens = beyond * SCALES[axis] / each
            panel.plot(beyond, [laws[arm].at(count) for count in tokens], ":", color=colours[arm], linewidth=1)
        bottoms.append(losses.min())
        tops.append(losses.max(0)[places >= SHOWN_FROM * places[-1]].max())
    panel.set_xlabel(UNITS[axis], fontsize=9)
    panel.set_ylabel("validation loss, nats per token", fontsize=9)
    panel.tick_params(labelsize=8)
    panel.grid(alpha=0.25)
    if tops:
        margin = 0.05 * (max(tops) - min(bottoms)) or 0.05
        panel.set_ylim(min(bottoms) - margin, max(tops) + margin)
        panel.set_xlim(left=0)
    else:
        panel.set_axis_off()
        panel.text(0.5, 0.5, f"{axis}: not measured", ha="center", transform=panel.transAxes, color="#666666")


def _finals(panel: Any, study: Study, colours: dict[str, str]) -> None:
    """A dot for each seed's test NLL, a bar at the mean, arms from the best down."""
    means = {arm: math.fsum(values := study.values(arm, study.seeds(arm))) / len(values) for arm in study.runs}
    for row, arm in enumerate(sorted(means, key=lambda arm: -means[arm])):
        values = study.values(arm, study.seeds(arm))
        panel.plot(values, [row] * len(values), "o", color=colours[arm], markersize=5, alpha=0.7)
        panel.plot([means[arm]], [row], "|", color=colours[arm], markersize=16, markeredgewidth=2)
    names = sorted(means, key=lambda arm: -means[arm])
    panel.set_yticks(
        range(len(names)), [f"{arm}, {study.one(arm).parameters / 1e6:.2f} M" for arm in names], fontsize=8
    )
    panel.set_ylim(-0.7, len(names) - 0.3)
    panel.set_xlabel("test NLL, nats per token: a dot a seed, a bar the mean", fontsize=9)
    panel.tick_params(axis="x", labelsize=8)
    panel.grid(alpha=0.25, axis="x")
