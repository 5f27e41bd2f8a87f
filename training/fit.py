"""Train a model: `python -m training.fit --config training/configs/piano.yaml [--resume auto]`."""

import sys
from collections.abc import Sequence

from training.support.memory import keep_freed_memory
from training.support.options import problem, short_help


def main(arguments: Sequence[str] | None = None) -> int:
    """Builds and trains; 0 when the budget is spent, 2 where something cannot be, 143 or 130 after a signal."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if "--help" in given or "-h" in given:
        print(short_help(str(__doc__)))
        return 0
    if wrong := problem(given):
        print(f"error: {wrong}", file=sys.stderr)
        return 2
    # Behind what can be answered at once: this imports Lightning.
    from training.run.start import run

    return run(["--help" if argument == "--help-all" else argument for argument in given])


if __name__ == "__main__":
    keep_freed_memory()
    sys.exit(main())
