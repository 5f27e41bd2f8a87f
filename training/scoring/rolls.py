"""A picture of continuations as piano rolls, beside what was really played."""

from collections.abc import Sequence
from pathlib import Path

from shortcut_gen.media import Score

OLD, NEW = "#2b5c8c", "#c4461a"


def draw(rows: Sequence[tuple[str, Score, float, Score, float]], path: Path) -> None:
    """A row for each: (title, what was played, its seam, the continuation, its seam), seams in seconds."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt
    from matplotlib.colors import to_rgba

    figure, axes = plt.subplots(len(rows), 2, figsize=(14, 1.9 * len(rows)), squeeze=False, layout="constrained")
    for (title, real, real_seam, made, made_seam), (left, right) in zip(rows, axes, strict=True):
        for axis, score, seam in ((left, real, real_seam), (right, made, made_seam)):
            notes = score.notes
            shades = [to_rgba(OLD if note.start < seam else NEW, 0.35 + 0.65 * note.velocity / 127) for note in notes]
            ends = [max(note.end, note.start + 0.03) for note in notes]
            axis.hlines([n.pitch for n in notes], [n.start for n in notes], ends, colors=shades, lw=1.6)
            axis.axvline(seam, color="#444444", lw=0.8)
            axis.set_xlim(0, max(real.duration, made.duration))
            axis.set_ylim(20, 109)
            axis.set_yticks([36, 60, 84], ["C2", "C4", "C6"])
        left.set_title(f"{title[:70]}; really played", fontsize=8, loc="left")
        right.set_title("the model", fontsize=8, loc="left")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=90)
    plt.close(figure)
