"""Batch generation: `python -m shortcut_gen.generate PROMPT... --out DIR`.

For each variation of each prompt a MIDI file and a WAV file, or for speech a WAV file alone, and one line in
DIR/manifest.jsonl. A file's name holds a hash of all that decides its sound (prompt, settings, checkpoint), so a run
never overwrites the result of another, and the same command run again does only what is missing.
"""

import sys
from collections.abc import Sequence

from shortcut_gen.batch.run import Batch
from shortcut_gen.batch.settings import arguments
from shortcut_gen.errors import ShortcutGenError


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command. Returns 0, 1 if a prompt failed, 2 if the run could not start or go on, 130 if interrupted."""
    batch = None
    try:
        prompts, settings = arguments(argv)
        batch = Batch(settings)
        batch.run(prompts)
    except ShortcutGenError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"interrupted, {batch.done if batch else 0} made; run it again to go on", file=sys.stderr)
        return 130
    print(f"{batch.done} made, {batch.skipped} there already, {batch.failed} failed: {settings.out}", file=sys.stderr)
    return 1 if batch.failed else 0


if __name__ == "__main__":
    sys.exit(main())
