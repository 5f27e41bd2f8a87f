"""`shortcut-gen COMMAND ...`: every command of the project by its name, from any folder."""

import importlib
import runpy
import sys
from collections.abc import Sequence

import shortcut_gen

COMMANDS = {
    "demo": ("ui", "serve the page"),
    "generate": ("shortcut_gen.generate", "continue prompts, a batch at a time"),
    "push": ("shortcut_gen.push", "put a checkpoint on the Hugging Face Hub"),
    "copies": ("shortcut_gen.copies", "look for runs of notes that training performances have too"),
}
EXTRAS = {"gradio": "ui", "matplotlib": "train", "lightning": "train", "tensorboard": "train", "pesq": "eval"}
"""Which extra brings a package that may be missing."""


def _training() -> dict[str, tuple[str, str]]:
    """The commands of training, as `python -m training` lists them; none where it is not installed."""
    try:
        listed = importlib.import_module("training.__main__").commands()
    except ModuleNotFoundError:
        return {}
    return {name: (f"training.{name}", about) for name, about in listed.items()}


def usage(commands: dict[str, tuple[str, str]]) -> str:
    """What there is, in a line each."""
    lines = [f"  {name:<18}{said}" for name, (_, said) in commands.items()]
    return "\n".join(["usage: shortcut-gen COMMAND ...", "", *lines, "", "shortcut-gen COMMAND --help says more."])


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command. Returns its exit code; 2 where there is none of that name."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    commands = COMMANDS | _training()
    if given[:1] == ["--version"]:
        print(shortcut_gen.__version__)
        return 0
    if not given or given[0] in ("-h", "--help"):
        print(usage(commands), file=sys.stdout if given else sys.stderr)
        return 0 if given else 2
    name, rest = given[0], given[1:]
    if name not in commands:
        print(f"error: there is no command {name!r}; one of {', '.join(commands)} is needed", file=sys.stderr)
        return 2
    module = commands[name][0]
    sys.argv = [f"shortcut-gen {name}", *rest]
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except ModuleNotFoundError as error:
        package = (error.name or "").split(".")[0]
        if package not in EXTRAS:
            raise
        print(f"error: {name} needs {package}: pip install 'shortcut-gen[{EXTRAS[package]}]'", file=sys.stderr)
        return 2
    except SystemExit as ended:
        if ended.code is None or isinstance(ended.code, int):
            return ended.code or 0
        raise
    return 0


if __name__ == "__main__":
    sys.exit(main())
