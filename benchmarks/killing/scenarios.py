"""What is killed: training, preparing and generating, each tiny, and how two results of one are compared."""

import hashlib
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from shortcut_gen.checkpoint import CheckpointInfo, save_checkpoint
from shortcut_gen.media import Note, Score
from shortcut_gen.media.types import midi_bytes
from shortcut_gen.network.config import ModelConfig
from shortcut_gen.network.model import ShortcutLM
from training.corpus.scores import MidiFolderSource
from training.prepare import prepare
from training.run.checkpoints import BEST, LAST, read_run_checkpoint

CONFIG = Path(__file__).resolve().parents[2] / "training/configs/tiny.yaml"
RUN = "run"
"""Name of the run that is trained; it lies in the folder of results."""


@dataclass(frozen=True)
class Scenario:
    """A command that can be stopped and goes on when it is run again."""

    modules: tuple[str, ...]
    """That of its `main`, then what else it imports later."""
    arguments: Callable[[Path, Path], list[str]]
    """Its command line, of the folder of inputs and that of results. The same one goes on with what was cut off."""
    result: Callable[[Path], dict[str, str]]
    """Of a folder of results: a hash of each file, or of each part of the weights."""
    aside: Callable[[Path], str] = lambda _: ""
    """A hash of what a kill may change; how often it did is told."""


def files_of(folder: Path) -> dict[str, str]:
    """A hash of each file, those left over included."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def parts_of(folder: Path) -> Iterator[Path]:
    """Files that are being written just now, each to be moved to its place when it is whole."""
    yield from folder.rglob("*.part")


def weights_of(folder: Path) -> dict[str, str]:
    """A hash of each part of a run's last checkpoint, and what was left over."""
    last = read_run_checkpoint(folder / RUN / LAST)
    parts = {name: last[name] for name in ("state_dict", "optimizer_states", "global_step")}
    hashes = {}
    for name, value in parts.items():
        digest = hashlib.sha256()
        _hash(value, digest)
        hashes[name] = digest.hexdigest()
    return hashes | {path.relative_to(folder).as_posix(): "left over" for path in parts_of(folder)}


def best_of(folder: Path) -> str:
    """A hash of the weights of a run's best checkpoint; "" where there is none."""
    digest = hashlib.sha256()
    if (folder / RUN / BEST).exists():
        _hash(read_run_checkpoint(folder / RUN / BEST)["state_dict"], digest)
    return digest.hexdigest()


def _hash(value: Any, digest: Any) -> None:
    """Every bit of a nested state."""
    if isinstance(value, torch.Tensor):
        digest.update(f"{value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    elif isinstance(value, dict):
        for key in value:
            digest.update(f"{{{key}".encode())
            _hash(value[key], digest)
    elif isinstance(value, list | tuple):
        digest.update(f"[{len(value)}".encode())
        for part in value:
            _hash(part, digest)
    else:
        digest.update(repr(value).encode())


def _training(inputs: Path, out: Path) -> list[str]:
    options = ["--config", str(CONFIG), "--runs", str(out), "--name", RUN, "--data.path", str(inputs / "corpus")]
    return [*options, "--budget.steps", "40", "--save_every", "2", "--report_every", "1", "--resume", "auto"]


def _prepare(inputs: Path, out: Path) -> list[str]:
    return ["midi-folder", "--source", str(inputs / "midi"), "--out", str(out), "--workers", "1"]


def _generate(inputs: Path, out: Path) -> list[str]:
    options = ["--checkpoint", str(inputs / "model"), "--out", str(out), "--midi-only", "--seconds", "5"]
    return [str(inputs / "prompts"), *options, "--variations", "8", "--batch-size", "4", "--engine", "torch"]


SCENARIOS = {
    "training": Scenario(("training.fit", "training.run.start"), _training, weights_of, best_of),
    "prepare": Scenario(("training.prepare",), _prepare, files_of),
    "generate": Scenario(("shortcut_gen.generate",), _generate, files_of),
}
"""Every command that is killed."""


def make_inputs(folder: Path, pieces: int = 400, prompts: int = 10) -> None:
    """Music by chance, a corpus of it, and a model with random weights; the same at every call."""
    midi, few = folder / "midi", folder / "prompts"
    for place in (midi, few):
        place.mkdir(parents=True)
    chance = random.Random(0)
    for number in range(pieces):
        data = midi_bytes(_score(chance))
        (midi / f"{number:04}.mid").write_bytes(data)
        if number < prompts:
            (few / f"{number:04}.mid").write_bytes(data)
    source = MidiFolderSource(midi, corpus="chance", licence="none", seed=0, validation=0.1, test=0.1)
    prepare(source, folder / "corpus", workers=1)
    shape: dict[str, Any] = {"context": 64, "layers": 4, "width": 16, "heads": 2, "feedforward": 32, "taps": (1, 2)}
    config = ModelConfig(vocab_size=388, feature_hidden=16, shortcut_heads=2, **shape)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        info = CheckpointInfo(model=config, tokenizer="piano")
        save_checkpoint(folder / "model", ShortcutLM(config), info)


def _score(chance: random.Random) -> Score:
    """A hundred notes or so."""
    notes, start = [], 0.0
    for _ in range(chance.randrange(60, 140)):
        start += chance.randrange(1, 40) / 100
        length, pitch = chance.randrange(5, 100) / 100, chance.randrange(30, 90)
        notes.append(Note(start=start, end=start + length, pitch=pitch, velocity=chance.randrange(20, 110)))
    return Score(notes=tuple(notes))
