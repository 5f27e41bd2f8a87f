"""How fast the arms train: steps of every arm in turn in one process, so that all meet the machine alike.

On a CPU a second is one of processor time for each of the threads, so that other work on the machine does not count:
the wall clock's second where the machine is idle. On a GPU it is the wall clock's.
"""

import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from shortcut_gen.errors import SettingsError
from training.corpus.shards import write_json
from training.experiment.arms import model_of
from training.experiment.grid import GridConfig, GridCorpus, corpora_of
from training.experiment.kept import SPEEDS_KEY
from training.run.recipe import OptimizerConfig
from training.run.task import LanguageModelTask
from training.support.machine import machine

SPEEDS = "speed.json"


def measure(grid: GridConfig, rounds: int = 7, steps: int = 1) -> None:
    """Time every arm of every corpus, print the figures and write them into the grid's folder."""
    if min(rounds, steps) < 1:
        raise SettingsError(f"rounds is {rounds} and steps {steps}; whole numbers of at least 1 are needed")
    torch.set_num_threads(grid.threads)
    path = grid.out / SPEEDS
    grid.out.mkdir(parents=True, exist_ok=True)
    for corpus in corpora_of(grid):
        speeds = {arm: _figures(times) for arm, times in _rounds(corpus, rounds, steps).items()}
        for arm, entry in speeds.items():
            line = f"{entry['tokens_per_second']:>12,.0f} tokens/s ± {entry['spread']:.0%}"
            print(f"{corpus.name:20}{arm:26}{line}", flush=True)
        about = machine() | {"jobs": 1}
        entry = {"corpus": corpus.name, "base": corpus.base.to_dict(), "precision": corpus.precision}
        others = [  # those of another machine are to be taken again
            other
            for other in measured(path)
            if other.get("machine") == about and {key: other.get(key) for key in entry} != entry
        ]
        write_json(path, {"measured": [*others, entry | {"machine": about, SPEEDS_KEY: speeds}]})


def _figures(speeds: list[float]) -> dict[str, Any]:
    """Median tokens per second and the half-range relative to it."""
    median = statistics.median(speeds)
    return {
        "tokens_per_second": round(median, 1),
        "spread": round((max(speeds) - min(speeds)) / 2 / median, 4),
        "rounds": len(speeds),
    }


def _rounds(corpus: GridCorpus, rounds: int, steps: int) -> dict[str, list[float]]:
    """Tokens per second of every arm in every round; each second round runs the arms the other way round."""
    step_of = {arm: _trainer(corpus, arm) for arm in corpus.grid.arms}
    speeds: dict[str, list[float]] = {arm: [] for arm in step_of}
    tokens = steps * corpus.settings["data"]["batch_size"] * corpus.length
    for number in range(rounds + 1):
        arms = list(step_of)
        for arm in arms if number % 2 else reversed(arms):
            began = _clock()
            for _ in range(steps):
                step_of[arm]()
            if number:  # the first round warms up
                speeds[arm].append(tokens / (_clock() - began))
    return speeds


def _clock() -> float:
    """Seconds, as the module has them."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time() / torch.get_num_threads()


def _trainer(corpus: GridCorpus, arm: str) -> Callable[[], None]:
    """A training step of an arm as training.fit makes it: forward, backward, clipping, optimiser.

    The ids are random: how long a step takes does not depend on which they are.
    """
    settings = corpus.settings
    precision = corpus.precision
    if precision not in ("32-true", "32", "bf16-mixed"):
        raise SettingsError(f"trainer.precision is {precision}; 32-true or bf16-mixed is needed")
    gpu = torch.cuda.is_available() and settings["trainer"]["accelerator"] != "cpu"
    device = torch.device("cuda" if gpu else "cpu")
    task = LanguageModelTask(model_of(arm, corpus.base), OptimizerConfig(**settings["model"]["optimizer"]))
    model = task.model.to(device).train()
    optimizer = task.configure_optimizers()
    shape = (settings["data"]["batch_size"], corpus.length + 1)
    ids = torch.randint(0, corpus.base.vocab_size, shape, device=device)  # (B, T + 1)

    def step() -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16-mixed"):
            loss = F.cross_entropy(model(ids[:, :-1]).flatten(0, 1).float(), ids[:, 1:].flatten())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), settings["trainer"]["gradient_clip_val"] or float("inf"))
        optimizer.step()

    return step


def measured(path: Path) -> list[dict[str, Any]]:
    """The speeds in a file that `measure` wrote; none where it cannot be read."""
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))["measured"]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    return [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []
