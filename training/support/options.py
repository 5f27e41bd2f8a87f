"""The options of `training.fit`, read from the sources of what takes them: for a short help, and to refuse a mistyped
option before Lightning and PyTorch are imported, which takes seconds."""

import ast
import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

TRAINING = Path(__file__).resolve().parents[1]
LIBRARY = TRAINING.parent / "shortcut_gen"
WHERE: tuple[tuple[str, Path, str], ...] = (
    ("", TRAINING / "run/recipe.py", "RunConfig"),
    ("budget.", TRAINING / "run/recipe.py", "Budget"),
    ("data.", TRAINING / "run/batches.py", "CorpusDataModule"),
    ("model.config.", LIBRARY / "network/config.py", "ModelConfig"),
    ("model.optimizer.", TRAINING / "run/recipe.py", "OptimizerConfig"),
)
"""Prefix, file and class: the fields of a dataclass, or what an __init__ takes."""
OTHERS = {
    "help": "This list.",
    "help-all": "Every option with its type and default, Lightning's too.",
    "config": "A YAML file of settings; one behind another goes before it.",
    "print_config": "Print the settings that would be used.",
    "seed_everything": "Seed of weights, crops and dropout.",
    "model.trial": "A trial of training.run.trials in place of the model.",
    "trainer.": "Lightning's settings, such as --trainer.precision bf16-mixed (--help-all).",
}
LINKED = ("data.context", "data.seed")
"""Set by others, so that they agree."""


@dataclass(frozen=True)
class Option:
    """An option of the command line."""

    name: str
    default: str
    about: str


def options() -> list[Option]:
    """All options but Lightning's own, in the order of their classes."""
    found = []
    for prefix, path, name in WHERE:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        [node] = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name]
        taken = list(_fields(node)) or list(_arguments(node))
        found += [Option(prefix + each.name, each.default, each.about) for each in taken]
    return [option for option in found if option.name not in LINKED]


def _fields(node: ast.ClassDef) -> Iterator[Option]:
    """Of a dataclass; the string behind a field says what it is."""
    for place, part in enumerate(node.body):
        if isinstance(part, ast.AnnAssign) and isinstance(part.target, ast.Name):
            behind = node.body[place + 1] if place + 1 < len(node.body) else None
            value = behind.value if isinstance(behind, ast.Expr) else None
            about = str(value.value) if isinstance(value, ast.Constant) else ""
            default = ast.unparse(part.value) if part.value else ""
            yield Option(part.target.id, default, " ".join(about.split()))


def _arguments(node: ast.ClassDef) -> Iterator[Option]:
    """Of an __init__; the class's docstring says what they are, a line or more behind `name:`."""
    about: dict[str, str] = {}
    name = ""
    for line in (ast.get_docstring(node) or "").partition("Args:\n")[2].splitlines():
        if line.startswith("    ") and line[4:5].strip() and ":" in line:
            name, _, text = line.strip().partition(": ")
            about[name] = text
        elif name:
            about[name] += " " + line.strip()
    [init] = [part for part in node.body if isinstance(part, ast.FunctionDef) and part.name == "__init__"]
    given = init.args.args[1:]
    defaults = [""] * (len(given) - len(init.args.defaults)) + [ast.unparse(value) for value in init.args.defaults]
    for argument, default in zip(given, defaults, strict=True):
        yield Option(argument.arg, default, about.get(argument.arg, ""))


def short_help(description: str) -> str:
    """A screen or two: our own options, each in a line."""
    lines = [description, ""]
    for name, about in OTHERS.items():
        lines.append(f"  --{name + ('*' if name.endswith('.') else ''):<32} {about}")
    group = None
    for option in options():
        prefix = option.name.rpartition(".")[0]
        if prefix != group:
            group = prefix
            lines += ["", f"{prefix or 'the run'}:"]
        default = f" [{option.default}]" if option.default else ""
        about = option.about.split(". ")[0].rstrip(".").replace("`", "")
        lines.append(f"  --{option.name:<32} {about}{default}")
    return "\n".join(lines)


def problem(arguments: Sequence[str]) -> str:
    """What is wrong with the names of options, in a line; "" where each is known, or may be one of Lightning's."""
    known = {option.name for option in options()} | set(OTHERS)
    groups = {name[:end] for name in known for end, sign in enumerate(name) if sign == "."}
    for given in arguments:
        if not given.startswith("--") or given == "--":
            continue
        name = given[2:].split("=", 1)[0].rstrip("+")
        if name in known | groups or name.startswith("trainer.") or name.endswith(".help"):
            continue
        near = difflib.get_close_matches(name, known, 1)
        guess = f"; did you mean --{near[0]}?" if near else ""
        return f"there is no option --{name[:60]}{guess} (--help lists them)"
    return ""
