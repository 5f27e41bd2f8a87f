"""Put a checkpoint on the Hugging Face Hub: `python -m shortcut_gen.push checkpoints/piano USER/NAME`.

`Pipeline.from_pretrained("USER/NAME")` then fetches it, with its codec where it is one for speech.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from shortcut_gen.errors import ShortcutGenError
from shortcut_gen.hub import push


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command. Returns 0, or 2 after one line on stderr."""
    parser = argparse.ArgumentParser(
        prog="python -m shortcut_gen.push", description="Put a checkpoint, and its codec, on the Hugging Face Hub."
    )
    parser.add_argument("folder", type=Path, help="of the checkpoint, such as checkpoints/piano")
    parser.add_argument("address", metavar="USER/NAME", help="the repository, which is made if need be")
    parser.add_argument("--private", action="store_true", help="where it is made, let nobody else see it")
    parser.add_argument("--message", help="of the commit")
    given = parser.parse_args(argv)
    try:
        print(push(given.folder, given.address, private=given.private, message=given.message))
    except ShortcutGenError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
