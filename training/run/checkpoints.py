"""A run's checkpoints on disk: where they lie and how they are read, with nothing unpickled but plain values."""

import contextlib
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch

from shortcut_gen.errors import CheckpointError
from shortcut_gen.network.model import ShortcutLM
from training.run.trials import build, read_config

LAST = "checkpoints/last.ckpt"
"""The newest state of a run, inside its folder: what resuming goes on from."""
PREVIOUS = "checkpoints/previous.ckpt"
"""The one before it, for the day on which the newest turns out to be damaged."""
BEST = "checkpoints/best.ckpt"
"""The weights of its lowest validation loss."""


def put_in_place(part: Path, path: Path) -> None:
    """Move a finished checkpoint to its place; where that is LAST's, the one before becomes PREVIOUS.

    There is a whole newest one at every moment. Raises OSError.
    """
    with part.open("rb") as file:
        os.fsync(file.fileno())
    if path.name == Path(LAST).name and path.exists():
        link = path.with_suffix(".link")
        link.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # a file system without links keeps one checkpoint
            os.link(path, link)
            link.replace(path.parent / Path(PREVIOUS).name)
    part.replace(path)


def newest(folder: Path) -> tuple[Path, dict[str, Any]] | None:
    """The newest checkpoint of a run that can be read, and its state; None where there is none yet.

    Raises CheckpointError where there are some and none can be read.
    """
    problem: CheckpointError | None = None
    for path in (folder / LAST, folder / PREVIOUS):
        if not path.exists():
            continue
        try:
            state = read_run_checkpoint(path)
        except CheckpointError as error:
            problem = problem or error
            continue
        if problem:
            print(f"note: {problem}; going on from the one before, {path.name}", flush=True)
        return path, state
    if problem:
        raise problem
    return None


def read_run_checkpoint(path: Path) -> dict[str, Any]:
    """A run's .ckpt file, with tensors and plain values alone, every byte checked. Raises CheckpointError."""
    try:
        with zipfile.ZipFile(path) as archive:
            if archive.testzip() is not None:
                raise zipfile.BadZipFile
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: no such file; a run's .ckpt file is needed") from error
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError, zipfile.BadZipFile) as error:
        raise CheckpointError(f"{path}: cannot be read as a run's checkpoint, perhaps cut short") from error
    if not isinstance(state, dict) or "run" not in state or "state_dict" not in state:
        raise CheckpointError(f"{path}: not a checkpoint of training.fit")
    return state


def model_of_run(path: Path, state: dict[str, Any]) -> ShortcutLM:
    """The language model of a state read from `path`, with the mean weights if it has some. Raises CheckpointError."""
    model = build(read_config(state["run"]["model"]))
    weights = {name.removeprefix("model."): value for name, value in state["state_dict"].items()}
    weights.update(state.get("mean_weights", {}))
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise CheckpointError(f"{path}: its weights do not fit its model: {str(error).splitlines()[-1]}") from error
    return model
