"""Average checkpoints of one run, or of runs from one another: `python -m training.average A B --out checkpoints/C`.

Weights that were decayed more than once, each time from the last, lie around the same minimum, and their mean is often
nearer to it than any of them (Wortsman et al. 2022, arXiv:2203.05482). Whether it is must be measured.
"""

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from jsonargparse import ArgumentParser

from shortcut_gen.checkpoint import load_checkpoint, save_checkpoint
from shortcut_gen.errors import CheckpointError
from shortcut_gen.places import Place, place
from training.cards.model import joined_licences, write_card
from training.support.command_line import local, run


def average(folders: Sequence[Place], out: Path) -> None:
    """Write the mean of the checkpoints' weights to `out`, with the card of the last of them but for its figures.

    Raises CheckpointError where one cannot be read, or where they are not of one model, tokenizer and codec.
    """
    if len(folders) < 2:
        raise CheckpointError(f"{len(folders)} checkpoint is given; two or more are needed to average")
    first, *others = (load_checkpoint(local(folder)) for folder in folders)
    total = {name: weights.float().clone() for name, weights in first.model.state_dict().items()}
    for folder, other in zip(folders[1:], others, strict=True):
        for what in ("model", "tokenizer", "codec"):
            if getattr(other.info, what) != getattr(first.info, what):
                raise CheckpointError(f"{folder}: its {what} differs from that of {folders[0]}; the same is needed")
        for name, weights in other.model.state_dict().items():
            total[name] += weights
    last = others[-1]
    last.model.load_state_dict({name: weights / len(folders) for name, weights in total.items()})
    names = " and ".join(f"`{folder.name}`" for folder in folders)
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
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    return run(_parser, lambda values: average(values["folders"], values["out"]), arguments)


if __name__ == "__main__":
    sys.exit(main())
