"""The process that reads damaged inputs: `python -m benchmarks.fuzzing.child INPUTS WORK SEED GIB`.

A line `KIND NUMBER` on standard input is one case, answered by a line of JSON: what became of it. The same seed, kind
and number give the same input. Whoever asks takes the time, and notices where this process ends.
"""

import faulthandler
import json
import logging
import os
import random
import resource
import shutil
import sys
import traceback
from pathlib import Path
from typing import Any

import torch

from benchmarks.fuzzing.kinds import KINDS
from shortcut_gen.errors import ShortcutGenError

LINE = 700
"""Characters that the line on a bad input may have."""


def write_case(inputs: Path, work: Path, seed: int, name: str, number: int) -> Path:
    """The damaged input of a case, as a file or a folder in `work`."""
    chance = random.Random(f"{seed} {name} {number}")
    roots = sorted((inputs / name).iterdir())
    root, second = chance.choice(roots), chance.choice(roots)
    made = work / root.name
    if root.is_dir():
        shutil.copytree(root, made)
    else:
        shutil.copyfile(root, made)
    files = sorted(path for path in made.rglob("*") if path.is_file()) if made.is_dir() else [made]
    weights = [1 if path.suffix == ".npy" else 3 for path in files]
    path = chance.choices(files, weights)[0]
    other = second if second.is_file() else path
    path.write_bytes(KINDS[name].damage(path.name, path.read_bytes(), other.read_bytes(), chance))
    hide = KINDS[name].hide
    if hide is not None and chance.random() < 0.5:
        hide(made)
    return made


def outcome(name: str, path: Path) -> dict[str, Any]:
    """What reading an input comes to: read, refused in a line, or a fault and what it was."""
    try:
        KINDS[name].read(path)
    except ShortcutGenError as error:
        text = str(error)
        if "\n" in text or len(text) > LINE or not text.strip():
            return {"outcome": "fault", "what": f"not one line: {text[:200]!r}"}
        return {"outcome": "refused"}
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(last.filename).name}:{last.lineno}"
        kind = "memory" if isinstance(error, MemoryError) else "traceback"
        return {"outcome": "fault", "what": f"{kind}: {type(error).__name__} at {where}: {str(error)[:160]}"}
    return {"outcome": "read"}


def main(inputs: Path, work: Path, seed: int, gib: float) -> None:
    """Answer cases until standard input ends."""
    faulthandler.enable()
    logging.disable()
    torch.set_num_threads(1)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints is not an answer
    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limit = mapped + int(gib * 2**30)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        name, number = line.split()
        path = write_case(inputs, work, seed, name, int(number))
        print(json.dumps(outcome(name, path)), file=answers, flush=True)
        shutil.rmtree(path) if path.is_dir() else path.unlink()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]))
