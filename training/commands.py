"""The end of every command that judges something: arguments in, exit status out, one line for what cannot be."""

import sys
from collections.abc import Callable, Sequence
from typing import Any

from jsonargparse import ArgumentError, ArgumentParser, set_parsing_settings

from shortcut_gen.errors import ShortcutGenError


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
