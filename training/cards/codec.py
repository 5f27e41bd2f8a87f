"""The card, README.md of a codec folder: a pure function of its config.json, so that the two agree."""

from pathlib import Path
from typing import Any

from shortcut_gen.codec.folder import CodecInfo
from shortcut_gen.errors import CheckpointError
from shortcut_gen.files import write_whole
from training.cards.model import CARD, LICENCES


def write_codec_card(folder: Path, info: CodecInfo) -> None:
    """Write the card of a codec folder, whole or not at all. Raises CheckpointError."""
    write_whole(folder / CARD, codec_card(folder.resolve().name, info).encode(), CheckpointError)


def codec_card(name: str, info: CodecInfo) -> str:
    """The card's Markdown."""
    parts = [_head(name, info), _network(info), _data(info.corpus), _recipe(info.recipe), _figures(name, info.figures)]
    return "\n\n".join(part for part in [*parts, LIMITS] if part) + "\n"


LIMITS = """## Limits

Trained on a few hours of read speech: other voices, languages, noise and music come back coarser or not at all. Its
tokens are its own: a language model trained on them works with this codec and no other, and losses on them do not
compare with losses on another codec's."""


ABOUT = {
    "encodec": "A small EnCodec (arXiv:2210.13438) for speech: the `encodec` package's network at a size of ours, "
    "trained by this repository. It is not Meta's model.",
    "harmonic": "A speech codec that runs at the rate of its frames: log-mel energies and autocorrelation in, ConvNeXt "
    "blocks, a residual vector quantiser, and a decoder that finds pitch and voicing and shapes a harmonic source and "
    "noise with filters. Trained by this repository's `training.fit_codec` with a spectral energy distance.",
}
"""What each architecture is."""


JUDGED = {
    "distillmos": ("DistillMOS", "{:.2f}"),
    "dnsmos": ("DNSMOS overall", "{:.2f}"),
    "dnsmos_signal": ("DNSMOS signal", "{:.2f}"),
    "wer": ("WER to original", "{:.1%}"),
    "text_wer": ("WER to text", "{:.1%}"),
    "voice": ("voice", "{:.3f}"),
}
"""What the judges of `training.evaluate_codec` say: a heading and how a figure is written."""


def _head(name: str, info: CodecInfo) -> str:
    binds = " and ".join(
        f"[{part}]({LICENCES[part]})" if part in LICENCES else part for part in info.licence.split(" and ")
    )
    return (
        f"# {name}\n\n{ABOUT[info.architecture]}\n\nLicence of the weights: "
        f"{binds or 'not stated'}, that of the recordings they were trained on. The code's licence does not cover them."
    )


def _network(info: CodecInfo) -> str:
    shape, count = info.config, info.recipe.get("parameters")
    size = f"{count:,} parameters; " if count else ""
    if info.architecture == "harmonic":
        return (
            f"## Network\n\n{size}16 kHz, one channel; 50 frames a second, 0.14 s of look-ahead. "
            + ", ".join(f"{key} {value:,}" for key, value in shape.to_dict().items())
            + "."
        )
    return (
        f"## Network\n\n{size}{shape.sample_rate / 1000:g} kHz, one channel, causal; {shape.frame_rate:g} frames a "
        f"second of {shape.frame_samples} samples (ratios {', '.join(map(str, shape.ratios))}); {shape.filters} "
        f"filters, {shape.lstm_layers} LSTM layers, code vectors of width {shape.dimension}; {shape.codebooks} "
        f"codebooks of {shape.cardinality} entries, {shape.codebook_kbps:g} kb/s each."
    )


def _data(corpus: dict[str, Any]) -> str:
    if not corpus:
        return ""
    facts = [
        f"{corpus['hours']:.2f} h" if "hours" in corpus else "",
        f"{corpus['files']:,} files" if "files" in corpus else "",
    ]
    size = ", ".join(fact for fact in facts if fact)
    named = ("hours", "files", "name", "licence")  # the licence stands at the head
    rest = [f"{key}: {_plain(value)}" for key, value in corpus.items() if key not in named]
    text = f"{corpus.get('name', 'Recordings')}" + (f" ({size})" if size else "")
    return f"## Data\n\n{'. '.join([text, *rest])}."


def _recipe(recipe: dict[str, Any]) -> str:
    rows = []
    for key, value in recipe.items():
        if isinstance(value, dict) and key not in ("spent", "budget"):
            rows += [
                (f"{key}.{name}", part) for name, part in value.items() if part is not None and _tells(name, value)
            ]
        elif key not in ("before", "parameters", "codec", "spent", "budget") and value is not None:
            rows.append((key, value))
    for number, phase in enumerate(recipe.get("before", [])):
        changes = [
            f"{group}.{name} {_plain(value)}"
            for group in ("losses", "optimizer", "data")
            for name, value in (phase.get(group) or {}).items()
            if value != recipe.get(group, {}).get(name)
        ]
        spent = phase.get("spent") or {}
        until = f"until step {spent['steps']:,}" if "steps" in spent else f"phase {number + 1}"
        rows.append((until, ", ".join(changes) or "the same settings"))
    table = "\n".join(f"| {key} | {_plain(value)} |" for key, value in rows)
    return f"## Recipe\n\n| setting | value |\n|---|---|\n{table}" if rows else ""


def _tells(name: str, group: dict[str, Any]) -> bool:
    """Whether a setting was in use: not one of a discriminator that never came, nor of another schedule."""
    if group.get("adversary_from", 0) >= 1 and (name in ("adversarial", "features") or name.startswith("adversary_")):
        return name == "adversary_from"
    users = {"decay_share": ("wsd",), "final_share": ("wsd", "cosine")}
    return name not in users or group.get("schedule") in users[name]


def _figures(name: str, figures: dict[str, Any]) -> str:
    if not figures:
        return "## Figures\n\nNot measured yet; `python -m training.evaluate_codec` writes them here."
    return "## Figures\n\n" + "\n\n".join(_split(name, split, values) for split, values in figures.items())


def _split(name: str, split: str, values: dict[str, Any]) -> str:
    rows = [(f"{level} of the codebooks", row) for level, row in values["codebooks"].items()]
    if "opus" in values:
        rows.append(("Opus at its lowest rate", values["opus"]))
    lines = [
        f"| {label} | {_number(row['kbps'], 2)} | {_number(row['stoi'], 3)} | {_number(row['pesq'], 2)} | "
        f"{_number(row['mel'], 3)} | {_number(row['si_sdr'], 2)} | {_share(row.get('equal_codes'))} |"
        for label, row in rows
    ]
    use = [
        f"| {number} | {row['used']:.1%} | {row['perplexity']:,.0f} |" for number, row in enumerate(values["use"], 1)
    ]
    command = f"python -m training.evaluate_codec checkpoints/{name} --data DATA/{values.get('data', 'NAME')}"
    command += f" --limit {values['limit']}" if values.get("limit") else ""
    command += " --opus" if "opus" in values else ""
    command += f" --split {split}" if split != "test" else ""
    command += f" --judges {' '.join(values['judges'])}" if values.get("judges") else ""
    return (
        f"`{split}`: {values['files']:,} recordings of {values.get('data', 'held-out speakers')}, "
        f"{values['seconds'] / 60:,.1f} minutes, none of them trained on.\n\n"
        "| system | kb/s | STOI | PESQ (wide band) | log-mel distance | SI-SDR, dB | equal codes |\n"
        "|---|---|---|---|---|---|---|\n" + "\n".join(lines) + "\n\n"
        "Log-mel distance: mean absolute difference of natural logarithms, lower is better. Equal codes: share that is "
        "the same after decoding and encoding again.\n\n"
        + _judged(values, rows)
        + "| codebook | entries used | perplexity |\n|---|---|---|\n"
        + "\n".join(use)
        + f"\n\nMade by `{command}`."
    )


def _judged(values: dict[str, Any], rows: list[tuple[str, dict[str, float]]]) -> str:
    if "original" not in values:
        return ""
    rows = [*rows, ("The recordings themselves", values["original"])]
    shown = {name: column for name, column in JUDGED.items() if any(row.get(name) is not None for _, row in rows)}
    lines = [
        "| system | " + " | ".join(heading for heading, _ in shown.values()) + " |",
        "|---" * (len(shown) + 1) + "|",
    ]
    for label, row in rows:
        cells = ["–" if row.get(name) is None else form.format(row[name]) for name, (_, form) in shown.items()]
        lines.append(f"| {label} | {' | '.join(cells)} |")
    return (
        "\n".join(lines)
        + "\n\nDistillMOS and DNSMOS (P.835) guess the opinion of listeners, 1 to 5, of each sound alone. "
        "WER: PocketSphinx's word errors, held against what it hears in the original. Voice: cosine of Resemblyzer's "
        "embeddings.\n\n"
    )


def _number(value: float | None, places: int) -> str:
    return "–" if value is None else f"{value:.{places}f}"


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.1%}"


def _plain(value: object) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(_plain, value))
    if isinstance(value, float):
        return f"{value:,.1f}" if value >= 1000 else f"{value:g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
