"""The model card, README.md of a checkpoint folder: a pure function of its config.json, so that the two agree."""

import math
from pathlib import Path
from typing import Any

from shortcut_gen.checkpoint import CheckpointInfo
from shortcut_gen.errors import CheckpointError
from shortcut_gen.files import write_whole

CARD = "README.md"
KINDS = {"stream": "the tokens before", "levels": "the same codebook before, the one below now"}
"""Contexts of the n-grams, in words."""
LICENCES = {
    "CC BY-NC-SA 4.0": "https://creativecommons.org/licenses/by-nc-sa/4.0/",
    "CC BY 4.0": "https://creativecommons.org/licenses/by/4.0/",
}


def write_card(folder: Path, info: CheckpointInfo) -> None:
    """Write the card of a checkpoint folder, whole or not at all. Raises CheckpointError."""
    write_whole(folder / CARD, card(folder.resolve().name, info).encode(), CheckpointError)


def card(name: str, info: CheckpointInfo) -> str:
    """The card's Markdown."""
    parts = [_head(name, info), _model(info), _codec(info), _data(info), _recipe(info.recipe)]
    parts += [_figures(name, info), _beside_ngrams(info), _limits(info)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _licence(text: str) -> str:
    """A licence with its link; of several joined by "and", each."""
    parts = [f"[{part}]({LICENCES[part]})" if part in LICENCES else part for part in text.split(" and ")]
    return " and ".join(parts) if text else "not stated"


def joined_licences(*licences: str | None) -> str:
    """All the licences that bind weights, each once, in the order given; those that are not stated left out."""
    return " and ".join(dict.fromkeys(licence for licence in licences if licence))


def _head(name: str, info: CheckpointInfo) -> str:
    kind = "the layerwise attention shortcut of arXiv 2409.10870" if info.model.taps else "no shortcut (the baseline)"
    return (
        f"# {name}\n\nA decoder-only Transformer over {info.tokenizer} tokens with {kind}, trained by this "
        f"repository's `training.fit`.\n\nLicence of the weights: "
        f"{_licence(info.licence)}, that of the corpus they were trained on. The code's licence does not cover them."
    )


def _model(info: CheckpointInfo) -> str:
    model = info.model
    count = info.recipe.get("parameters")
    size = f"{count:,} parameters without embeddings; " if count else ""
    parts = [f"{model.layers} blocks, width {model.width}, {model.heads} heads, feed-forward {model.feedforward}"]
    if model.taps:
        hidden = f" of hidden width {model.feature_hidden}" if model.features == "mlp" else ""
        current = ", and the last block's own input" if model.attend_current else ""
        parts.append(f"taps {_list(model.taps)} ({model.features} features{hidden}){current}")
    if model.value_residual:
        parts.append("value residual from the first block")
    if model.residual_mlps:
        parts.append(f"residual MLPs of hidden width {model.feature_hidden} behind blocks {_list(model.residual_mlps)}")
    parts.append(f"{model.position} positions, context {model.context} tokens")
    return f"## Model\n\n{size}{'; '.join(parts)}; {model.vocab_size:,} token ids."


def _codec(info: CheckpointInfo) -> str:
    codec = info.codec
    if not codec:
        return ""
    count, rate = codec["codebooks"], codec["frame_rate"]
    books = "the coarsest codebook" if count == 1 else f"the {count} coarsest codebooks, interleaved"
    return (
        f"## Tokens\n\nCodes of `{codec['name']}` (SHA-256 `{codec['sha256']}`): {books}, {codec['cardinality']:,} "
        f"entries each; {rate:g} frames and {rate * count:g} tokens a second of speech. These tokens are this codec's "
        "own: the figures below compare neither with the paper's (arXiv 2409.10870), which are of another codec and "
        "other recordings, nor with those of any other codec's tokens."
    )


def _data(info: CheckpointInfo) -> str:
    corpus = info.corpus
    if not corpus:
        return ""
    lines = [f"## Data\n\n{corpus.get('name', 'unnamed')}, its training split"]
    if corpus.get("train_tokens"):
        lines.append(f" ({corpus['train_tokens']:,} tokens)")
    lines.append(f". Licence: {corpus.get('licence', 'not stated')}.")
    if corpus.get("source_sha256"):
        lines.append(f" SHA-256 of the source: `{corpus['source_sha256']}`.")
    if start := info.recipe.get("init"):
        first = start.get("corpus", {}).get("name", "unnamed")
        lines.append(f" Started from the weights of `{start['checkpoint']}`, trained on {first}.")
    return "".join(lines)


def _recipe(recipe: dict[str, Any]) -> str:
    if not recipe:
        return ""
    rows: list[tuple[str, Any]] = []
    for key in ("steps", "tokens", "seconds", "seed", "precision", "devices", "gradient_clip", "accumulate", "weights"):
        if key in recipe:
            rows.append((key, recipe[key]))
    now = {group: recipe.get(group, {}) for group in ("optimizer", "data")}
    rows += [(f"{group}.{key}", value) for group in now for key, value in now[group].items() if _tells(key, now)]
    for phase in recipe.get("before", []):
        changes = [
            f"{group}.{key} {_plain(value)}"
            for group in now
            for key, value in phase.get(group, {}).items()
            if value != now[group].get(key)
        ]
        if changes:
            rows.append((f"until step {phase['until_step']:,}", ", ".join(changes)))
    table = "\n".join(f"| {key} | {_plain(value)} |" for key, value in rows)
    return f"## Recipe\n\n| setting | value |\n|---|---|\n{table}"


def _tells(key: str, recipe: dict[str, Any]) -> bool:
    """Whether a setting of the recipe says anything: it is given, and the optimiser and schedule in use read it."""
    optimizer, data = recipe["optimizer"], recipe["data"]
    if optimizer.get(key, data.get(key)) is None or (key in ("ema", "warmup_steps") and not optimizer.get(key)):
        return False
    users = {"momentum": ("muon",), "decay_share": ("wsd",), "final_share": ("wsd", "cosine")}
    return key not in users or optimizer.get("name") in users[key] or optimizer.get("schedule") in users[key]


def _figures(name: str, info: CheckpointInfo) -> str:
    if not info.figures:
        return "## Figures\n\nNot measured yet; `python -m training.evaluate` writes them here."
    rows, notes = [], []
    unit = "second" if info.codec else "note"
    for split, figures in info.figures.items():
        bits = f"{figures[f'bits_per_{unit}']:.3f}" if figures.get(f"bits_per_{unit}") else "–"
        cells = [split, f"{figures['nll']:.4f}", f"{figures['accuracy']:.2%}", bits, f"{figures['tokens']:,}"]
        rows.append(f"| {' | '.join(cells)} | {figures.get('share', 1.0):.1%} |")
        notes.append(
            f"`python -m training.evaluate checkpoints/{name} --data {_folders(figures)} --split {split} --stride "
            f"{figures['stride']}{_options(figures)}`"
        )
    first = next(iter(info.figures.values()))
    return (
        "## Figures\n\n"
        f"| split | NLL, nats per token | accuracy | bits per {unit} | tokens scored | share of the split |\n"
        "|---|---|---|---|---|---|\n" + "\n".join(rows) + "\n\n"
        f"Sliding window of {first['window']} tokens moved by {first['stride']}: each token is scored once, with at "
        f"least {first['window'] - first['stride']} tokens before it where its piece has them; the first token of a "
        "piece is not scored. Made by " + " and ".join(notes) + "."
    )


def _folders(figures: dict[str, Any]) -> str:
    """What `--data` was given: one folder for each corpus."""
    return " ".join(["data/NAME"] * (figures["corpus"].count(" + ") + 1)) if "corpus" in figures else "data/NAME"


def _beside_ngrams(info: CheckpointInfo) -> str:
    """The model's NLL beside that of counting, and by codebook."""
    parts = []
    counted = {split: figures for split, figures in info.figures.items() if "ngrams" in figures}
    if counted:
        ceiling = math.log(info.codec["cardinality"] if info.codec else info.model.vocab_size)
        rows = []
        for split, figures in counted.items():
            ngrams = figures["ngrams"]
            for kind in ("stream", "levels"):
                if kind in ngrams:
                    cells = [f"{ngrams[kind][order]:.4f}" for order in ("unigram", "bigram", "trigram")]
                    rows.append(f"| {split} | {KINDS[kind]} | {' | '.join(cells)} |")
            rows.append(f"| {split} | the best of them | | | {ngrams['best']:.4f} |")
            rows.append(f"| {split} | **the model** | | | **{figures['nll']:.4f}** |")
        parts.append(
            "Beside it what counting does on the same targets, in nats per token (`python -m training.ngrams`: counted "
            f"on the training split, smoothing tuned on the validation split). Guessing blindly is {ceiling:.2f}.\n\n"
            "| split | context | unigram | bigram | trigram |\n|---|---|---|---|---|\n" + "\n".join(rows)
        )
    for split, figures in info.figures.items():
        if "nll_by_level" in figures:
            best = figures.get("ngrams", {}).get("best_by_level")
            levels = [f"{nats:.4f}" for nats in figures["nll_by_level"]]
            beside = f"; the best n-grams': {', '.join(f'{nats:.4f}' for nats in best)}" if best else ""
            parts.append(f"NLL by codebook on {split}, coarsest first: {', '.join(levels)}{beside}.")
    return "\n\n".join(parts)


def _options(figures: dict[str, Any]) -> str:
    limit = f" --limit {figures['pieces']}" if figures.get("share", 1.0) < 1 else ""
    return limit + (f" --precision {figures['precision']}" if figures.get("precision", "fp32") != "fp32" else "")


def _limits(info: CheckpointInfo) -> str:
    text = (
        "It continues in the manner of what it was trained on and knows nothing else; what it makes may be dull, "
        "wander, or resemble passages of the training data. It has no sense of a piece's form beyond its context of "
        f"{info.model.context} tokens, and no control over style except the prompt."
    )
    if info.codec:
        text += (
            " It knows sounds, not words: what it says is babble in the manner of speech. It may lose the speaker's "
            "voice, and must not be used to pass as anyone's."
        )
    if info.tokenizer == "piano":
        text += " Piano alone: other instruments, and the pedal as a thing of its own, are outside its vocabulary."
    return f"## Limits\n\n{text}"


def _list(blocks: tuple[int, ...]) -> str:
    return ", ".join(map(str, blocks))


def _plain(value: object) -> str:
    if isinstance(value, float):
        return f"{value:,.1f}" if value >= 1000 else f"{value:g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
