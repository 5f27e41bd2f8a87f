"""The figures of a codec as text, for the command that judges it."""

from typing import Any

from training.cards.codec import JUDGED
from training.scoring.published import published_lines


def table(figures: dict[str, Any]) -> str:
    """What `evaluate_codec.judge` found, with what was published of other codecs."""
    lines = [f"{figures['files']} recordings, {figures['seconds']:,.0f} s"]
    lines.append(f"{'system':14}{'kb/s':>7}{'STOI':>8}{'PESQ':>7}{'log-mel':>9}{'SI-SDR':>8}{'equal codes':>13}")
    rows = [(f"{level} codebooks", row) for level, row in figures["codebooks"].items()]
    rows += [("Opus", figures["opus"])] if "opus" in figures else []
    for name, row in rows:
        equal = f"{row['equal_codes']:>13.1%}" if "equal_codes" in row else f"{'':>13}"
        lines.append(
            f"{name:14}{row['kbps']:>7.2f}{row['stoi']:>8.3f}{row['pesq']:>7.2f}{row['mel']:>9.3f}"
            f"{row['si_sdr']:>8.2f}{equal}"
        )
    if "original" in figures:
        lines += _judged([*rows, ("the original", figures["original"])])
    lines.append("codebook".ljust(14) + "".join(f"{number + 1:>7}" for number in range(len(figures["use"]))))
    lines.append("used".ljust(14) + "".join(f"{row['used']:>7.0%}" for row in figures["use"]))
    lines.append("perplexity".ljust(14) + "".join(f"{row['perplexity']:>7.0f}" for row in figures["use"]))
    if "opus" in figures:
        given = figures["opus"]
        lines.append(
            f"Opus: {given['kbps_with_container']:.2f} kb/s with its Ogg pages, aligned by up to "
            f"{given['most_delay']:.0f} samples"
        )
    return "\n".join([*lines, *published_lines()])


def _judged(rows: list[tuple[str, dict[str, float]]]) -> list[str]:
    shown = {name: column for name, column in JUDGED.items() if any(name in row for _, row in rows)}
    lines = [f"{'by judges':14}" + "".join(f"{heading:>18}" for heading, _ in shown.values())]
    for label, row in rows:
        cells = [form.format(row[name]) if name in row else "" for name, (_, form) in shown.items()]
        lines.append(f"{label:14}" + "".join(f"{cell:>18}" for cell in cells))
    return lines
