"""Pictures of the last block's attention to its taps."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shortcut_gen.errors import MediaError
from shortcut_gen.files import reason

COLOURS = ("#2a6f97", "#e07a5f", "#8f9779", "#6d597a", "#bc9c22", "#444444", "#5fa8d3", "#b5838d")
"""Of the kinds of tokens."""


def draw_heads(
    share: NDArray[np.float32], kinds: NDArray[np.int64], names: Sequence[str], taps: Sequence[str], path: Path
) -> None:
    """A PNG of the share, (T, H, L), each tap has along a sequence: a panel for each head, a row for each tap.

    kinds: (T,), drawn as a strip of colours below; names: what those kinds are called. Raises MediaError.
    """
    plt = _pyplot()
    length, heads, sources = share.shape
    rows = -(-heads // 2)
    figure, axes = plt.subplots(
        rows + 1,
        2,
        figsize=(12, 0.95 * rows + 0.9),
        layout="constrained",
        squeeze=False,
        sharex=True,
        height_ratios=[1.0] * rows + [0.25],
    )
    image = None
    for head, axis in enumerate(axes[:-1].T.ravel()):
        if head >= heads:
            axis.axis("off")
            continue
        extent = (0, length, sources - 0.5, -0.5)
        colours = {"cmap": "viridis", "vmin": 0, "vmax": 1, "interpolation": "nearest"}
        image = axis.imshow(share[:, head].T, aspect="auto", extent=extent, **colours)
        axis.set_yticks(range(sources), [name.removeprefix("block ") for name in taps], fontsize=7)
        axis.set_ylabel(f"head {head + 1}", fontsize=8)
    present = sorted(set(kinds.tolist()))
    for axis in axes[-1]:
        for kind in present:
            where = np.flatnonzero(kinds == kind)
            axis.vlines(where + 0.5, 0, 1, color=COLOURS[kind % len(COLOURS)], linewidth=max(0.5, 380 / length))
        axis.set_ylim(0, 1)
        axis.set_yticks([])
        axis.set_xlabel("token", fontsize=8)
        axis.tick_params(labelsize=7)
    handles = [
        plt.Line2D([], [], color=COLOURS[kind % len(COLOURS)], linewidth=5, label=names[kind]) for kind in present
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), fontsize=8, frameon=False)
    figure.colorbar(image, ax=axes, shrink=0.6, label="share of the head's attention")
    _save(figure, path)


def draw_figures(figures: dict[str, Any], taps: Sequence[str], path: Path) -> None:
    """A PNG of the shares by head, kind and surprise, and of what each change came to. Raises MediaError."""
    plt = _pyplot()
    figure = plt.figure(figsize=(13, 8.5), layout="constrained")
    both = bool(figures["changes"])
    axes = figure.subplots(1, 1 + both, squeeze=False, width_ratios=[1.15, 1.0][: 1 + both])[0]
    columns = [("all tokens", figures["share"])]
    if len(figures["by_kind_read"]) > 1:
        columns += [(f"reads {group['name']}", group["share"]) for group in figures["by_kind_read"]]
    columns += [(f"surprise {group['name']}", group["share"]) for group in figures["by_surprise"]]
    _grid(axes[0], np.array([share for _, share in columns]), [name for name, _ in columns], taps)
    if both:
        _bars(axes[1], figures["changes"])
    _save(figure, path)


def _grid(axis: Any, share: NDArray[np.float64], names: Sequence[str], taps: Sequence[str]) -> None:
    """Shares, (groups, H, L), as a table of colours: a row for each head, in each column of taps one for each group."""
    groups, heads, sources = share.shape
    table = np.full((heads, sources * (groups + 1) - 1), np.nan)  # a gap between taps
    for tap in range(sources):
        table[:, tap * (groups + 1) : tap * (groups + 1) + groups] = share[:, :, tap].T
    image = axis.imshow(table, aspect="auto", cmap="viridis", vmin=0, vmax=1)
    places = [tap * (groups + 1) + group for tap in range(sources) for group in range(groups)]
    axis.set_xticks(places, list(names) * sources, rotation=90, fontsize=7)
    axis.set_yticks(range(heads), [f"head {head + 1}" for head in range(heads)], fontsize=7)
    above = axis.secondary_xaxis("top")
    above.set_xticks([tap * (groups + 1) + (groups - 1) / 2 for tap in range(sources)], taps, fontsize=9)
    above.tick_params(length=0)
    axis.figure.colorbar(image, ax=axis, location="bottom", shrink=0.6, label="share of the head's attention")


def _bars(axis: Any, changes: Sequence[dict[str, Any]]) -> None:
    """The difference each change makes, with its interval, the changes of one sort together."""
    names, places, place, before = [], [], 0.0, None
    for change in changes:
        place += 1.0 if change["change"] == before else 1.6
        before = change["change"]
        places.append(place)
        names.append(f"{change['change']}: {change['of']}")
    values = np.array([change["difference"] for change in changes])
    errors = np.abs(np.array([[change["low"], change["high"]] for change in changes]).T - values)
    axis.barh(places, values, xerr=errors, color="#2a6f97", error_kw={"elinewidth": 1, "capsize": 2})
    axis.set_yticks(places, names, fontsize=8)
    axis.invert_yaxis()
    axis.axvline(0, color="black", linewidth=0.8)
    for place, value, high in zip(places, values, values + errors[1], strict=True):
        axis.text(max(high, 0), place, f"  {value:+.4f}", va="center", fontsize=7)
    axis.margins(x=0.15)
    axis.set_xlabel("change in NLL, nats per token; lines: middle 95% over pieces drawn anew", fontsize=8)
    axis.tick_params(axis="x", labelsize=7)


def _pyplot() -> Any:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    return plt


def _save(figure: Any, path: Path) -> None:
    try:
        figure.savefig(path, dpi=110)
    except OSError as error:
        raise MediaError(f"{path} cannot be written: {reason(error)}") from error
    finally:
        _pyplot().close(figure)
