"""Average checkpoints of one run, or of runs from one another: `python -m training.average A B --out checkpoints/C`.

Weights that were decayed more than once, each time from the last, lie around the same minimum, and their mean is often
nearer to it than any of them (Wortsman et al. 2022, arXiv:2203.05482). Whether it is must be measured.
"""

import dataclasses
import math
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from jsonargparse import ArgumentParser

from shortcut_gen.checkpoint import load_checkpoint, save_checkpoint
from shortcut_gen.errors import CheckpointError, SettingsError
from shortcut_gen.places import Place, place
from training.cards.model import joined_licences, write_card
from training.support.command_line import local, run


def average(folders: Sequence[Place], out: Path, shares: Sequence[float] = ()) -> None:
    """Write the mean of the checkpoints' weights to `out`, with the card of the last of them but for its figures.

    `shares` says how much each counts, in any unit; without it all count alike. Raises CheckpointError where one
    cannot be read, or where they are not of one model, tokenizer and codec; SettingsError for shares that are no
    positive numbers, one for each.
    """
    if len(folders) < 2:
        raise CheckpointError(f"{len(folders)} checkpoint is given; two or more are needed to average")
    if shares and (len(shares) != len(folders) or not all(0 < share < math.inf for share in shares)):
        said = " ".join(f"{share:g}" for share in shares)
        raise SettingsError(f"the shares are {said}; a number above 0 for each of the {len(folders)} folders is needed")
    parts = [share / sum(shares) for share in shares] or [1 / len(folders)] * len(folders)
    first, *others = (load_checkpoint(local(folder)) for folder in folders)
    total = {name: parts[0] * weights.float() for name, weights in first.model.state_dict().items()}
    for folder, part, other in zip(folders[1:], parts[1:], others, strict=True):
        for what in ("model", "tokenizer", "codec"):
            if getattr(other.info, what) != getattr(first.info, what):
                raise CheckpointError(f"{folder}: its {what} differs from that of {folders[0]}; the same is needed")
        for name, weights in other.model.state_dict().items():
            total[name] += part * weights.float()
    last = others[-1]
    last.model.load_state_dict(total)
    names = " and ".join(
        f"`{folder.name}`" + (f" ({part:.0%})" if shares else "") for folder, part in zip(folders, parts, strict=True)
    )
    info = dataclasses.replace(
        last.info,
        recipe=last.info.recipe | {"weights": f"mean of the weights of {names}, bf16; the rest is of the last"},
        figures={},
        licence=joined_licences(*(each.info.licence for each in (first, *others))),
    )
    save_checkpoint(out, last.model, info, torch.bfloat16)
    write_card(out, info)
    print(f"{out}: the mean of {len(folders)} checkpoints")


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="python -m training.average", description="Average checkpoints' weights.", exit_on_error=False
    )
    text = "checkpoints of one model, or their URLs; the last one's card"
    parser.add_argument("folders", nargs="+", type=place, metavar="FOLDER", help=text)
    parser.add_argument("--out", type=Path, required=True, help="folder to write; one that is there is replaced")
    parser.add_argument(
        "--shares", nargs="+", type=float, default=[], metavar="SHARE", help="how much each counts; alike if not given"
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    return run(_parser, lambda values: average(values["folders"], values["out"], values["shares"]), arguments)


if __name__ == "__main__":
    sys.exit(main())
