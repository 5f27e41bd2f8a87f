"""What every command that judges something shares: arguments in, exit status out, its device, figures as JSON."""

import itertools
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from jsonargparse import ArgumentError, ArgumentParser, set_parsing_settings

from shortcut_gen.errors import ShortcutGenError
from shortcut_gen.places import Place, Url, place
from shortcut_gen.remote import at_url


def run(
    parser: Callable[[], ArgumentParser], do: Callable[[dict[str, Any]], object], arguments: Sequence[str] | None
) -> int:
    """Parse, do, and return 0; 2 after one line on stderr where something cannot be, 130 where it was interrupted.

    `arguments` None takes those of the process. Options are described by attribute docstrings.
    """
    set_parsing_settings(docstring_parse_attribute_docstrings=True)
    try:
        do(parser().parse_args(None if arguments is None else list(arguments)).as_dict())
    except (ShortcutGenError, ArgumentError) as error:
        print("error:", " ".join(str(error).split()), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; nothing was written", file=sys.stderr)
        return 130
    return 0


def add_checkpoint(parser: ArgumentParser, example: str = "checkpoints/piano") -> None:
    """The argument of a checkpoint to look at."""
    parser.add_argument("checkpoint", type=place, help=f"Checkpoint folder, such as {example}, or its URL.")


def local(checkpoint: Place) -> Path:
    """The folder of a checkpoint; of one at a URL, its copy in the cache. Raises CheckpointError."""
    return at_url(checkpoint) if isinstance(checkpoint, Url) else checkpoint


def add_data(parser: ArgumentParser, purpose: str, required: bool = True) -> None:
    """The option of one corpus or several; `purpose` says what is done with several."""
    needed: dict[str, Any] = {"required": True} if required else {"default": []}
    text = f"Folder of the corpus, such as data/maestro, or its URL; of several, {purpose}."
    parser.add_argument("--data", type=place, nargs="+", action="extend", help=text, **needed)


def listed(args: Sequence[str], option: str) -> list[str]:
    """`--option 1 2 3` as the parser takes it: `--option [1,2,3]`."""
    out = list(args)
    if option in out:
        first = out.index(option) + 1
        values = list(itertools.takewhile(lambda word: not word.startswith("-"), out[first:]))
        if len(values) > 1 or (values and not values[0].startswith("[")):
            out[first : first + len(values)] = [f"[{','.join(values)}]"]
    return out


def device_of(name: str) -> str:
    """The device of that name; `auto` is a GPU where there is one."""
    if name != "auto":
        return name
    return "cuda" if torch.cuda.is_available() else "cpu"


def plain(value: Any, digits: int = 4) -> Any:
    """Figures as JSON has them: so many decimals, None for what is no number."""
    if isinstance(value, dict):
        return {name: plain(part, digits) for name, part in value.items()}
    if isinstance(value, list):
        return [plain(part, digits) for part in value]
    if isinstance(value, float):
        return round(value, digits) if math.isfinite(value) else None
    return value
