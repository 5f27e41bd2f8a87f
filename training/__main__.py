"""Lists the commands: `python -m training`."""

import ast
from pathlib import Path


def commands() -> dict[str, str]:
    """The commands beside this file, by name, with the first sentence of each one's docstring.

    They are read, not imported: a list should not wait for PyTorch.
    """
    found = {}
    for path in sorted(Path(__file__).parent.glob("[!_]*.py")):
        about = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        found[path.stem] = about.split("\n\n")[0].split(": `")[0].replace("\n", " ")
    return found


def main() -> None:
    """Prints them."""
    listed = commands()
    width = max(map(len, listed))
    print("Commands; each has --help:\n")
    for name, about in listed.items():
        print(f"  python -m training.{name:{width}}  {about}")


if __name__ == "__main__":
    main()
