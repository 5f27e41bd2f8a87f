"""A tiny corpus, and runs of training.fit on it, for the tests of training."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from training.corpus.shards import ShardWriter, write_json
from training.fit import main
from training.run.checkpoints import LAST, read_run_checkpoint

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / "training/configs/tiny.yaml"


def write_corpus(folder: Path, pieces: dict[str, list[int]], **head: Any) -> Path:
    """Splits of pieces so many tokens long, made of a few ids that follow each other with some rule."""
    splits: dict[str, Any] = {}
    rng = np.random.default_rng(0)
    for split, lengths in pieces.items():
        with ShardWriter(folder, f"{split}/shard-00000.npy") as writer:
            for number, length in enumerate(lengths):
                ids = np.cumsum(rng.integers(1, 4, length)) % 12 + 260  # time shifts: any order of them is legal
                writer.add(f"{split}-{number}", ids.astype(np.uint16), notes=length // 4, seconds=length / 10)
            splits[split] = {"shards": [writer.close().to_dict()]}
    about = {"format": 1, "corpus": "tiny", "tokenizer": "piano", "vocab_size": 388, "licence": "CC BY-NC-SA 4.0"}
    write_json(folder / "manifest.json", {**about, "source_sha256": "0" * 64, "skipped": [], "splits": splits, **head})
    return folder


CODEC = {
    "name": "codec-tiny",
    "sample_rate": 16_000,
    "frame_rate": 50.0,
    "cardinality": 16,
    "num_codebooks": 2,
    "sha256": "0" * 64,
    "codebooks": 2,
}
"""Settings of a codec that is not there: training needs its tokens alone."""


def write_speech(folder: Path, frames: dict[str, list[int]], codec: dict[str, Any] = CODEC, **head: Any) -> Path:
    """Splits of pieces so many frames long; the codes wander, and every codebook follows the one below it."""
    splits: dict[str, Any] = {}
    rng = np.random.default_rng(1)
    levels = codec["codebooks"]
    for split, lengths in frames.items():
        with ShardWriter(folder, f"{split}/shard-00000.npy") as writer:
            for number, length in enumerate(lengths):
                coarse = np.cumsum(rng.integers(0, 3, length)) % 16
                codes = np.stack([(coarse + level * rng.integers(0, 2, length)) % 16 for level in range(levels)], 1)
                ids = (codes + 16 * np.arange(levels)).ravel()  # (F, Q)
                writer.add(f"{split}-{number}", ids.astype(np.uint16), seconds=length / codec["frame_rate"])
            splits[split] = {"shards": [writer.close().to_dict()]}
    about = {"format": 1, "corpus": "speech", "tokenizer": "speech", "vocab_size": 16 * levels, "licence": "CC BY 4.0"}
    about |= {"codec": codec, "source_sha256": "1" * 64, "skipped": []}
    write_json(folder / "manifest.json", {**about, "splits": splits, **head})
    return folder


def arguments(folder: Path, name: str = "tiny", *more: str) -> list[str]:
    """A command line: folder/data is the corpus, folder/runs holds the runs."""
    own = ["--runs", str(folder / "runs"), "--name", name, "--data.path", str(folder / "data")]
    return ["--config", str(CONFIG), *own, *more]


def train(folder: Path, name: str = "tiny", *more: str) -> dict[str, Any]:
    """Trains and returns the run's last checkpoint."""
    assert main(arguments(folder, name, *more)) == 0
    return read_run_checkpoint(folder / "runs" / name / LAST)


def differences(one: Any, other: Any, path: str = "") -> list[str]:
    """Where two nested states differ, bit for bit."""
    if isinstance(one, torch.Tensor):
        return [] if torch.equal(one, other) else [path]
    if isinstance(one, dict):
        if one.keys() != other.keys():
            return [path]
        return [line for key in one for line in differences(one[key], other[key], f"{path}/{key}")]
    if isinstance(one, list | tuple):
        pairs = enumerate(zip(one, other, strict=True))
        return [line for index, (a, b) in pairs for line in differences(a, b, f"{path}/{index}")]
    return [] if one == other else [path]
