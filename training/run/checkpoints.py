"""A run's checkpoints on disk: where they lie and how they are read, with nothing unpickled but plain values."""

import pickle
from pathlib import Path
from typing import Any

import torch

from shortcut_gen.errors import CheckpointError
from shortcut_gen.network.model import ShortcutLM
from training.run.trials import build, read_config

LAST = "checkpoints/last.ckpt"
"""The newest state of a run, inside its folder: what resuming goes on from."""
BEST = "checkpoints/best.ckpt"
"""The weights of its lowest validation loss."""


def read_run_checkpoint(path: Path) -> dict[str, Any]:
    """A run's .ckpt file, with tensors and plain values alone. Raises CheckpointError."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: no such file; a run's .ckpt file is needed") from error
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError) as error:
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
