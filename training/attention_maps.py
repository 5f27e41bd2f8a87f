"""See how a shortcut model uses its taps: `python -m training.attention_maps checkpoints/piano-paper prompt.mid`.

Draws, head by head, how much of the last block's attention each tapped block has along a prompt (Figure 3 of arXiv
2409.10870). With --data it also says, over windows of a corpus, how that use goes with the kind of token and with the
model's surprise, and what the loss does when taps are removed, shuffled in time or replaced by their means, and when
the weights no longer depend on the tokens. Those means are of another split. Differences come with the middle 95% of
what they would be had other pieces been drawn.
"""

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jsonargparse import ArgumentParser
from torch import Tensor
from tqdm import tqdm

from shortcut_gen.errors import DataError, MediaError, PromptError, SettingsError
from shortcut_gen.files import reason, write_whole
from shortcut_gen.network.model import ShortcutLM
from shortcut_gen.pipeline import Pipeline, Prompt
from shortcut_gen.places import Place
from training.attention.changes import View, average, changes, outcome
from training.attention.plot import draw_figures, draw_heads
from training.attention.taps import leave, source_names
from training.attention.use import Use, figures, joined, kinds_of, look, surprise
from training.corpus.joined import open_corpus
from training.corpus.shards import Split, spread
from training.scoring.likelihood import check_ids
from training.support.command_line import add_checkpoint, add_data, device_of, plain, run

WINDOW = 512
"""Tokens of a window where none are given: the paper's context. Of longer windows all weights would be gigabytes."""
MOST_CHARACTERS = 16
"""Of a text, this many are read for each token that is wanted: enough, and the rest of a book is left."""


@dataclass(frozen=True, kw_only=True)
class MapSettings:
    """What is looked at, and where the results go."""

    plot: Path | None = None
    """PNG file for the shares of the taps along the prompt, head by head."""
    plot_data: Path | None = None
    """PNG file for the shares by kind of token and surprise, and the changes; of the corpus where one is given."""
    json: Path | None = None
    """File to write all figures to."""
    split: str = "test"
    """Split of the corpus that is scored."""
    means_split: str = "validation"
    """Split that the means are taken from."""
    pieces: int = 24
    """Pieces of each split, spread over those long enough for a window."""
    windows: int = 2
    """Windows of each piece, spread over it."""
    window: int | None = None
    """Tokens of a window; 512, or the model's whole context where that is shorter, if not given."""
    quantiles: int = 4
    """Parts, of equally many tokens, that the model's surprise is split into."""
    seed: int = 0
    """Seed of the shuffles and the intervals."""
    device: str = "auto"
    """Where the model runs: cpu, cuda, or auto."""
    threads: int = 0
    """CPU threads of torch; 0 leaves its own choice."""

    def __post_init__(self) -> None:
        for name, least in (
            ("pieces", 2),
            ("windows", 1),
            ("window", 2),
            ("quantiles", 2),
            ("threads", 0),
            ("seed", 0),
        ):
            value = getattr(self, name)
            if value is not None and value < least:
                raise SettingsError(f"{name} is {value}; a whole number of at least {least} is needed")
        for path in (self.plot, self.plot_data):
            if path is not None and path.suffix.lower() != ".png":
                raise SettingsError(f"{path} is no name of a picture; one that ends in .png is needed")


def attention_maps(checkpoint: Place, prompt: Path, data: Sequence[Path], settings: MapSettings) -> dict[str, Any]:
    """Look, print and write what is asked for; the figures, as plain values.

    data: folders of the corpus; none leaves it at the prompt. Raises ShortcutGenError.
    """
    if settings.threads:
        torch.set_num_threads(settings.threads)
    _make_folders([settings.plot, settings.plot_data, settings.json])
    device = device_of(settings.device)
    pipeline = Pipeline.from_pretrained(checkpoint, device)
    model, tokenizer = pipeline.model, pipeline.tokenizer
    if not model.config.taps:
        raise SettingsError(f"{checkpoint} taps no block, its last one attends to itself; a shortcut model is needed")
    window = _window(settings.window, model.config.context, tokenizer.frame)
    kinds, taps = kinds_of(tokenizer), source_names(model.config)
    ids = _ids(pipeline, prompt, window)
    with torch.inference_mode():
        use, *_ = look(model, torch.tensor(ids, device=device))
        of_prompt: dict[str, Any] = figures(use, kinds, settings.quantiles) | {"changes": []}
        of_prompt |= {"name": prompt.name, "kinds": [kinds[0][kind] for kind in kinds[1][use.read[0]]]}
        out = {"checkpoint": checkpoint.name, "taps": taps, "window": window, "prompt": of_prompt}
        shown = of_prompt
        if data:
            corpus = open_corpus(data)
            check_ids(corpus, checkpoint, pipeline.info)
            splits = [corpus.split(name) for name in (settings.means_split, settings.split)]
            shown = {"corpus": corpus.name, "split": settings.split, "means_split": settings.means_split}
            out["data"] = shown = shown | of_data(model, splits[0], splits[1], kinds, window, settings)
    print(table(shown, taps))
    if settings.json:
        of_prompt["share_by_token"] = use.share[0].tolist()
        write_whole(settings.json, (json.dumps(plain(out, 5)) + "\n").encode(), MediaError)
    if settings.plot:
        draw_heads(use.share[0], kinds[1][use.read[0]], kinds[0], taps, settings.plot)
    if settings.plot_data:
        draw_figures(shown, taps, settings.plot_data)
    return out


def _ids(pipeline: Pipeline, path: Path, window: int) -> tuple[int, ...]:
    """The first window + 1 ids of a piece, or all there are. Raises MediaError, PromptError."""
    if ".txt" in pipeline.tokenizer.suffixes:
        try:
            with path.open(encoding="utf-8") as file:
                text = file.read(MOST_CHARACTERS * (window + 1))
        except OSError as error:
            raise MediaError(f"{path} cannot be read: {reason(error)}") from error
        except UnicodeDecodeError as error:
            raise MediaError(f"{path} is not text in UTF-8, which is needed") from error
        ids = tuple(pipeline.tokenizer.encode(text))[: window + 1]
    else:
        ids = pipeline.encode(Prompt.from_file(path))[: window + 1]
    if len(ids) < 2:
        raise PromptError(f"{path.name} has {len(ids)} tokens; at least 2 are needed")
    return ids


def _make_folders(files: Sequence[Path | None]) -> None:
    """The folders of what is to be written, before minutes go into it. Raises MediaError."""
    for path in filter(None, files):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise MediaError(f"{path.parent} cannot be made: {reason(error)}") from error
        if path.is_dir():
            raise MediaError(f"{path} is a folder; the name of a file is needed")


def _window(asked: int | None, context: int, frame: int) -> int:
    """Tokens of a window, in whole frames. Raises SettingsError."""
    if asked is not None and asked > context:
        raise SettingsError(f"the window is {asked}; at most the model's context of {context} is needed")
    window = (asked or min(context, WINDOW)) // frame * frame
    if not window:
        raise SettingsError(f"the window is {asked}; at least {frame}, the ids of a frame, are needed")
    return window


def choose(split: Split, settings: MapSettings, window: int) -> Iterator[tuple[int, Tensor]]:
    """Windows of window + 1 ids, none of which overlap, each with the number of its piece. Raises DataError."""
    long = [index for index, piece in enumerate(split.pieces) if piece.tokens > window]
    if len(long) < 2:
        raise DataError(
            f"{split.folder} has {len(long)} pieces of more than {window} tokens in a split; at least 2 are needed, "
            "or a shorter --window"
        )
    for number, place in enumerate(spread(len(long), settings.pieces)):
        ids = split[long[place]][1]
        for slot in spread((len(ids) - 1) // window, settings.windows):
            part = ids[slot * window : slot * window + window + 1]
            yield number, torch.from_numpy(part.astype(np.int64))


def of_data(
    model: ShortcutLM,
    means_split: Split,
    split: Split,
    kinds: tuple[list[str], Any],
    window: int,
    settings: MapSettings,
) -> dict[str, Any]:
    """The figures of a split, and what each change comes to there with means of another."""
    device = model.embedding.weight.device
    of_id = torch.from_numpy(kinds[1]).to(device)
    others = [ids[:-1].to(device) for _, ids in choose(means_split, settings, window)]
    means = average(model, tqdm(others, desc="means", disable=None), of_id, len(kinds[0]))
    todo = changes(model, means, of_id)
    generator = torch.Generator().manual_seed(settings.seed)
    uses: list[Use] = []
    sums, pieces = [], []
    for piece, ids in tqdm(list(choose(split, settings, window)), desc="windows", disable=None):
        ids = ids.to(device)
        use, entry, parts = look(model, ids)
        view = View(model=model, entry=entry, parts=parts, tokens=ids[:-1], generator=generator)
        sums.append([float(surprise(leave(model, entry, how(view)), ids).sum()) for _, _, how in todo])
        uses.append(use)
        pieces.append(piece)
    use = joined(uses)
    named = [(what, to) for what, to, _ in todo]
    tokens = np.full(len(pieces), float(window))
    results = outcome(named, use.nll.sum(axis=1), np.array(sums), tokens, np.array(pieces), settings.seed)
    counts = {"pieces": len(set(pieces)), "means_windows": means.windows}
    return counts | figures(use, kinds, settings.quantiles) | {"changes": results}


def table(shown: dict[str, Any], taps: Sequence[str]) -> str:
    """The figures as text; shares as the mean over all heads but in the table of the heads."""
    lines = [f"{shown['windows']} windows, {shown['tokens']:,} tokens, NLL {shown['nll']:.4f}", ""]
    lines.append(f"{'share of the attention':32}{'tokens':>9}{'NLL':>8}" + "".join(f"{name:>11}" for name in taps))
    groups = [{"name": "all", "tokens": shown["tokens"], "nll": shown["nll"], "share": shown["share"]}]
    if len(shown["by_kind_read"]) > 1:
        groups += [group | {"name": f"{group['name']} read"} for group in shown["by_kind_read"]]
        groups += [group | {"name": f"{group['name']} to come"} for group in shown["by_kind_wanted"]]
    groups += [group | {"name": f"surprise, part {group['name']}"} for group in shown["by_surprise"]]
    for group in groups:
        cells = "".join(f"{value:>11.1%}" for value in np.mean(group["share"], axis=0))
        lines.append(f"{group['name']:32}{group['tokens']:>9,}{group['nll']:>8.3f}{cells}")
    lines += ["", "share by head, mean ± sd over tokens; then the share at the query's own position"]
    rows = zip(shown["share"], shown["sd"], shown["own_position"], strict=True)
    for number, (mean, sd, own) in enumerate(rows, start=1):
        cells = "".join(f"{f'{m:.0%} ± {s:.0%}':>14}" for m, s in zip(mean, sd, strict=True))
        lines.append(f"head {number:<4}{cells}{own:>10.0%}")
    lines.append("")
    for name, value in shown["explained"].items():
        lines.append(f"variance of the shares explained by {name}: {'-' if value is None else f'{value:.1%}'}")
    if shown["changes"]:
        lines += ["", f"{'change':46}{'NLL':>8}{'difference':>12}  95% over {shown['pieces']} pieces"]
    for change in shown["changes"]:
        name = f"{change['change']}: {change['of']}"
        span = f"{change['low']:+.4f} to {change['high']:+.4f}"
        lines.append(f"{name:46}{change['nll']:>8.4f}{change['difference']:>+12.4f}  {span}")
    return "\n".join(lines)


def _parser() -> ArgumentParser:
    parser = ArgumentParser(prog="python -m training.attention_maps", description=__doc__, exit_on_error=False)
    add_checkpoint(parser, "checkpoints/piano-paper")
    parser.add_argument("prompt", type=Path, help="Piece to draw the use of the taps along: its first tokens.")
    add_data(parser, "to look at them together", required=False)
    parser.add_class_arguments(MapSettings)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""

    def do(values: dict[str, Any]) -> None:
        checkpoint, prompt, data = (values.pop(name) for name in ("checkpoint", "prompt", "data"))
        attention_maps(checkpoint, prompt, data, MapSettings(**values))

    return run(_parser, do, arguments)


if __name__ == "__main__":
    sys.exit(main())
